"""Checkpoints: states to resume an unfinished run from, each a folder, whole or absent.

`RUN/checkpoints/N/` holds `tensors.safetensors`, `state.json` and `SHA256SUMS`; the greatest N is
the newest. Each is written as a folder with a dot before its name, flushed, and renamed: a kill
leaves at most such a folder, which the next start removes.
"""

import logging
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from seqssvae.errors import InputError
from seqssvae.storage.checksums import CheckedFolder, refuse_unsafe, seal
from seqssvae.storage.files import (
    flush,
    parse_json,
    readable,
    remove_folder,
    to_json,
    writable,
    write_new,
)
from seqssvae.storage.tensors import from_bytes, to_bytes

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
STATE, TENSORS = "state.json", "tensors.safetensors"
STAGING, DISCARDED = ".unfinished", ".discarded"
KEPT = 2  # the second is loaded if the newest is corrupt


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a new checkpoint, then remove the oldest.

    Args:
        folder: Folder of the run; created if it does not exist.
        state: Tensors, numbers, strings and None, in dicts (keys are strings or integers), lists
            and tuples.

    Raises:
        TypeError: anything else in `state`, which could not be loaded again.
        InputError: the folder cannot be written to; older checkpoints are as they were.
    """
    tensors: dict[str, Tensor] = {}
    packed = _pack(state, "state", tensors)
    path = folder / CHECKPOINTS
    with writable(path):
        if not path.is_dir():
            path.mkdir(parents=True)
            flush(folder)
            flush(folder.absolute().parent)
        staging = path / STAGING
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            write_new(staging / TENSORS, to_bytes(tensors))
            write_new(staging / STATE, to_json(packed, indent=None))
            seal(staging)
            numbers = _numbers(folder)
            os.rename(staging, path / str(max(numbers, default=0) + 1))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        flush(path)
        for number in numbers[: -(KEPT - 1)]:
            # renamed before its files are deleted, so that a numbered folder is always whole
            shutil.rmtree(path / DISCARDED, ignore_errors=True)
            os.rename(path / str(number), path / DISCARDED)
            shutil.rmtree(path / DISCARDED, ignore_errors=True)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint, on the CPU, or None if there is none.

    For a damaged one a warning is logged, and the one before it is loaded, if that is whole.

    Raises:
        InputError: none is whole; the message names the damaged file of the newest.
    """
    first_error: InputError | None = None
    for number in reversed(_numbers(folder)):
        try:
            return _load(folder / CHECKPOINTS / str(number))
        except InputError as error:
            logger.warning("%s; an older checkpoint is tried", error)
            first_error = first_error or error
    if first_error is not None:
        raise first_error
    return None


def has_checkpoint(folder: Path) -> bool:
    """Whether a run has a checkpoint, damaged or not."""
    return bool(_numbers(folder))


def remove_checkpoints(folder: Path) -> None:
    """Delete all checkpoints of a run, if there are any.

    Raises:
        InputError: they cannot be deleted.
    """
    remove_folder(folder / CHECKPOINTS)


def remove_leftovers(folder: Path) -> None:
    """Delete the files of killed saves.

    Raises:
        InputError: they cannot be deleted.
    """
    for name in (STAGING, DISCARDED):
        remove_folder(folder / CHECKPOINTS / name)


def _numbers(folder: Path) -> list[int]:
    """Numbers of the checkpoints, ascending."""
    path = folder / CHECKPOINTS
    with readable(path):
        names = [entry.name for entry in path.iterdir()] if path.is_dir() else []
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


def _load(folder: Path) -> dict[str, Any]:
    refuse_unsafe(folder)
    files = CheckedFolder.open(folder)
    tensors = from_bytes(files.read(TENSORS), folder / TENSORS)
    packed = parse_json(files.read(STATE), dict, folder / STATE)
    try:
        state: dict[str, Any] = _unpack(packed, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / STATE}: wanted a state, got another JSON text") from error
    return state


def _pack(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON without loss; its tensors are moved to `tensors`."""
    match value:
        case Tensor():
            tensors[where] = value
            return {"tensor": where}
        case np.generic():
            return _pack(value.item(), where, tensors)
        case float() if not math.isfinite(value):
            return {"float": str(value)}
        case str() | int() | float() | None:
            return value
        case Mapping():
            if not all(isinstance(key, str | int) for key in value):
                raise TypeError(f"{where}: wanted strings or integers for keys, got others")
            names = {key: f"{where}[{key!r}]" for key in value}
            return {"dict": [[key, _pack(value[key], names[key], tensors)] for key in value]}
        case list() | tuple():
            items = [_pack(item, f"{where}[{i}]", tensors) for i, item in enumerate(value)]
            return items if isinstance(value, list) else {"tuple": items}
    raise TypeError(f"{where}: wanted a tensor or a plain value, got {type(value).__name__}")


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `_pack`."""
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "float":
            return float(content)
        case "dict":
            return {key: _unpack(item, tensors) for key, item in content}
        case "tuple":
            return tuple(_unpack(item, tensors) for item in content)
    raise ValueError(f"wanted a tensor, float, dict or tuple, got {kind}")
