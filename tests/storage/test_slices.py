"""Slices: the whole is the same however it came about, and nothing is computed twice."""

import functools
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from seqssvae.errors import InputError
from seqssvae.storage import slices
from seqssvae.storage.slices import concatenate


class Killed(BaseException):
    """What ends the work in the middle."""


class Maker:
    """Makes slices of numbered lines, and notes which; stops at one of them."""

    def __init__(self, stop: int | None = None) -> None:
        self.made: list[int] = []
        self.stop = stop

    def __call__(self, rows: slice) -> bytes:
        if rows.start == self.stop:
            raise Killed
        self.made.append(rows.start)
        return b"".join(b"%d\n" % row for row in range(rows.start, rows.stop))


write_in_slices = functools.partial(slices.write_in_slices, slice_rows=3)


def lines(num_rows: int) -> bytes:
    return b"".join(b"%d\n" % row for row in range(num_rows))


@pytest.mark.parametrize("num_rows", [0, 1, 3, 4, 9, 11])
def test_all_rows_in_order(num_rows: int, tmp_path: Path) -> None:
    out, maker = tmp_path / "rows.txt", Maker()
    write_in_slices(out, num_rows, key={}, make=maker, join=concatenate)
    assert out.read_bytes() == lines(num_rows)
    assert maker.made == list(range(0, max(num_rows, 1), 3))
    assert list(tmp_path.iterdir()) == [out]


def test_after_a_kill_missing_slices_are_computed(tmp_path: Path) -> None:
    out = tmp_path / "rows.txt"
    out.write_text("old")
    with pytest.raises(Killed):
        write_in_slices(out, 10, key={"seed": 1}, make=Maker(stop=6), join=concatenate)
    assert out.read_text() == "old"
    folder = tmp_path / ".rows.txt.slices"
    (folder / ".2.0123").write_text("torn")  # a kill while it was written
    maker = Maker()
    write_in_slices(out, 10, key={"seed": 1}, make=maker, join=concatenate)
    assert maker.made == [6, 9] and out.read_bytes() == lines(10)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("damage", ["key", "no key"])
def test_slices_of_something_else_are_not_used(damage: str, tmp_path: Path) -> None:
    out = tmp_path / "rows.txt"
    with pytest.raises(Killed):
        write_in_slices(out, 10, key={"seed": 1}, make=Maker(stop=6), join=concatenate)
    if damage == "no key":
        (tmp_path / ".rows.txt.slices" / "key").unlink()
    maker = Maker()
    write_in_slices(out, 10, key={"seed": 2 - (damage == "no key")}, make=maker, join=concatenate)
    assert maker.made == [0, 3, 6, 9] and out.read_bytes() == lines(10)


def test_a_kill_while_they_are_joined_costs_nothing(tmp_path: Path) -> None:
    out = tmp_path / "rows.txt"

    def torn(parts: Iterator[io.BytesIO], whole: io.BytesIO) -> None:
        whole.write(next(iter(parts)).read())
        raise Killed

    with pytest.raises(Killed):
        write_in_slices(out, 10, key={}, make=Maker(), join=torn)  # type: ignore[arg-type]
    assert not out.exists()
    maker = Maker()
    write_in_slices(out, 10, key={}, make=maker, join=concatenate)
    assert maker.made == [] and out.read_bytes() == lines(10)


def test_a_pipe_gets_slice_after_slice(tmp_path: Path) -> None:
    write_in_slices(Path("/dev/null"), 10, key={}, make=Maker(), join=concatenate)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "rows.txt")
    write_in_slices(link, 10, key={}, make=Maker(), join=concatenate)
    assert link.is_symlink() and (tmp_path / "rows.txt").read_bytes() == lines(10)


@pytest.mark.parametrize("num_rows", [2, 10])
def test_a_missing_folder_is_reported(num_rows: int, tmp_path: Path) -> None:
    out, maker = tmp_path / "no" / "rows.txt", Maker()
    with pytest.raises(InputError, match="rows.txt: wanted to write it, got No such file"):
        write_in_slices(out, num_rows, key={}, make=maker, join=concatenate)
    with pytest.raises(InputError, match="wanted to write it, got Is a directory"):
        write_in_slices(tmp_path, num_rows, key={}, make=maker, join=concatenate)


@pytest.mark.parametrize("num_rows", [1, 9])
def test_a_file_is_written_by_one_command(num_rows: int, tmp_path: Path) -> None:
    """The other one is refused while it computes, and afterwards nothing is left of the lock."""
    out = tmp_path / "out"

    def make(rows: slice) -> bytes:
        with pytest.raises(InputError, match="wanted a folder that no other process writes to"):
            slices.write_in_slices(out, 1, key={}, make=lambda _: b"", join=concatenate)
        return bytes(b"x" * (rows.stop - rows.start))

    slices.write_in_slices(out, num_rows, key={}, make=make, join=concatenate, slice_rows=4)
    assert out.read_bytes() == b"x" * num_rows
    assert list(tmp_path.iterdir()) == [out]
