"""Cached files, beside those of `datasets`: whole or absent."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from seqssvae.errors import InputError
from seqssvae.storage.files import flush


def cache_folder() -> Path:
    """`seqssvae` in the cache folder of `datasets`, by default `HF_HOME/datasets`."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "seqssvae"


def fingerprint(*parts: object) -> str:
    """A checksum of numbers, strings and tuples of them, for the name of a cached file."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def cached_file(
    name: str, write: Callable[[Path], None], *, is_whole: Callable[[Path], bool]
) -> Path:
    """A file of the cache, written first if it is missing or damaged.

    It is written under another name, flushed to the disk and renamed, so that no process reads an
    incomplete one.

    Args:
        name: File name, with a fingerprint of all that the content depends on.
        write: Writes the content to a new file.
        is_whole: Whether an existing file can be read.

    Raises:
        InputError: the folder cannot be written to; errors of `write` are not changed.
    """
    folder = cache_folder()
    path = folder / name
    if path.is_file() and is_whole(path):
        return path
    partial = folder / f".{name}.{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(partial)
        flush(partial)
        os.replace(partial, path)
    except OSError as error:
        raise InputError(
            f"{folder.parent}: wanted a cache that can be written (set HF_HOME to another folder), "
            f"got: {error.strerror or error}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return path
