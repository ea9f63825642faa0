"""Whole words as features: found among symbols of a row, however these cut them.

A word is hashed from its bytes in lower case, so that "Oil" at the beginning of a row, cut into
characters or bytes, and "oil" after a space, one piece, are the same. Letters and digits make
words; what else there is stands between them.
"""

import re
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae.data.sentencepieces import SPACE_MARK
from seqssvae.data.vocabulary import NUM_SPECIAL, TokenVocabulary, Vocabulary

__all__ = ["SymbolRows", "Symbols", "are_worth_reading", "find_words", "tabulate_words"]

PRIME = 2**31 - 1
BASE = 1_664_525  # of the polynomial in the bytes of a word
LONGEST = 256  # bytes of a word; those beyond are hashed as if they stood at the end of it
POWERS = torch.tensor([pow(BASE, place, PRIME) for place in range(LONGEST)])
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
SPACE, MARK, OF_WORD, BEGINS_WORD = -1, 0, 1, 2  # what a symbol can be; the last has a space too
WORDS_IN_A_TEXT = 3.0  # in the mean row, at least


class SymbolRows(Protocol):
    """Rows one after the other, as an `EncodedRows` has them; n rows with M symbols in all."""

    @property
    def symbols(self) -> NDArray[np.int32]:
        """All symbols, `[M]`, EOS at the end of each row that was not cut."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each row begins, and at last M, `[n + 1]`."""


class Symbols(NamedTuple):
    """Symbols, or words, of rows that stand one after the other, M of them.

    Attributes:
        ids: Of the symbols, or hashes of the words, `[M]`.
        row: In which each stands, ascending, `[M]`.
        place: In its row, from 0, `[M]`.
        place_from_end: From its row's last one, `[M]`.
    """

    ids: Tensor
    row: Tensor
    place: Tensor
    place_from_end: Tensor

    @staticmethod
    def list(ids: Tensor, row: Tensor, lengths: Tensor) -> "Symbols":
        """From their ids `[M]`, rows `[M]`, and how many each row has, `[B]`."""
        place = torch.arange(ids.shape[0], device=ids.device) - (lengths.cumsum(0) - lengths)[row]
        return Symbols(ids, row, place, lengths[row] - 1 - place)


def tabulate_words(vocabulary: Vocabulary) -> NDArray[np.int64]:
    """What each symbol adds to a word, `[V, 3]`: a hash, how many bytes, and what it can be.

    Tokens are words themselves, so that theirs is a table of zeros, by which no word is found.
    """
    table = np.zeros((len(vocabulary), 3), np.int64)
    if isinstance(vocabulary, TokenVocabulary):
        return table
    for id in range(NUM_SPECIAL, len(vocabulary)):
        symbol = vocabulary.symbol(id)
        found = BYTE.fullmatch(symbol)
        if found and vocabulary.kind == "sentencepiece":
            content = bytes([int(found[1], 16)]).lower()
            is_word = content >= b"\x80" or content.isalnum()
        else:
            content = symbol.removeprefix(SPACE_MARK).lower().encode("utf-8", "surrogatepass")
            is_word = any(map(str.isalnum, symbol))
        has_space = symbol.startswith(SPACE_MARK) or symbol.isspace()
        if is_word:
            table[id] = _hash(content), len(content), BEGINS_WORD if has_space else OF_WORD
        elif has_space:
            table[id, 2] = SPACE
    return table


def find_words(symbols: Symbols, num_rows: int, table: Tensor) -> Symbols:
    """The words of rows, as symbols whose ids are from 0 to 2**31 - 2.

    Args:
        symbols: Of the rows.
        num_rows: B.
        table: Of `tabulate_words`, `[V, 3]`.
    """
    value, length, role = table[symbols.ids].unbind(1)
    is_part = role > MARK
    # roll gives a first place what stands last, which is why that place begins a word at any rate
    begins = (role != OF_WORD) | ~is_part.roll(1, 0) | (symbols.place == 0)
    begins, value, length = begins[is_part], value[is_part], length[is_part]
    word = begins.long().cumsum(0) - 1
    before = length.cumsum(0) - length
    place_in_word = (before - before[begins][word]).clamp(0, LONGEST - 1)
    terms = value * POWERS.to(value.device)[place_in_word] % PRIME
    row = symbols.row[is_part][begins]
    hashes = torch.zeros_like(row).scatter_add(0, word, terms) % PRIME
    lengths = row.new_zeros(num_rows).scatter_add(0, row, torch.ones_like(row))
    return Symbols.list(hashes, row, lengths)


def are_worth_reading(rows: SymbolRows, table: NDArray[np.int64]) -> bool:
    """Whether rows are texts: most of them have a space, and the mean one three words.

    Args:
        rows: n rows, n may be 0.
        table: Of `tabulate_words`.
    """
    offsets = rows.offsets
    num_rows = len(offsets) - 1
    ids = torch.from_numpy(rows.symbols.astype(np.int64))
    lengths = torch.from_numpy(np.diff(offsets))
    row = torch.arange(num_rows).repeat_interleave(lengths)
    roles = torch.from_numpy(table)[ids, 2]
    with_space = row[(roles == SPACE) | (roles == BEGINS_WORD)].unique()
    words = find_words(Symbols.list(ids, row, lengths), num_rows, torch.from_numpy(table))
    return 2 * len(with_space) > num_rows and len(words.row) >= WORDS_IN_A_TEXT * num_rows


def _hash(content: bytes) -> int:
    """sum_i (c_i + 1) BASE^i, of which a word's parts can be added up."""
    return sum((byte + 1) * pow(BASE, place, PRIME) for place, byte in enumerate(content)) % PRIME
