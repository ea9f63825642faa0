"""Files that are made once and kept beside those of `datasets`, whole or absent."""

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from seqssvae.config import InputError
from seqssvae.files import flush

__all__ = ["cache_folder", "cached_file", "fingerprint"]


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            write(partial)
            flush(partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder.parent}: wanted a cache that can be written (set HF_HOME to another folder), "
            f"got: {error.strerror or error}"
        ) from error
    return path
