"""Vectors beside rows: parts against one array, and each mistake in a line."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest

from seqssvae.errors import InputError
from seqssvae.storage.vectors import (
    Vectors,
    as_vectors,
    column_vectors,
    join_vectors,
    open_vectors,
    vectors_like,
    with_vectors,
)

RANDOM = np.random.default_rng(0)


def where(row: int) -> str:
    return f"f:{row + 1}"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
def test_parts_are_one_array(dtype: str) -> None:
    whole = (10 * RANDOM.standard_normal((9, 3))).astype(dtype)
    vectors = Vectors([whole[:4], whole[4:4], whole[4:5], whole[5:]])
    rows = np.array([8, 0, 4, 4, 3, 5])
    assert (len(vectors), vectors.size) == (9, 3)
    np.testing.assert_array_equal(vectors[rows], whole[rows].astype(np.float32))
    assert vectors[rows].dtype == np.float32 and vectors[rows[:0]].shape == (0, 3)


@pytest.mark.parametrize(
    ("row", "value", "may_miss", "message"),
    [
        (2, [0, np.nan], True, "f:3: wanted a vector of 2 finite numbers, got nan as number 2"),
        (1, [-np.inf, 0], False, "f:2: wanted a vector of 2 finite numbers, got -inf as number 1"),
        (0, [0, 1e300], False, "f:1: wanted a vector of 2 finite numbers, got inf as number 2"),
        (3, [np.nan] * 2, False, "got none (--missing-vectors masks such rows)"),
        (3, [np.nan] * 2, True, ""),
    ],
)
def test_what_is_no_vector_is_refused_with_its_row(
    row: int, value: list[float], may_miss: bool, message: str
) -> None:
    whole = np.zeros((4, 2))
    Vectors([whole]).check(where, may_miss=False)
    whole[row] = value
    vectors = Vectors([whole[:1], whole[1:]])
    if not message:
        vectors.check(where, may_miss=may_miss)
        return
    with pytest.raises(InputError) as error:
        vectors.check(where, may_miss=may_miss)
    assert message in str(error.value)


def test_a_file_is_mapped(tmp_path: Path) -> None:
    whole = RANDOM.standard_normal((5, 2))
    np.save(tmp_path / "v.npy", whole)
    vectors = open_vectors(tmp_path / "v.npy", 5, "rows")
    assert (
        isinstance(vectors.parts[0], np.memmap | np.ndarray) and not vectors.parts[0].flags.owndata
    )
    np.testing.assert_array_equal(vectors[np.arange(5)], whole.astype(np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((4, 2)), "v.npy: wanted 5 vectors, one for each row of rows, got 4"),
        (np.zeros(5), "v.npy: wanted numbers [rows, size], got float64 [5]"),
        (np.zeros((5, 0)), "wanted numbers [rows, size], got float64 [5, 0]"),
        (np.zeros((5, 2), complex), "wanted numbers [rows, size], got complex128 [5, 2]"),
        (np.array([["a"]] * 5), "wanted numbers [rows, size], got <U1 [5, 1]"),
        (np.array([[None]] * 5, object), "v.npy: wanted a .npy file of numbers, got"),
        (b"", "v.npy: wanted a .npy file of numbers, got"),
        (b"text", "v.npy: wanted a .npy file of numbers, got"),
        (None, "v.npy: wanted a readable file, got No such file or directory"),
        (b"\x93NUMPY\x01\x00", "v.npy: wanted a .npy file of numbers, got another file or a dam"),
    ],
)
def test_a_file_of_something_else_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(InputError) as error:
        open_vectors(path, 5, "rows")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).count("wanted") == 1


def test_lists_of_several_lengths_are_no_vectors() -> None:
    with pytest.raises(InputError, match=r"vectors: wanted numbers \[rows, size\], got "):
        open_vectors([[1.0], [1.0, 2.0]], 2, "rows")


def test_a_column_with_rows_that_have_none() -> None:
    lists = [[1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0]]
    kind = pyarrow.list_(pyarrow.float32())
    column = pyarrow.chunked_array([lists[:2], lists[2:], []], kind)
    vectors = column_vectors(column, where)
    assert vectors is not None
    whole = [[np.nan] * 2 if one is None else one for one in lists]
    np.testing.assert_array_equal(vectors[np.arange(4)], np.array(whole, np.float32))
    assert column_vectors(pyarrow.chunked_array([[None, None]], kind), where) is None
    odd = pyarrow.chunked_array([[[1.0]], [None, [1.0, 2.0]]], kind)
    with pytest.raises(InputError, match="f:3: wanted a vector of 1 numbers as in f:1, got 2"):
        column_vectors(odd, where)


def test_joined_sources() -> None:
    first, last = RANDOM.standard_normal((2, 3, 2)).astype(np.float32)
    joined = join_vectors([(as_vectors(first), 3), (None, 2), (as_vectors(last), 3)])
    assert joined is not None and len(joined) == 8
    whole = np.concatenate([first, np.full((2, 2), np.nan, np.float32), last])
    np.testing.assert_array_equal(joined[np.arange(8)], whole)
    assert join_vectors([(None, 3), (None, 2)]) is None


def test_vectors_as_in_training() -> None:
    vectors = Vectors([np.zeros((4, 3))])
    assert vectors_like(vectors, 4, 3, "f", may_miss=False) is vectors
    assert vectors_like(None, 4, 0, "f", may_miss=False) is None
    missing = vectors_like(None, 4, 3, "f", may_miss=True)
    assert missing is not None and np.isnan(missing[np.arange(4)]).all() and missing.size == 3
    for given, size, message in (
        (vectors, 2, "f: wanted vectors of 2 numbers as in training, got vectors of 3 numbers"),
        (vectors, 0, "f: wanted no vectors as in training, got vectors of 3 numbers"),
        (None, 2, "got no vectors (--vectors FILE.npy or --vectors-column NAME; --missing-vectors"),
    ):
        with pytest.raises(InputError) as error:
            vectors_like(given, 4, size, "f", may_miss=False)
        assert message in str(error.value)


def test_rows_with_vectors_are_both() -> None:
    both = with_vectors("f.jsonl", "f.npy")
    assert (both.rows, both.vectors) == ("f.jsonl", "f.npy")
