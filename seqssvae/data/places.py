"""Which of many rows, and in what order, told by rules that cost no memory for each of them."""

from collections.abc import Iterator
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["AllBut", "Places", "Shuffled", "places_between", "shuffled"]

Integers = NDArray[np.int64]

LISTED = 65_536  # of more numbers, a random order is no list but a rule
ROUNDS = 6
FIRST_FACTOR = np.uint64(0xFF51AFD7ED558CCD)  # of the finaliser of MurmurHash3
SECOND_FACTOR = np.uint64(0xC4CEB9FE1A85EC53)
CHUNK = 65_536  # places that are told at once where all are asked for


@final
class AllBut:
    """The numbers from 0 to n - 1 without some of them, ascending.

    Args:
        size: n.
        without: Numbers that are left out, ascending, none twice; they cost 8 bytes each.
    """

    def __init__(self, size: int, without: Integers) -> None:
        self._size, self._without = size, without
        self._kept_before = without - np.arange(len(without))  # how many stay before each

    def __len__(self) -> int:
        return self._size - len(self._without)

    def __getitem__(self, index: Integers) -> Integers:
        """The numbers at places that are from 0 to len - 1."""
        return index + np.searchsorted(self._kept_before, index, side="right")

    def __iter__(self) -> Iterator[int]:
        for first in range(0, len(self), CHUNK):
            yield from self[np.arange(first, min(first + CHUNK, len(self)))].tolist()

    def between(self, first: int, after: int) -> Integers:
        """Those from `first` on and before `after`."""
        bounds = np.array((first, after))
        start, end = bounds - np.searchsorted(self._without, bounds)
        return self[np.arange(start, end)]


Places: TypeAlias = Integers | AllBut


def places_between(places: Places, first: int, after: int) -> Integers:
    """Those of ascending numbers that are from `first` on and before `after`."""
    if isinstance(places, AllBut):
        return places.between(first, after)
    return places[slice(*np.searchsorted(places, (first, after)))]


@final
class Shuffled:
    """The numbers from 0 to n - 1 in random order, each computed when it is asked for.

    A Feistel network permutes the numbers of an even number of bits; one that comes out at n or
    above is put through again (cycle walking: Black and Rogaway, "Ciphers with arbitrary finite
    domains", 2002).

    Args:
        size: n, at least 2.
        generator: Says which order.
    """

    def __init__(self, size: int, generator: np.random.Generator) -> None:
        self._size = size
        self._half = np.uint64(((size - 1).bit_length() + 1) // 2)  # bits
        self._mask = (np.uint64(1) << self._half) - np.uint64(1)
        self._keys = generator.integers(0, 2**64, ROUNDS, dtype=np.uint64)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, places: slice) -> Integers:
        """The numbers at some places."""
        numbers = self._permute(np.arange(*places.indices(self._size)).astype(np.uint64))
        while len(outside := np.flatnonzero(numbers >= self._size)):
            numbers[outside] = self._permute(numbers[outside])
        return numbers.astype(np.int64)

    def _permute(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = numbers >> self._half, numbers & self._mask
        for key in self._keys:
            left, right = right, left ^ (_scramble(right ^ key) & self._mask)
        return (left << self._half) | right


def shuffled(size: int, generator: np.random.Generator) -> Integers | Shuffled:
    """The numbers from 0 to size - 1 in random order: of few a list, in which any order may be."""
    return Shuffled(size, generator) if size > LISTED else generator.permutation(size)


def _scramble(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each bit depends on all of a number's."""
    shift = np.uint64(33)
    numbers = (numbers ^ (numbers >> shift)) * FIRST_FACTOR
    numbers = (numbers ^ (numbers >> shift)) * SECOND_FACTOR
    return numbers ^ (numbers >> shift)
