"""Which columns of a `datasets.Dataset` to read: by name, and where no name helps, by type."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from seqssvae.data.rows import (
    ID_NAME,
    LABEL_NAMES,
    SEQUENCE_NAMES,
    Columns,
    choose_columns,
)

if TYPE_CHECKING:
    import datasets

__all__ = ["class_names", "dataset_columns"]


def dataset_columns(
    dataset: "datasets.Dataset",
    where: str,
    *,
    text_column: str | None,
    tokens_column: str | None,
    label_column: str | None,
    read_labels: bool,
) -> Columns:
    """Find the columns that are named, or have a usual name, or are the only ones of their type.

    A string is a text and a list of strings is tokens, whatever the column's name; without a usual
    name the only column of strings is the text, else the only one of lists of strings the tokens.
    The label is the column with a usual name, else the only `ClassLabel`.

    Args:
        dataset: Its features are read, no row is.
        where: Put before an error.
        text_column: As in `choose_columns`, and so are the rest.
        tokens_column: See `text_column`.
        label_column: See `text_column`.
        read_labels: See `text_column`.

    Raises:
        InputError: as `choose_columns`.
    """
    import datasets

    names, features = dataset.column_names, dataset.features
    if read_labels and label_column is None and not set(LABEL_NAMES) & set(names):
        label_column = _only(n for n in names if isinstance(features[n], datasets.ClassLabel))
    if text_column is None and tokens_column is None:
        taken = {label_column, ID_NAME, *LABEL_NAMES}
        usual = next((name for name in SEQUENCE_NAMES if name in names), None)
        found = [name for name in names if name not in taken] if usual is None else [usual]
        text_column = _only(name for name in found if _is_string(features[name]))
        if text_column is None:
            lists = (n for n in found if _is_string(getattr(features[n], "feature", None)))
            tokens_column = _only(lists)
    return choose_columns(
        names,
        where,
        text_column=text_column,
        tokens_column=tokens_column,
        label_column=label_column,
        read_labels=read_labels,
    )


def class_names(features: Any, column: str | None) -> tuple[str, ...] | None:
    """Names of a column of `ClassLabel`, or of lists of them; None for any other column."""
    # a tuple: `from_generator` takes a list among its arguments for shards, and cuts it up
    import datasets

    feature = None if column is None else features[column]
    feature = getattr(feature, "feature", feature)  # of a list
    return tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else None


def _is_string(feature: Any) -> bool:
    return getattr(feature, "dtype", None) in ("string", "large_string")


def _only(names: Iterable[str]) -> str | None:
    """The name, if it is the only one."""
    found = list(names)
    return found[0] if len(found) == 1 else None
