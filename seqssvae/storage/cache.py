"""Files that are made once and kept beside those of `datasets`, whole or absent."""

import contextlib
import hashlib
import mmap
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from seqssvae.errors import InputError
from seqssvae.storage.files import flush

__all__ = ["cache_folder", "cached_file", "fingerprint", "zeros_in_a_file"]

BLOCK = 2**20  # bytes that are written at once


def cache_folder() -> Path:
    """`HF_HOME/datasets/seqssvae`, or wherever `datasets` keeps its own."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "seqssvae"


def fingerprint(*parts: object) -> str:
    """A name for what is made from these numbers, texts and tuples of them."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def cached_file(
    name: str, write: Callable[[Path], None], *, is_whole: Callable[[Path], bool]
) -> Path:
    """A file of the cache, written first if it is not there, or damaged.

    It is written beside its place, flushed to the disk and renamed: nobody finds a part of it.

    Args:
        name: Holds a fingerprint of all that the content depends on.
        write: Writes the content to a new file.
        is_whole: Says whether a file that is there can be read.

    Raises:
        InputError: the folder cannot be written to; and what `write` raises.
    """
    folder = cache_folder()
    path = folder / name
    if path.is_file() and is_whole(path):
        return path
    partial = folder / f".{name}.{secrets.token_hex(8)}"
    with _writable(folder):
        try:
            write(partial)
            flush(partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    return path


def zeros_in_a_file(size: int) -> mmap.mmap:
    """Bytes that are 0 at first, in a file of the cache that has no name and goes with them.

    Of memory that stands in a file the system keeps as much as there is room for.

    Args:
        size: How many, at least 1.

    Raises:
        InputError: the folder cannot be written to, or there is no room.
    """
    folder = cache_folder()
    with _writable(folder), tempfile.TemporaryFile(dir=folder) as file:
        for first in range(0, size, BLOCK):  # a full disk is found now, not when a page is written
            file.write(bytes(min(BLOCK, size - first)))
        file.flush()
        return mmap.mmap(file.fileno(), size)


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Make the folder, and turn what goes wrong on the disk into one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(
            f"{folder.parent}: wanted a cache that can be written (set HF_HOME to another folder), "
            f"got: {error.strerror or error}"
        ) from error
