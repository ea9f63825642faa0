"""A model applied to any number of rows in batches: tables of results in the order of the rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae import progress
from seqssvae.data.batches import Batch, evaluation_batches
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.rows import MAX_SYMBOLS
from seqssvae.errors import InputError, check_whole
from seqssvae.inference.classify import classify
from seqssvae.inference.decode import GENERATED, beam, greedy, sample
from seqssvae.inference.latent import encode_z, transfer
from seqssvae.model.ssvae import SSVAE

if TYPE_CHECKING:
    import datasets

BATCH_SIZE = 256
MAX_WIDTH = 1_000_000  # of a beam
MAX_SEQUENCES = 10_000_000  # that are generated in a call
LARGEST_SEED = 2**63 - 1
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


def transfer_rows(
    model: SSVAE, rows: EncodedRows, *, to: int, max_length: int, batch_size: int = BATCH_SIZE
) -> list[list[int]]:
    """Each row rewritten under another label; see `transfer`."""
    written: list[list[int]] = [[] for _ in range(len(rows))]
    with progress.task(GENERATED, len(rows)):
        for indices, batch in evaluation_batches(rows, batch_size, num_classes=model.num_classes):
            sequences = transfer(model, batch, to=to, max_length=max_length)
            for index, ids in zip(indices, sequences, strict=True):
                written[int(index)] = ids
    return written


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


def generate(
    model: SSVAE,
    n: int,
    y: int | None,
    *,
    max_length: int,
    strategy: str = "sample",
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    width: int = 8,
    prefix: Sequence[int] = (),
    seed: int = 0,
) -> list[list[int]]:
    """New sequences, each from its own z ~ p(z), which depends on the seed and its number alone.

    Args:
        model: The model.
        n: Number of sequences.
        y: The class, or None.
        max_length: Largest number of symbols, EOS included.
        strategy: "sample", "greedy" or "beam"; the options are those of the function in `decode`.
        temperature: Option of "sample".
        top_k: Option of "sample".
        top_p: Option of "sample".
        width: Option of "beam".
        prefix: First symbols of each sequence.
        seed: Seed of z and of the samples.

    Raises:
        InputError: an unknown strategy, or a number out of range.
    """
    check_whole("n", n, 0, MAX_SEQUENCES)
    check_whole("seed", seed, 0, LARGEST_SEED)
    check_whole("top_k", top_k, 0, LARGEST_SEED)
    check_whole("max_length", max_length, 1, MAX_SYMBOLS)
    z = _draw_z(model, n, seed)
    of_each = None if y is None else torch.full((n,), y, device=z.device)
    if strategy == "sample":
        return sample(
            model.decoder,
            z,
            of_each,
            max_length=max_length,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            prefix=prefix,
            generator=torch.Generator().manual_seed(seed),
        )
    if strategy == "greedy":
        return greedy(model.decoder, z, of_each, max_length=max_length, prefix=prefix)
    if strategy == "beam":
        check_whole("width", width, 1, MAX_WIDTH)
        return beam(
            model.decoder, z, of_each, max_length=max_length, width=width, prefix=prefix
        ).sequences
    raise InputError(f"strategy: wanted sample, greedy or beam, got {strategy}")


def _draw_z(model: SSVAE, n: int, seed: int) -> Tensor:
    """z ~ p(z), `[n, Z]`, each by the seed and its number alone."""
    drawn = np.empty((n, model.latent_size))
    for row in range(n):
        drawn[row] = np.random.default_rng([seed, row]).standard_normal(drawn.shape[1])
    return torch.from_numpy(drawn).to(model.prior_logits)


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
