"""Tensors in safetensors files, whose headers are compared with the expected tensors."""

from collections.abc import Collection, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from seqssvae.errors import InputError
from seqssvae.storage.files import line_of, readable

FLOATS = ("F64", "F32", "F16", "BF16")
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file; it refuses tensors that share memory, so each is copied."""
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    content: bytes = safetensors.torch.save(copies, metadata={"format": "pt"})
    return content


def from_bytes(content: bytes, where: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, on the CPU, in memory of their own.

    Raises:
        InputError: the bytes are no safetensors.
    """
    try:
        return {name: value.clone() for name, value in safetensors.torch.load(content).items()}
    except (SafetensorError, KeyError, ValueError) as error:  # a dtype unknown to torch
        raise InputError(f"{where}: wanted safetensors, got {_describe(content, error)}") from error


def check_header(
    path: Path,
    wanted: Mapping[str, Tensor],
    *,
    growing: Collection[str] = (),
    optional: Collection[str] = (),
) -> None:
    """Compare a file's header with the expected tensors, before any of it is read.

    safetensors itself refuses a header whose sizes are not the file's.

    Args:
        path: The file.
        wanted: Expected tensors, for instance on the meta device; shapes and whether they are
            floats are compared.
        growing: Names of those whose first dim may be shorter.
        optional: Names of those that may be missing.

    Raises:
        InputError: no safetensors, or other names, shapes or kinds of number.
    """
    try:
        with readable(path), safetensors.safe_open(path, framework="pt") as file:
            names = set(file.keys())
            for name in sorted(names ^ set(wanted).difference(set(optional) - names)):
                got = "one more" if name in names else "none"
                raise InputError(f"{path}: wanted the weights of the config, got {got}: {name}")
            for name, tensor in wanted.items():
                if name not in names:
                    continue
                stored = file.get_slice(name)
                shape, is_float = list(stored.get_shape()), stored.get_dtype() in FLOATS
                greatest = list(tensor.shape)
                is_short = name in growing and shape[:1] < greatest[:1]
                fits = shape[is_short:] == greatest[is_short:] and len(shape) == len(greatest)
                if not fits or is_float != tensor.is_floating_point():
                    raise InputError(
                        f"{path}: wanted {name} of shape {greatest}, got {shape} of "
                        f"{stored.get_dtype()}"
                    )
    except SafetensorError as error:
        with readable(path), open(path, "rb") as start:
            got = _describe(start.read(8), error)
        raise InputError(f"{path}: wanted safetensors, got {got}") from error


def _describe(content: bytes, error: Exception) -> str:
    return "a pickle" if content.startswith(PICKLE_STARTS) else line_of(error)
