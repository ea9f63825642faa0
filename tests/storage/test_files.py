"""Single files: whole or absent."""

import os
import stat
from pathlib import Path
from unittest.mock import Mock

import pytest

from seqssvae.errors import InputError
from seqssvae.storage.files import locked, parse_json, write_atomically, write_lines


def test_write_atomically(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    (tmp_path / "link").symlink_to(path)
    write_atomically(tmp_path / "link", b"three")
    assert path.read_bytes() == b"three" and (tmp_path / "link").is_symlink()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.txt", "link"]
    long_name = tmp_path / ("ü" * 120)
    write_atomically(long_name, b"five")
    assert long_name.read_bytes() == b"five"
    with pytest.raises(InputError, match="none/a.txt: wanted to write it, got No such file"):
        write_atomically(tmp_path / "none" / "a.txt", b"")
    with pytest.raises(InputError, match="wanted to write it, got Is a directory"):
        write_atomically(tmp_path, b"")
    with pytest.raises(InputError, match="wanted to write it, got Not a directory"):
        write_atomically(path / "b.txt", b"")


def test_lines_in_a_folder_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "er" / "a.txt"
    write_lines(path, iter(["één", ""]))
    assert path.read_bytes() == "één\n\n".encode()
    with pytest.raises(InputError, match=r"a\.txt: wanted to write it, got File exists"):
        write_lines(path / "b.txt", [])


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"  # never a file of /dev: a mistake would replace it for everyone
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(pipe, b"four")
        assert os.read(reader, 100) == b"four"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("content", [b"", b"\xff", b"{", b"[" * 200_000, b'{"a": ' * 200_000])
def test_what_is_not_json_is_reported_in_one_line(content: bytes) -> None:
    with pytest.raises(InputError, match="x.json: wanted JSON, got") as caught:
        parse_json(content, dict, "x.json")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    with pytest.raises(InputError, match="x.json: wanted a JSON dict, got list"):
        parse_json(b"[]", dict, "x.json")


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    """It is made for that, and gone if nothing was written."""
    folder = tmp_path / "new" / "run"
    with locked(folder):
        with pytest.raises(InputError, match=r"run: wanted a folder .*, got one in use"):
            locked(folder).__enter__()
        assert folder.is_dir()
    assert not (tmp_path / "new").exists()
    with locked(folder):
        (folder / "a").write_text("kept")
    with locked(folder):
        pass
    assert (folder / "a").read_text() == "kept"


def test_without_locks_nothing_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", Mock(side_effect=OSError(95, "Not supported")))
    with locked(tmp_path / "run"), locked(tmp_path / "run"):
        pass
