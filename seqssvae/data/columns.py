"""Choice of the columns of sequences, labels and ids; tables as data sets, which have them."""

import csv
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seqssvae.data.rows import RowChecker, is_missing, list_names, name_of
from seqssvae.data.tables import is_table
from seqssvae.errors import InputError
from seqssvae.storage.files import line_of

if TYPE_CHECKING:
    import datasets

TEXT_NAMES = ("text", "sentence", "content", "sequence", "smiles")
TOKENS_NAME = "tokens"
SEQUENCE_NAMES = (TEXT_NAMES[0], TOKENS_NAME, *TEXT_NAMES[1:])  # the first that is there is used
LABEL_NAMES = ("label", "labels", "class", "category")
ID_NAMES = ("id",)
TREE_NAMES = ("child", "parent")  # of --label-tree
VOTES_FLAG = "--vote-columns"
FLAGS = {name: f"--{name}-column" for name in ("text", "tokens", "label", "vectors")}


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns that rows are read from.

    Attributes:
        sequence: Column of texts or tokens.
        is_tokens: Whether it holds lists of tokens.
        label: Column of labels; None if there is none or several, or labels are not read.
        id: Column of ids; None if there is none.
        labels: Several columns of labels by the names that the user gave them; None for one that is
            not there.
        vectors: Column of vectors; None if none are read.
        votes: Column of each voter; None for one that is not there.
    """

    sequence: str
    is_tokens: bool
    label: str | None
    id: str | None
    labels: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    vectors: str | None = None
    votes: tuple[str | None, ...] = ()

    @property
    def used(self) -> list[str]:
        """Names of the columns."""
        names = (self.sequence, *self.label_names, self.id, self.vectors, *self.votes)
        return [name for name in names if name is not None]

    @property
    def label_names(self) -> tuple[str | None, ...]:
        """The column of labels, or the several ones."""
        return tuple(self.labels.values()) if self.labels else (self.label,)

    def checker(self, source: object) -> RowChecker:
        """What checks the rows of a source that has these columns."""
        is_ids = any(_is(name, self.sequence) for name in (*ID_NAMES, TREE_NAMES[0]))
        return RowChecker(
            source, is_tokens=self.is_tokens, is_ids=is_ids, label_columns=tuple(self.labels)
        )


@dataclasses.dataclass(frozen=True)
class ColumnChoice:
    """Columns that the user named; others are chosen by usual names.

    Case and surrounding spaces of a name do not count, unless two columns differ by them alone.

    Attributes:
        text: Column of texts; by default `text`, `sentence`, `content`, `sequence` or `smiles`.
        tokens: Column of tokens, instead of texts; by default `tokens`, if there is no `text`.
        label: Column of labels; by default `label`, `labels`, `class` or `category`, if any.
            Several have commas between, see `label_columns`.
        read_labels: False leaves all rows unlabelled.
        quotes: "auto", "always" or "never", see `data.quotes`.
        pattern: Regular expression of the label in the header of a FASTA record; its first group,
            if it has one.
        encoding: Of files of text, as Python names it.
        vectors: Column of vectors; none are read by default.
        votes: Columns of voters, with commas between; none are read by default.
        votes_may_miss: Whether the columns of voters may be absent.
        labels_may_miss: Whether the named columns of labels may be absent.
    """

    text: str | None = None
    tokens: str | None = None
    label: str | None = None
    read_labels: bool = True
    quotes: str = "auto"
    pattern: str | None = None
    encoding: str = "utf-8"
    vectors: str | None = None
    votes: str | None = None
    votes_may_miss: bool = False
    labels_may_miss: bool = False

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Several columns of labels, that the user named; none where there is one."""
        names = split_names(self.label) if self.read_labels and self.label else ()
        return names if len(names) > 1 else ()

    @property
    def voters(self) -> tuple[str, ...]:
        """Names of voters."""
        return voters_of(self.votes)

    @property
    def more(self) -> list[str]:
        """Which of the columns `vector` and `votes` a table of the rows has."""
        has = {"vector": self.vectors is not None, "votes": bool(self.votes)}
        return [name for name, is_there in has.items() if is_there]

    def of_names(self, names: Sequence[str], where: str) -> Columns:
        """Choose columns by name.

        Args:
            names: All columns.
            where: File and row, for errors.

        Raises:
            InputError: a named column is absent, no column holds sequences, or two columns have the
                same name.
        """
        if self.text is not None and self.tokens is not None:
            raise InputError(f"{where}: wanted a text column or a tokens column, got both")
        labels = self.labels_of(names, where)
        needs_labels = self.read_labels and not self.labels_may_miss and not any(labels.values())
        for kind, flag in FLAGS.items():
            name = getattr(self, kind)
            if name is None or (kind == "label" and not needs_labels):
                continue
            if kind == "label":
                name = split_names(name)[0]
            if _find([name], names, where) is None:
                is_fixed = name in (*ID_NAMES, *TREE_NAMES)  # of --labels, of --label-tree
                hint = "" if is_fixed else f"; {flag} names another one"
                got = f"got {list_names(names)}{hint}"
                raise InputError(f"{where}: wanted a column {name!r}, {got}")
        named = self.text if self.tokens is None else self.tokens
        sequence = _find(SEQUENCE_NAMES if named is None else [named], names, where)
        if sequence is None:
            raise InputError(
                f"{where}: wanted a column 'text' or 'tokens' (or another one that is named by "
                f"{FLAGS['text']} or {FLAGS['tokens']}), got {list_names(names)}"
            )
        is_tokens = self.tokens is not None or (self.text is None and _is(TOKENS_NAME, sequence))
        label = self.label_of(names, sequence, where)
        vectors = None if self.vectors is None else _find([self.vectors], names, where)
        votes = self._votes_of(names, where)
        id = id_of(names, (sequence, label, vectors, *labels.values(), *votes), where)
        columns = Columns(sequence, is_tokens, label, id, labels, vectors, votes)
        if twice := {sequence, label, vectors, *labels.values()} & set(filter(None, votes)):
            wanted = f"columns of votes beside {list_names(list(map(str, twice)))}"
            raise InputError(f"{where}: wanted {wanted}, got {self.votes!r} ({VOTES_FLAG})")
        for name in columns.used:
            if names.count(name) > 1:
                raise InputError(f"{where}: wanted one column {name!r}, got {names.count(name)}")
        return columns

    def label_of(self, names: Sequence[str], sequence: str, where: str) -> str | None:
        """The column of labels; None without one, with several, or if labels are not read.

        Args:
            names: All columns.
            sequence: The column of sequences, which is no usual column of labels.
            where: File and row, for errors.

        Raises:
            InputError: two columns have a name that differs by case and space alone.
        """
        if not self.read_labels or self.label_columns:
            return None
        if self.label is not None:
            return _find(split_names(self.label), names, where)
        return _find(LABEL_NAMES, [name for name in names if name != sequence], where)

    def labels_of(self, names: Sequence[str], where: str) -> dict[str, str | None]:
        """The columns of `Columns.labels`; arguments and errors as of `label_of`."""
        return {name: _find([name], names, where) for name in self.label_columns}

    def _votes_of(self, names: Sequence[str], where: str) -> tuple[str | None, ...]:
        """The columns of voters, which are no columns of labels."""
        found = []
        for name in self.voters:
            column = _find([name], names, where)
            if column is None and not self.votes_may_miss:
                wanted, hint = f"a column {name!r}", f"; {VOTES_FLAG} names other ones"
                raise InputError(f"{where}: wanted {wanted}, got {list_names(names)}{hint}")
            found.append(column)
        return tuple(found)

    def of_dataset(self, dataset: "datasets.Dataset", where: str) -> Columns:
        """Choose columns by name, or the only ones of their type.

        A string is a text and a list of strings is tokens, under any column name; without a
        usual name the only column of strings is the text, else the only one of lists of strings
        the tokens. The label is the column with a usual name, else the only `ClassLabel`.

        Args:
            dataset: Only its features are read.
            where: Name of the data set, for errors.

        Raises:
            InputError: as `of_names`.
        """
        import datasets

        names, features = dataset.column_names, dataset.features
        text, tokens, label = self.text, self.tokens, self.label
        if self.read_labels and label is None and not _find(LABEL_NAMES, names, where):
            label = _only(n for n in names if isinstance(features[n], datasets.ClassLabel))
        if text is None and tokens is None:
            usual = _find(SEQUENCE_NAMES, names, where)
            used = [*LABEL_NAMES, *ID_NAMES, *([] if label is None else [label])]
            others = {name for name in names if not any(_is(one, name) for one in used)}
            candidates = others if usual is None else {usual}
            text = _only(name for name in candidates if _is_string(features[name]))
            if text is None:
                of_lists = {name: getattr(features[name], "feature", None) for name in candidates}
                tokens = _only(name for name in of_lists if _is_string(of_lists[name]))
        choice = dataclasses.replace(self, text=text, tokens=tokens, label=label)
        return choice.of_names(names, where)


