"""Compressed files, by the ending of their names."""

import bz2
import contextlib
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from seqssvae.errors import InputError
from seqssvae.storage.files import line_of, readable

NAMES = {"gz": "gzip", "bz2": "bzip2", "xz": "xz", "zst": "zstandard", "zip": "zip"}
DAMAGE = (
    *(EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile),
    *(NotImplementedError, RuntimeError),  # of zip files: other compressions, a password
)
STARTS = {  # of such files
    rb"\x1f\x8b": "gz",
    rb"BZh[1-9]1AY&SY": "bz2",
    rb"\xfd7zXZ\x00": "xz",
    rb"\x28\xb5\x2f\xfd": "zst",
    rb"PK\x03\x04": "zip",
}
STDIN = "standard input"  # in errors
HIDDEN = ("__MACOSX/", ".")  # starts of names in a zip file that are no content


def split_ending(path: Path) -> tuple[str, str]:
    """The name without the ending of a compressed file, and that: a key of `NAMES`, or "".

    A zip file whose name has no other ending has the name of its content.

    Raises:
        InputError: such a file cannot be read, or is not of one file.
    """
    name, _, ending = path.name.rpartition(".")
    ending = ending.lower()
    if ending not in NAMES:
        return path.name, ""
    if ending == "zip" and "." not in name:
        with readable(path):
            try:
                with zipfile.ZipFile(path) as archive:
                    name = _content_of(archive)
            except DAMAGE as error:
                raise InputError(
                    f"{path}: wanted a whole zip file, got: {line_of(error)}"
                ) from error
    return name, ending


@contextlib.contextmanager
def opened(path: Path, file: BinaryIO) -> Iterator[Any]:
    """The uncompressed content of an open file, by the ending of its path.

    Raises:
        InputError: a zip file of other than one file.
    """
    match split_ending(path)[1]:
        case "gz":
            yield gzip.open(file)
        case "bz2":
            yield bz2.open(file)
        case "xz":
            yield lzma.open(file)
        case "zst":
            import pyarrow

            yield io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"))
        case "zip":
            with zipfile.ZipFile(file) as archive:
                yield archive.open(_content_of(archive))
        case _:
            yield file


def decompressed(content: bytes) -> bytes:
    """The uncompressed content of standard input, whose kind is seen by its start.

    Args:
        content: All of it; what is not compressed is returned as it is.

    Raises:
        InputError: it is damaged, or a zip file of other than one file.
    """
    ending = next((e for start, e in STARTS.items() if re.match(start, content)), None)
    if ending is None:
        return content
    try:
        with opened(Path(f"{STDIN}.rows.{ending}"), io.BytesIO(content)) as file:
            return bytes(file.read())
    except (*DAMAGE, OSError) as error:
        raise InputError(
            f"{STDIN}: wanted a whole {NAMES[ending]} file, got: {line_of(error)}"
        ) from error


def is_damage(error: Exception) -> bool:
    """Whether reading failed because of the content of a compressed file, not of the system."""
    return isinstance(error, DAMAGE) or (isinstance(error, OSError) and error.errno is None)


def _content_of(archive: zipfile.ZipFile) -> str:
    """The name of the one file in a zip file."""
    names = [name for name in archive.namelist() if not name.endswith("/")]
    names = [name for name in names if not name.startswith(HIDDEN)]
    if len(names) != 1:
        got = f"{len(names)}: {', '.join(names[:3])}" if names else "none"
        raise InputError(f"{archive.filename or STDIN}: wanted a zip file of one file, got {got}")
    return names[0]
