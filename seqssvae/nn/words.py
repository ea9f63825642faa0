"""Whole words as features, read from the symbols of a row, whatever the vocabulary.

A word is hashed from its bytes in lower case: "Oil" at the start of a row, cut into characters or
bytes, and "oil" after a space, one piece, have the same hash. Letters and digits make up words; all
other characters separate them.
"""

import re
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae.data.sentencepieces import SPACE_MARK
from seqssvae.data.vocabulary import NUM_SPECIAL, TokenVocabulary, Vocabulary

PRIME = 2**31 - 1
BASE = 1_664_525  # of the polynomial in the bytes of a word
MAX_BYTES = 256  # of a word; later bytes get the weight of the last one
POWERS = torch.tensor([pow(BASE, exponent, PRIME) for exponent in range(MAX_BYTES)])
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
SPACE, SEPARATOR, IN_WORD, STARTS_WORD = -1, 0, 1, 2  # roles of a symbol; the last has a space too


class Symbols(NamedTuple):
    """The symbols, or words, of several rows one after the other, M of them.

    Attributes:
        ids: Symbol ids, or hashes of words, `[M]`.
        row: Row of each, ascending, `[M]`.
        position: Position in the row, from 0, `[M]`.
        position_from_end: Position counted from the end of the row, from 0, `[M]`.
    """

    ids: Tensor
    row: Tensor
    position: Tensor
    position_from_end: Tensor

    @classmethod
    def from_rows(cls, ids: Tensor, row: Tensor, lengths: Tensor) -> "Symbols":
        """From ids `[M]`, the row of each `[M]`, and the lengths of the rows `[B]`."""
        starts = lengths.cumsum(0) - lengths
        position = torch.arange(ids.shape[0], device=ids.device) - starts[row]
        return cls(ids, row, position, lengths[row] - 1 - position)


def tabulate_words(vocabulary: Vocabulary) -> NDArray[np.int64]:
    """What each symbol adds to a word, `[V, 3]`: a hash, a number of bytes, and the symbol's role.

    Given tokens are not cut into words: their table is 0, with which `find_words` returns none.
    """
    table = np.zeros((len(vocabulary), 3), np.int64)
    if isinstance(vocabulary, TokenVocabulary):
        return table
    for id in range(NUM_SPECIAL, len(vocabulary)):
        symbol = vocabulary.symbol(id)
        byte = BYTE.fullmatch(symbol)
        if byte and vocabulary.kind == "sentencepiece":
            content = bytes([int(byte[1], 16)]).lower()
            is_word = content >= b"\x80" or content.isalnum()
        else:
            content = symbol.removeprefix(SPACE_MARK).lower().encode("utf-8", "surrogatepass")
            is_word = any(map(str.isalnum, symbol))
        has_space = symbol.startswith(SPACE_MARK) or symbol.isspace()
        if is_word:
            terms = ((byte + 1) * pow(BASE, power, PRIME) for power, byte in enumerate(content))
            role = STARTS_WORD if has_space else IN_WORD
            table[id] = sum(terms) % PRIME, len(content), role  # a word's hash sums its symbols'
        elif has_space:
            table[id, 2] = SPACE
    return table


def find_words(symbols: Symbols, num_rows: int, table: Tensor) -> Symbols:
    """The words of rows, their hashes from 0 to 2**31 - 2 in the place of ids.

    Args:
        symbols: Symbols of the rows.
        num_rows: B.
        table: Table of `tabulate_words`, `[V, 3]`.
    """
    value, length, _ = table[symbols.ids].unbind(1)
    is_part, starts = _word_parts(symbols, table)
    value, length = value[is_part], length[is_part]
    word = starts.long().cumsum(0) - 1
    before = length.cumsum(0) - length
    offset = (before - before[starts][word]).clamp(0, MAX_BYTES - 1)  # bytes into the word
    terms = value * POWERS.to(value.device)[offset] % PRIME
    row = symbols.row[is_part][starts]
    hashes = torch.zeros_like(row).scatter_add(0, word, terms) % PRIME
    # not bincount, which has no ONNX operator
    lengths = row.new_zeros(num_rows).scatter_add(0, row, torch.ones_like(row))
    return Symbols.from_rows(hashes, row, lengths)


def word_spans(symbols: Symbols, table: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of the first and of the last symbol of each word of `find_words`, `[W]` each."""
    is_part, starts = _word_parts(symbols, table)
    index = is_part.nonzero().squeeze(1)
    first, word = index[starts], starts.long().cumsum(0) - 1
    return first, first.scatter_reduce(0, word, index, "amax")


def _word_parts(symbols: Symbols, table: Tensor) -> tuple[Tensor, Tensor]:
    """Which symbols are in a word, `[M]`, and which of these start one."""
    role = table[symbols.ids][:, 2]
    is_part = role > SEPARATOR
    # roll wraps around, but the first symbol of a row starts a word in any case
    starts = (role != IN_WORD) | ~is_part.roll(1, 0) | (symbols.position == 0)
    return is_part, starts[is_part]
