"""`SHA256SUMS`: checksums of the files of a folder, which `sha256sum -c SHA256SUMS` verifies too.

They reveal corruption and do not authenticate: anyone can write new ones. Files from untrusted
sources are refused by their form: names that lead out of the folder, links, pickles.
"""

import dataclasses
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from seqssvae.errors import InputError
from seqssvae.storage.files import flush, read_bytes, readable, write_new

SUMS = "SHA256SUMS"
LINE = re.compile(rb'([0-9a-f]{64})  ([^/\\:"\0-\x1f]+)\n')  # names valid on every system
PICKLES = (".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pt2", ".pth")
MAX_BYTES = 2**28  # of a file that lists other files


@dataclasses.dataclass(frozen=True)
class CheckedFolder:
    """A folder whose files are checked as they are read.

    Attributes:
        path: The folder.
        sums: SHA-256 of each file by name.
        listed_in: The file that they are from.
    """

    path: Path
    sums: Mapping[str, str]
    listed_in: str = SUMS

    @classmethod
    def open(cls, folder: Path) -> "CheckedFolder":
        """Read `SHA256SUMS`; the files are not read yet.

        Raises:
            InputError: there is none, or it is damaged.
        """
        path = folder / SUMS
        return cls(folder, parse_sums(read_small(path), path))

    def check(self, name: str) -> None:
        """Check that a file is the one that was written.

        Raises:
            InputError: it is not listed, missing, no regular file, or damaged; its name is in the
                message.
        """
        self._compare(name, sha256(self._locate(name)))

    def read(self, name: str) -> bytes:
        """A file's content, checked.

        Raises:
            InputError: as `check`.
        """
        content = read_bytes(self._locate(name))
        self._compare(name, hashlib.sha256(content).hexdigest())
        return content

    def _locate(self, name: str) -> Path:
        path = self.path / name
        if name not in self.sums:
            where = self.path / self.listed_in
            raise InputError(f"{where}: wanted a checksum of {name}, got none")
        if not os.path.lexists(path):
            raise InputError(f"{path}: wanted the file that {self.listed_in} lists, got none")
        _check_regular(path)
        return path

    def _compare(self, name: str, got: str) -> None:
        if got != self.sums[name]:
            raise InputError(
                f"{self.path / name}: wanted the file that {self.listed_in} lists, got a damaged "
                f"or foreign one: its sha256 is {got[:12]}... and not {self.sums[name][:12]}..."
            )


def seal(folder: Path, *others: Path) -> list[str]:
    """Write `SHA256SUMS` of all files in a folder, and flush all of them to the disk.

    Args:
        folder: Folder without subfolders.
        others: Files that will be moved into the same folder.

    Returns:
        Names of the folder's files, `SHA256SUMS` last.

    Raises:
        OSError: the disk refuses.
        InputError: a file cannot be read.
    """
    names = sorted(path.name for path in folder.iterdir())
    paths = [*others, *(folder / name for name in names)]
    write_new(folder / SUMS, "".join(f"{sha256(path)}  {path.name}\n" for path in paths).encode())
    for name in (*names, SUMS):
        flush(folder / name)
    flush(folder)
    return [*names, SUMS]


def parse_sums(content: bytes, where: Path) -> dict[str, str]:
    """SHA-256 of each file by name.

    Args:
        content: Lines as `sha256sum` writes them.
        where: File, for errors.

    Raises:
        InputError: another line, or a name that leads out of the folder.
    """
    sums = {}
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        match = LINE.fullmatch(line)
        if match is None or match[2] in (b".", b"..", SUMS.encode()):
            raise InputError(
                f"{where}:{number}: wanted a SHA-256 and the name of a file in this folder, got "
                f"{line.decode(errors='replace')!r:.200}"
            )
        sums[match[2].decode(errors="surrogateescape")] = match[1].decode()
    return sums


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        InputError: it cannot be read.
    """
    with readable(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_small(path: Path) -> bytes:
    """The content of a regular file that lists other files.

    Raises:
        InputError: it cannot be read, or is too large for that.
    """
    if _check_regular(path) > MAX_BYTES:
        raise InputError(f"{path}: wanted at most {MAX_BYTES} bytes, got more")
    return read_bytes(path)


def refuse_unsafe(folder: Path) -> None:
    """Refuse a folder with a link or a pickle in it, whether or not it would be read.

    Raises:
        InputError: there is one; the message names it.
    """
    with readable(folder):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            where = folder / entry.name
            if entry.is_symlink():
                raise InputError(f"{where}: wanted files of this folder's own, got a link")
            if where.suffix.lower() in PICKLES:
                raise InputError(
                    f"{where}: wanted weights in safetensors, got what may be a pickle, which "
                    "could run code"
                )


def _check_regular(path: Path) -> int:
    """The size of a regular file in bytes."""
    with readable(path):
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: wanted a regular file, got a link or a device")
    return status.st_size