def split_names(names: str, flag: str = FLAGS["label"]) -> tuple[str, ...]:
    """Names with commas between; one with a comma in it is in double quotes.

    Raises:
        InputError: several of which one is empty, twice there, or has an equals sign.
    """
    if "," not in names:
        return (names,)
    listed = tuple(name.strip() for name in next(csv.reader([names], skipinitialspace=True)))
    has_other = not all(listed) or any("=" in name for name in listed)
    if len(listed) > 1 and (has_other or len(set(map(_plain, listed))) < len(listed)):
        wanted = "different names of columns, without =, with commas between"
        raise InputError(f"{flag}: wanted {wanted}, got {names!r:.80}")
    return listed


def voters_of(names: str | None) -> tuple[str, ...]:
    """The voters that a setting names; see `split_names`."""
    return split_names(names, VOTES_FLAG) if names else ()


def has_sequences(names: Sequence[str]) -> bool:
    """Whether one of these columns has a usual name of sequences."""
    return any(_is(name, usual) for name in names for usual in SEQUENCE_NAMES)


def id_of(names: Sequence[str], used: Iterable[str | None], where: str) -> str | None:
    """The column of ids, which is none of those in `used`; None without one."""
    return _find(ID_NAMES, [name for name in names if name not in used], where)


def dataset_of(value: Any) -> "datasets.Dataset":
    """A table as a data set; any other value as it is.

    Raises:
        InputError: a column has values of several types that are no labels, lists and soft labels.
    """
    if not is_table(value):
        return value
    import datasets
    import pyarrow

    try:
        table = pyarrow.table(value)
    except pyarrow.ArrowException:  # pandas takes values of any types
        value = value.copy()
        for name in value.columns:
            kinds = set(map(type, value[name].dropna()))
            if len(kinds) > 1 and kinds & {dict, list}:
                value[name] = value[name].map(_as_soft_label)
        try:
            table = pyarrow.table(value)
        except pyarrow.ArrowException as error:
            wanted = "dataset: wanted values of one type in each column"
            raise InputError(f"{wanted}, got: {line_of(error)}") from error
    table = table.replace_schema_metadata(None)
    plain = [
        field.with_type(pyarrow.string()) if pyarrow.types.is_string_view(field.type) else field
        for field in table.schema  # polars has views, which `datasets` does not read
    ]
    return datasets.Dataset(table.cast(pyarrow.schema(plain)))


