"""Encoded rows, the batches made of them, and files of rows."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqssvae.data.batches import Batch
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.streams import TwoStreams
from seqssvae.data.vocabulary import EOS, NUM_SPECIAL, PAD


def make_rows(
    sequences: Sequence[Sequence[int]],
    y: Sequence[int] | None = None,
    candidates: dict[int, tuple[int, ...]] | None = None,
    ids: Sequence[str] | None = None,
    max_length: int | None = None,
) -> EncodedRows:
    """Rows of these symbol ids, which need not end with EOS.

    Args:
        sequences: Symbol ids of each row.
        y: Label of each row; unlabelled by default.
        candidates: Possible labels of some rows.
        ids: Id of each row; "row-0", "row-1", ... by default.
        max_length: Symbols that recurrent networks read of a row.
    """
    lengths = [len(sequence) for sequence in sequences]
    return EncodedRows(
        symbols=np.array([symbol for sequence in sequences for symbol in sequence], np.int32),
        offsets=np.cumsum([0, *lengths], dtype=np.int64),
        y=np.array([-1] * len(lengths) if y is None else y, np.int64),
        candidates=candidates or {},
        ids=tuple(ids or (f"row-{row}" for row in range(len(lengths)))),
        max_length=max_length,
    )


def padded(sequences: Sequence[Sequence[int]], padding: int = PAD) -> tuple[Tensor, Tensor]:
    """Symbol ids `[B, T]`, at least one column of padding among them, and lengths `[B]`."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    x = torch.full((len(sequences), int(lengths.max()) + 1), padding)
    for row, sequence in enumerate(sequences):
        x[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.int64)
    return x, lengths


def numbered_rows(
    lengths: Sequence[int],
    y: Sequence[int] | None = None,
    candidates: dict[int, tuple[int, ...]] | None = None,
    first: int = 0,
    max_length: int | None = None,
) -> EncodedRows:
    """Row i holds `lengths[i]` times the symbol `10 + first + i`."""
    sequences = [[10 + first + row] * length for row, length in enumerate(lengths)]
    ids = [f"row-{first + row}" for row in range(len(lengths))]
    return make_rows(sequences, y, candidates, ids, max_length)


def row_numbers(batch: Batch) -> list[int]:
    """Which rows of `numbered_rows` a batch holds."""
    return (batch.x[:, 0] - 10).tolist()


def random_rows(labels: Sequence[int], seed: int) -> EncodedRows:
    """Random rows of three symbols and EOS; the ids name the seed."""
    generator = np.random.default_rng(seed)
    sequences = [
        [*generator.integers(NUM_SPECIAL, NUM_SPECIAL + 3, generator.integers(1, 6)), EOS]
        for _ in labels
    ]
    return make_rows(sequences, labels, ids=[f"{seed}-{row}" for row in range(len(labels))])


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_two_classes(path: Path, num_unlabelled: int = 30, symbols: str = "abcd") -> Path:
    """Write ten labelled rows of each of two classes, and unlabelled ones."""
    rows: list[dict[str, str]] = [
        {"text": pair * (1 + i % 4), "label": label, "id": f"{label}{i}"}
        for i in range(10)
        for pair, label in ((symbols[:2], "left"), (symbols[2:], "right"))
    ]
    rows += [{"text": symbols[i % 4] * (1 + i % 5), "id": f"u{i}"} for i in range(num_unlabelled)]
    return write_rows(path, rows)


def batch_of(streams: TwoStreams, step: int) -> Batch:
    """The rows of a step, of streams that are not cut into parts."""
    batch = streams.part(step)
    assert batch is not None
    return batch
