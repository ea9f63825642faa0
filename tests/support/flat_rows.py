"""Rows of symbol ids one after the other, for tests."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class FlatRows:
    """What `seqssvae.nn.words.SymbolRows` wants, and no more."""

    symbols: NDArray[np.int32]
    offsets: NDArray[np.int64]


def make_rows(sequences: Sequence[Sequence[int]]) -> FlatRows:
    """Rows of these symbols, which need not end with EOS."""
    flat = [symbol for sequence in sequences for symbol in sequence]
    lengths = [len(sequence) for sequence in sequences]
    return FlatRows(np.array(flat, np.int32), np.cumsum([0, *lengths]).astype(np.int64))