def _as_soft_label(value: Any) -> Any:
    """A label, or a list of them, as a mapping to equal probabilities; others as they are."""
    if is_missing(value) or value == []:
        return None
    names = [name_of(one) for one in (value if isinstance(value, list) else [value])]
    is_label = not isinstance(value, Mapping) and None not in names
    return dict.fromkeys(names, 1 / len(set(names))) if is_label else value


def class_names(dataset: "datasets.Dataset", column: str | None) -> tuple[str, ...] | None:
    """Names of a column of `ClassLabel`, or of lists of them; None for any other column."""
    import datasets

    feature = None if column is None else dataset.features[column]
    feature = getattr(feature, "feature", feature)  # of a list
    return tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else None


def _is(name: str, column: str) -> bool:
    """Whether names are equal but for case, surrounding space and a byte order mark."""
    return _plain(name) == _plain(column)


def _plain(name: str) -> str:
    return name.replace("\ufeff", "").strip().casefold()


def _find(wanted: Iterable[str], names: Sequence[str], where: str) -> str | None:
    """The first wanted column that is there, under the name it has."""
    for name in wanted:
        alike = [name] if name in names else [column for column in names if _is(name, column)]
        if len(set(alike)) > 1:
            raise InputError(f"{where}: wanted one column {name!r}, got {list_names(alike)}")
        if alike:
            return alike[0]
    return None


def _is_string(feature: object) -> bool:
    return getattr(feature, "dtype", None) in ("string", "large_string")


def _only(names: Iterable[str]) -> str | None:
    """The name, if there is exactly one."""
    listed = list(names)
    return listed[0] if len(listed) == 1 else None
