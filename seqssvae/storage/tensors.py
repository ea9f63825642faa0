"""Tensors in safetensors files, whose header is believed only where the file bears it out."""

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from seqssvae.errors import InputError
from seqssvae.storage.files import line_of, readable

PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file; it refuses tensors that share memory, so each is copied."""
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    content: bytes = safetensors.torch.save(copies, metadata={"format": "pt"})
    return content


def from_bytes(content: bytes, where: Path) -> dict[str, Tensor]:
    """What `to_bytes` wrote, on the CPU, in memory of its own.

    Raises:
        InputError: the bytes are no safetensors.
    """
    try:
        return {name: value.clone() for name, value in safetensors.torch.load(content).items()}
    except (SafetensorError, KeyError, ValueError) as error:  # a type that torch has not
        raise InputError(f"{where}: wanted safetensors, got {_found(content, error)}") from error


def check_header(path: Path, wanted: Mapping[str, Tensor]) -> None:
    """Hold a file's header to the tensors that are wanted, before any of it is read.

    safetensors itself refuses a header whose sizes are not the file's.

    Args:
        path: The file.
        wanted: Tensors, for instance on the meta device; their shapes are compared, and whether
            they are floats.

    Raises:
        InputError: no safetensors, or other names, shapes or kinds of number.
    """
    try:
        with readable(path), safetensors.safe_open(path, framework="pt") as file:
            names = set(file.keys())
            for name in sorted(names ^ set(wanted)):
                got = "one more" if name in names else "none"
                raise InputError(f"{path}: wanted the weights of the config, got {got}: {name}")
            for name, tensor in wanted.items():
                found = file.get_slice(name)
                shape, is_float = list(found.get_shape()), _is_float(found.get_dtype())
                if shape != list(tensor.shape) or is_float != tensor.is_floating_point():
                    raise InputError(
                        f"{path}: wanted {name} of shape {list(tensor.shape)}, got {shape} of "
                        f"{found.get_dtype()}"
                    )
    except SafetensorError as error:
        with readable(path), open(path, "rb") as start:
            found_instead = _found(start.read(8), error)
        raise InputError(f"{path}: wanted safetensors, got {found_instead}") from error


def _is_float(dtype: str) -> bool:
    return dtype in ("F64", "F32", "F16", "BF16")


def _found(content: bytes, error: Exception) -> str:
    return "a pickle" if content.startswith(PICKLE_STARTS) else line_of(error)
