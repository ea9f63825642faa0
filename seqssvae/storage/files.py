"""Files that are whole or absent, and readers whose errors are one line."""

import contextlib
import fcntl
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from seqssvae.errors import InputError


def write_atomically(path: Path, content: bytes) -> None:
    """As `write_atomically_by`, of some bytes."""
    write_atomically_by(path, lambda file: file.write(content))


def write_atomically_by(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside `path`, flush it to the disk, and rename it.

    A reader of `path` gets the old content or the new one, whole. Other than regular files
    (`/dev/stdout`, a pipe) are written to directly, and a link is followed.

    Args:
        path: File in a folder that exists.
        write: Writes the content to an open file.

    Raises:
        InputError: the folder is missing or cannot be written to.
    """
    with writable(path):
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                write(file)
            return
        target = path.resolve()
        beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}")
        try:
            with beside.open("xb") as file:
                write(file)
            flush(beside)
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        flush(target.parent)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """As `write_atomically`, of lines in UTF-8; the folder is made if it is not there.

    Raises:
        InputError: the folder or the file cannot be written.
    """
    with writable(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically_by(path, lambda file: file.writelines(f"{line}\n".encode() for line in lines))


def write_new(path: Path, content: bytes) -> None:
    """Write a file that does not exist yet.

    Raises:
        OSError: it cannot be written, or exists.
    """
    with open(path, "xb") as file:
        file.write(content)


def remove_folder(path: Path) -> None:
    """Delete a folder, if there is one.

    Raises:
        InputError: it cannot be deleted.
    """
    with writable(path):
        if path.is_dir():
            shutil.rmtree(path)


def check_output(path: Path, flag: str, *, makes_folders: bool = False) -> None:
    """Make sure that a file or a folder can be written, before the work for it.

    Args:
        path: What will be written.
        flag: Names it in an error, as `--out`.
        makes_folders: Whether the folders that it lies in are made.

    Raises:
        InputError: its folder is missing or cannot be written to.
    """
    folder = path.absolute().parent
    while makes_folders and not folder.exists():
        folder = folder.parent
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        got = "one without permission" if folder.is_dir() else "none"
        raise InputError(f"{flag} {path}: wanted a folder {folder} to write to, got {got}")


@contextlib.contextmanager
def locked(folder: Path, *, is_file: bool = False) -> Iterator[None]:
    """Hold a folder for one process; it is made, and removed if nothing was written to it.

    Where the file system has no locks, nothing is held.

    Args:
        folder: The folder, or a file.
        is_file: Whether it is a file.

    Raises:
        InputError: another process holds it, or it cannot be made.
    """
    kind = "file" if is_file else "folder"
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with writable(folder):
        (folder.parent if is_file else folder).mkdir(parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY if is_file else os.O_RDONLY
        descriptor = os.open(folder, flags, 0o666)
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                wanted = f"{folder}: wanted a {kind} that no other process writes to"
                raise InputError(f"{wanted}, got one in use") from error
        yield
    finally:
        if is_file and folder in made and not os.fstat(descriptor).st_size:
            folder.unlink(missing_ok=True)
        os.close(descriptor)
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def flush(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk.

    Raises:
        OSError: the disk refuses.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        InputError: it cannot be read.
    """
    with readable(path):
        return path.read_bytes()


def parse_json(content: bytes, kind: type, where: object) -> Any:
    """The value of a JSON text.

    Args:
        content: Bytes in UTF-8.
        kind: Expected type, `dict` or `list`.
        where: The file, and the line if there are several; put before every error.

    Raises:
        InputError: bad UTF-8 or JSON, brackets too deep, or another kind of value.
    """
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise InputError(f"{where}: wanted JSON, got brackets too deep") from error
    except ValueError as error:  # bad UTF-8 too
        raise InputError(f"{where}: wanted JSON, got {line_of(error)}") from error
    if not isinstance(value, kind):
        raise InputError(f"{where}: wanted a JSON {kind.__name__}, got {type(value).__name__}")
    return value


def to_json(value: Any, *, indent: int | None = 1) -> bytes:
    """Plain values as JSON with a final newline; numbers that are not finite become null."""
    return json.dumps(_plain(value), allow_nan=False, indent=indent).encode() + b"\n"


def _plain(value: Any) -> Any:
    """Convert to values of JSON: NumPy's numbers, paths as strings, NaN and infinity as None."""
    match value:
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case str() | bytes():
            return value
        case Sequence():
            return [_plain(item) for item in value]
        case np.generic():
            return _plain(value.item())
        case float():
            return value if math.isfinite(value) else None
        case Path():
            return str(value)
    return value


def line_of(error: Exception) -> str:
    """An error in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn errors of the system into one line.

    Raises:
        InputError: something inside could not be written.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: wanted to write it, got {error.strerror}") from error


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """As `writable`, for reading.

    Raises:
        InputError: something inside could not be read.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: wanted a readable file, got {error.strerror}") from error
    except ValueError as error:  # a NUL in a name
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: wanted a readable file, got {line_of(error)}") from error
