"""A model applied to any number of rows in batches: tables of results in the order of the rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqssvae import progress
from seqssvae.data.batches import Batch, evaluation_batches
from seqssvae.data.encoded import EncodedRows
from seqssvae.errors import InputError
from seqssvae.inference.classify import classify
from seqssvae.inference.latent import encode_z
from seqssvae.model.ssvae import SSVAE

if TYPE_CHECKING:
    import datasets

BATCH_SIZE = 256
MAX_ROWS, NUM_SYMBOLS = 4096, 2**14  # of a batch that is classified


def classify_table(
    model: SSVAE,
    rows: EncodedRows,
    *,
    mode: str = "q",
    weights: tuple[float, float] = (1.0, 1.0),
    num_samples: int = 0,
    seed: int = 0,
    batch_size: int = MAX_ROWS,
) -> NDArray[np.float64]:
    """Probabilities of every label for every row, `[n, K]`; arguments as of `classify`."""
    table = np.zeros((len(rows), model.num_classes))
    batches = _batches(model, rows, batch_size, "rows classified", num_symbols=NUM_SYMBOLS)
    for indices, batch in batches:
        generator = torch.Generator().manual_seed(seed)
        probabilities = classify(
            model,
            batch,
            mode=mode,
            weights=weights,
            num_samples=num_samples,
            generator=generator,
        )
        table[indices] = probabilities.cpu().double().numpy()
    return table


def encode_table(
    model: SSVAE,
    rows: EncodedRows,
    *,
    weights: tuple[float, float] = (1.0, 1.0),
    batch_size: int = BATCH_SIZE,
) -> dict[str, NDArray[np.floating]]:
    """`loc` and `scale` of q(z | x, y) at the likeliest y, `[n, Z]`, and `probabilities`.

    `weights` are those of `classify`.
    """
    sizes = {"loc": model.latent_size, "scale": model.latent_size}
    sizes["probabilities"] = num_classes = model.num_classes
    dtype = model.prior_logits.cpu().numpy().dtype
    table = {name: np.zeros((len(rows), size), dtype) for name, size in sizes.items()}
    for indices, batch in _batches(model, rows, batch_size, "rows encoded"):
        loc, scale = encode_z(model, batch)
        table["loc"][indices], table["scale"][indices] = loc.cpu().numpy(), scale.cpu().numpy()
        if num_classes:
            table["probabilities"][indices] = classify(model, batch, weights=weights).cpu().numpy()
    return table


def _batches(
    model: SSVAE, rows: EncodedRows, batch_size: int, what: str, *, num_symbols: int | None = None
) -> Iterator[tuple[NDArray[np.int64], Batch]]:
    """`evaluation_batches`, whose rows are counted as progress."""
    batches = evaluation_batches(
        rows, batch_size, num_classes=model.num_classes, num_symbols=num_symbols
    )
    with progress.task(what, len(rows)) as task:
        for indices, batch in batches:
            yield indices, batch
            task.advance(len(indices))


def add_columns(
    data: "datasets.Dataset", table: Mapping[str, NDArray[Any]], labels: Sequence[str]
) -> "datasets.Dataset":
    """A data set with `loc`, `scale` and, for a model with classes, label, probabilities and sets.

    Args:
        data: The data set; its rows are those of the table.
        table: `loc`, `scale` and `probabilities`, `[n, ...]`; optionally `sets`, which labels are
            in the set of each row, `[n, K]`.
        labels: Names of the classes, none for the plain VAE.

    Raises:
        InputError: it has a column with one of these names.
    """
    import datasets

    numbers = datasets.List(datasets.Value("float32"))
    columns: dict[str, tuple[list[Any], Any]] = {
        name: (list(table[name]), numbers) for name in ("loc", "scale")
    }
    if labels:
        best = table["probabilities"].argmax(1).tolist()
        columns["predicted_label"] = (best, datasets.ClassLabel(names=list(labels)))
        columns["probabilities"] = (list(table["probabilities"]), numbers)
    if "sets" in table:
        inside = [row.nonzero()[0].tolist() for row in table["sets"]]
        columns["predicted_set"] = (inside, datasets.List(datasets.ClassLabel(names=list(labels))))
    for name, (column, feature) in columns.items():
        if name in data.column_names:
            raise InputError(f"dataset: wanted no column {name!r}, got one")
        data = data.add_column(name, column, feature=feature)
    return data
