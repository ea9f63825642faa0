"""Vectors beside rows, as of a pretrained model: of a column, an array or a mapped .npy file."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from seqssvae.errors import InputError
from seqssvae.storage.files import line_of, readable

if TYPE_CHECKING:
    import pyarrow

Float32 = NDArray[np.float32]

BLOCK_ROWS = 10_000  # checked at once
HINT = "--missing-vectors masks such rows"


@dataclasses.dataclass(frozen=True, eq=False)
class WithVectors:
    """Rows and their vectors; made by `with_vectors`.

    Attributes:
        rows: A source of rows, or a list of texts or of lists of tokens.
        vectors: A .npy file or an array, `[n, D]`, in the order of the rows.
    """

    rows: Any
    vectors: Any


def with_vectors(rows: Any, vectors: Any) -> WithVectors:
    """Rows with a vector of each, which q(y | x, v) and q(z | x, y, v) read beside the sequence.

    Args:
        rows: What `fit`, `evaluate`, `classify`, ... take: a file, a `datasets.Dataset`, a
            DataFrame; in `classify` and the like, a list of sequences.
        vectors: A .npy file, which is mapped into memory, or an array, `[n, D]`, in the order of
            the rows. A row of NaN is none, see `data.missing_vectors`.

    Example:
        >>> both = seqssvae.with_vectors(data, np.zeros((40, 3)))
        >>> seqssvae.fit({"training.num_steps": 2}, both, run.parent / "with")["num_labelled"]
        32
    """
    return WithVectors(rows, vectors)


@final
class Vectors:
    """n vectors of D numbers, in parts that may be mapped from files; one that is missing is NaN.

    Args:
        parts: At least one, `[m, D]`, of any type of numbers.
        files: The .npy files that the parts are in, one for each; none where one is in no file.

    Attributes:
        size: D.
    """

    def __init__(self, parts: Sequence[NDArray[Any]], files: Sequence[str] = ()) -> None:
        self.parts, self.files, self.size = list(parts), tuple(files), int(parts[0].shape[1])
        self._starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: NDArray[np.integer]) -> Float32:
        """The vectors of some rows, `[m, D]`."""
        found = np.empty((len(rows), self.size), np.float32)
        places = np.searchsorted(self._starts, rows, side="right") - 1
        for place in np.unique(places).tolist():
            inside = places == place
            with np.errstate(over="ignore"):  # the check refuses what overflows
                found[inside] = self.parts[place][rows[inside] - self._starts[place]]
        return found

    def check(self, where: Callable[[int], str], *, may_miss: bool) -> None:
        """Make sure that numbers are finite and, unless they may miss, that each row has a vector.

        Args:
            where: Names a row, for errors.
            may_miss: Whether a vector may be NaN as a whole.

        Raises:
            InputError: another number, or no vector.
        """
        for start in range(0, len(self), BLOCK_ROWS):
            block = self[np.arange(start, min(start + BLOCK_ROWS, len(self)))]
            is_bad: NDArray[np.bool_] = np.logical_not(np.isfinite(block))
            is_missing = np.asarray(np.isnan(block).all(1))
            rows = np.flatnonzero(is_bad.any(1) & ~(is_missing & may_miss))
            if len(rows):
                row = rows[0]
                if is_missing[row]:
                    got = f"none ({HINT})"
                else:
                    place = int(is_bad[row].argmax())
                    got = f"{block[row, place]} as number {place + 1}"
                wanted = f"a vector of {self.size} finite numbers"
                raise InputError(f"{where(int(start + row))}: wanted {wanted}, got {got}")


def open_vectors(given: Any, num_rows: int, source: str) -> Vectors:
    """The vectors of a .npy file, mapped into memory, or of an array.

    Args:
        given: A path, or an array `[n, D]`.
        num_rows: n.
        source: Name of the rows, for errors.

    Raises:
        InputError: no such file, no table of numbers, or another number of rows.
    """
    files = [str(given)] if isinstance(given, str | Path) else []
    name = files[0] if files else "vectors"
    if isinstance(given, str | Path):
        with readable(Path(given)):
            Path(given).open("rb").close()
        try:
            given = np.load(given, mmap_mode="r", allow_pickle=False)
        except (EOFError, OSError, ValueError) as error:
            got = "another file or a damaged one"
            raise InputError(f"{name}: wanted a .npy file of numbers, got {got}") from error
    try:
        array = np.asarray(given)
    except ValueError as error:  # lists of several lengths
        raise InputError(f"{name}: wanted numbers [rows, size], got {line_of(error)}") from error
    if array.ndim != 2 or array.dtype.kind not in "iuf" or not array.shape[1]:
        got = f"{array.dtype} {list(array.shape)}"
        raise InputError(f"{name}: wanted numbers [rows, size], got {got:.100}")
    if len(array) != num_rows:
        raise InputError(
            f"{name}: wanted {num_rows} vectors, one for each row of {source}, got {len(array)}"
        )
    return Vectors([array], files)


def column_vectors(column: "pyarrow.ChunkedArray", where: Callable[[int], str]) -> Vectors | None:
    """The vectors of a column of lists of numbers; None if no row has one.

    Args:
        column: Lists of float32, or null.
        where: Names a row, for errors.

    Raises:
        InputError: two vectors of different sizes.
    """
    from pyarrow import compute

    sizes = compute.fill_null(compute.list_value_length(column), 0).to_numpy()
    if not sizes.any():
        return None
    size = int(sizes[sizes > 0][0])
    if (odd := np.flatnonzero((sizes > 0) & (sizes != size))).size:
        wanted = f"a vector of {size} numbers as in {where(int((sizes > 0).argmax()))}"
        raise InputError(f"{where(int(odd[0]))}: wanted {wanted}, got {sizes[odd[0]]}")
    parts: list[NDArray[Any]] = []
    for chunk in column.chunks:
        values = chunk.flatten().to_numpy().reshape(-1, size)
        if chunk.null_count:
            whole = np.full((len(chunk), size), np.nan, np.float32)
            whole[chunk.is_valid().to_numpy(zero_copy_only=False)] = values
            values = whole
        parts.append(values)
    return Vectors(parts)


def vectors_like(
    vectors: Vectors | None, num_rows: int, size: int, source: str, *, may_miss: bool
) -> Vectors | None:
    """Vectors of a size, 0 for none; missing ones where there are none and these may miss.

    Args:
        vectors: Of the rows, or None.
        num_rows: Number of the rows.
        size: That of training.
        source: Name of the rows, for errors.
        may_miss: Whether rows may have no vector.

    Raises:
        InputError: other vectors, none where training has some, or some where it has none.
    """
    got = 0 if vectors is None else vectors.size
    if got == size:
        return vectors
    if vectors is None and may_miss:
        return Vectors([np.broadcast_to(np.float32(np.nan), (num_rows, size))])
    hint = "" if got else f" (--vectors FILE.npy or --vectors-column NAME; {HINT})"
    sizes = [f"vectors of {one} numbers" if one else "no vectors" for one in (size, got)]
    raise InputError(f"{source}: wanted {sizes[0]} as in training, got {sizes[1]}{hint}")


def as_vectors(array: Float32 | None) -> Vectors | None:
    """The vectors of an array `[n, D]`."""
    return None if array is None else Vectors([array])


def join_vectors(of_each: Sequence[tuple[Vectors | None, int]]) -> Vectors | None:
    """The vectors of several sources, each with its number of rows; None if none has any.

    Those of a source without vectors are missing.
    """
    known = next((vectors for vectors, _ in of_each if vectors is not None), None)
    if known is None:
        return None
    nothing = np.full((1, known.size), np.nan, np.float32)
    parts: list[NDArray[Any]] = []
    for vectors, num_rows in of_each:
        missing = np.broadcast_to(nothing, (num_rows, known.size))
        parts += [missing] if vectors is None else vectors.parts
    files = [file for vectors, _ in of_each if vectors is not None for file in vectors.files]
    return Vectors(parts, files if len(files) == len(parts) else ())
