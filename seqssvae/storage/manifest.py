"""Sealed folders: a manifest lists each file with its size and SHA-256, and its own checksum.

The checksums are there to see rot, not to keep out whoever writes a manifest anew. What strangers
may have written is refused by its form: names that lead out of the folder, links, pickles.
"""

import dataclasses
import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqssvae.errors import InputError
from seqssvae.storage.files import flush, parse_json, read_bytes, readable, to_json, write_new

__all__ = ["MANIFEST", "SealedFolder", "measure", "open_sealed", "refuse_strangers", "seal"]

MANIFEST = "manifest.json"
PICKLES = (".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pt2", ".pth")
MOST_BYTES = 2**28  # of a manifest; one takes some hundred bytes for each file
CHECKSUM_LINE = b',\n "sha256": "'  # the last line but the bracket: a checksum of what is above


@dataclasses.dataclass(frozen=True)
class SealedFolder:
    """A folder whose manifest was read and found whole; its files are checked as they are read.

    Attributes:
        path: Where it is.
        facts: What the manifest says besides.
        files: `size` and `sha256` of each file by name.
    """

    path: Path
    facts: dict[str, Any]
    files: dict[str, dict[str, Any]]

    def check(self, name: str) -> Path:
        """Make sure that a file is the one that was sealed; returns its path.

        Raises:
            InputError: it is missing, no regular file, or another one; the message names it.
        """
        path, facts = self.path / name, self.files[name]
        with readable(path):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise InputError(f"{path}: wanted a regular file, got a link or a device")
        found = measure(path, most_bytes=facts["size"])
        if found != facts:
            raise InputError(
                f"{path}: wanted the file that this run wrote, {_described(facts)}, "
                f"got a damaged or foreign one, {_described(found)}"
            )
        return path

    def read(self, name: str) -> bytes:
        """A file's content, checked.

        Raises:
            InputError: as `check`.
        """
        content = read_bytes(self.check(name))
        if hashlib.sha256(content).hexdigest() != self.files[name]["sha256"]:
            raise InputError(f"{self.path / name}: wanted a file at rest, got one that changes")
        return content


def measure(path: Path, *, most_bytes: int | None = None) -> dict[str, Any]:
    """A file's `size` in bytes and its `sha256`.

    Args:
        path: The file.
        most_bytes: The checksum of a larger file is not asked for, and given as "".

    Raises:
        InputError: it cannot be read.
    """
    with readable(path), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if most_bytes is not None and size > most_bytes:
            return {"size": size, "sha256": ""}
        return {"size": size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def seal(
    folder: Path, facts: Mapping[str, Any], *, format: int, others: Sequence[Path] = ()
) -> list[str]:
    """Write the manifest of all files in a folder, and have all of it on the disk.

    Args:
        folder: Without folders in it.
        facts: What the manifest says besides; plain values.
        format: What `open_sealed` will want.
        others: Files that will stand beside them.

    Returns:
        Names of the folder's files, the manifest last.

    Raises:
        OSError: the disk refuses.
        InputError: a file cannot be read.
    """
    names = sorted(path.name for path in folder.iterdir())
    files = {path.name: measure(path) for path in (*(folder / name for name in names), *others)}
    body = to_json({**facts, "format": format, "files": files}).removesuffix(b"\n}\n")
    write_new(folder / MANIFEST, body + CHECKSUM_LINE + _ending(body))
    for name in (*names, MANIFEST):
        flush(folder / name)
    flush(folder)
    return [*names, MANIFEST]


def open_sealed(folder: Path, *, format: int, required: Sequence[str]) -> SealedFolder:
    """Read a folder's manifest; the files are not looked at yet.

    Args:
        folder: Where it is.
        format: What the manifest must say.
        required: Files that it must list.

    Raises:
        InputError: no manifest, a damaged one, one of another format, or one that lists names
            which lead out of the folder.
    """
    path = folder / MANIFEST
    with readable(path):
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MOST_BYTES:
            raise InputError(f"{path}: wanted a manifest, got no regular file of its size")
    content = read_bytes(path)
    manifest: dict[str, Any] = parse_json(content, dict, path)
    if manifest.get("format") != format:
        raise InputError(f"{path}: wanted format {format}, got {manifest.get('format')!r:.100}")
    body, _, ending = content.rpartition(CHECKSUM_LINE)
    if ending != _ending(body):
        raise InputError(f"{path}: wanted the manifest that was written, got a damaged one")
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise InputError(f"{path}: wanted a size and a sha256 for each file, got {files!r:.100}")
    for name, entry in files.items():
        if not _is_plain(name):
            raise InputError(f"{path}: wanted names of files in this folder, got {name!r:.100}")
        if not _is_entry(entry):
            raise InputError(f"{path}: wanted a size and a sha256 for {name}, got {entry!r:.100}")
    for name in required:
        if name not in files:
            raise InputError(f"{path}: wanted an entry for {name}, got none")
    return SealedFolder(path=folder, facts=manifest, files=files)


def refuse_strangers(folder: Path) -> None:
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


def _ending(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def _is_plain(name: str) -> bool:
    """Whether a name is one of a file right here, on every system."""
    return name not in ("", ".", "..", MANIFEST) and not set(name) & set('/\\:\0\n"')


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or set(entry) != {"size", "sha256"}:
        return False
    return type(entry["size"]) is int and isinstance(entry["sha256"], str)


def _described(facts: Mapping[str, Any]) -> str:
    digest = f", sha256 {facts['sha256'][:12]}..." if facts["sha256"] else ""
    return f"{facts['size']} bytes{digest}"
