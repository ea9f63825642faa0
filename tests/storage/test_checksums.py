"""`SHA256SUMS`; what runs and checkpoints make of it is in their own tests."""

import shutil
import subprocess
from pathlib import Path

import pytest

from seqssvae.errors import InputError
from seqssvae.storage.checksums import SUMS, CheckedFolder, seal

ONE = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"


def make(folder: Path) -> Path:
    folder.mkdir()
    (folder / "a").write_bytes(b"one")
    (folder / "b c").write_bytes(b"")
    assert seal(folder) == ["a", "b c", SUMS]
    return folder


def test_what_is_sealed_can_be_opened_and_read(tmp_path: Path) -> None:
    files = CheckedFolder.open(make(tmp_path / "x"))
    assert files.read("a") == b"one" and files.read("b c") == b""
    assert files.sums["a"] == ONE and set(files.sums) == {"a", "b c"}
    with pytest.raises(InputError, match="SHA256SUMS: wanted a checksum of d, got none"):
        files.read("d")


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum")
def test_sha256sum_verifies_the_folder(tmp_path: Path) -> None:
    folder = make(tmp_path / "x")
    command = ["sha256sum", "--check", "--strict", SUMS]
    assert subprocess.run(command, cwd=folder, check=False).returncode == 0
    (folder / "a").write_bytes(b"two")
    assert subprocess.run(command, cwd=folder, check=False).returncode == 1


@pytest.mark.parametrize(
    "line",
    [
        f"{ONE}  ../x", f"{ONE}  /etc/passwd", f"{ONE}  ..", f"{ONE}  C:\\x", f"{ONE}  a\0b",
        f"{ONE}  ", f"{ONE} a", f"{ONE[1:]}  a", f"{ONE.upper()}  a", f"{ONE}  a\r",
        f"{ONE}  {SUMS}", "", " ",
    ],
)  # fmt: skip
def test_lines_that_are_refused(tmp_path: Path, line: str) -> None:
    folder = make(tmp_path / "x")
    with open(folder / SUMS, "ab") as sums:
        sums.write(f"{line}\n".encode())
    with pytest.raises(InputError, match="SHA256SUMS:3: wanted a SHA-256 and the name of a file"):
        CheckedFolder.open(folder)


def test_a_last_line_that_was_cut_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "x")
    content = (folder / SUMS).read_bytes()
    (folder / SUMS).write_bytes(content[:-1])
    with pytest.raises(InputError, match="SHA256SUMS:2: wanted"):
        CheckedFolder.open(folder)


def test_a_list_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """A terabyte of holes takes no time."""
    folder = make(tmp_path / "x")
    with open(folder / SUMS, "r+b") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="SHA256SUMS: wanted at most"):
        CheckedFolder.open(folder)
