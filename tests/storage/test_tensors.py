"""safetensors files, and headers that promise what the file does not hold."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from seqssvae.errors import InputError
from seqssvae.storage.tensors import check_header, from_bytes, to_bytes

WANTED = {"a": torch.empty(2, 3, device="meta"), "b": torch.empty((), dtype=torch.int64)}


def write(path: Path, header: Any, num_bytes: int = 32) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(num_bytes))
    return path


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_round_trip(tmp_path: Path) -> None:
    a = torch.arange(6.0, dtype=torch.float32).view(2, 3)
    content = to_bytes({"a": a, "b": torch.tensor(7)})
    (tmp_path / "x").write_bytes(content)
    check_header(tmp_path / "x", WANTED)
    found = from_bytes(content, tmp_path / "x")
    assert torch.equal(found["a"], a) and int(found["b"]) == 7
    found["a"].add_(1)  # the memory is its own
    assert torch.equal(from_bytes(content, tmp_path / "x")["a"], a)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry([10**9, 10**9], 0, 24), "b": entry([], 24, 32, "I64")}, "wanted safetensors"),
        ({"a": entry([2, 3], 0, 10**15), "b": entry([], 24, 32, "I64")}, "wanted safetensors"),
        ({"a": entry([2**62, 2**62], 0, 24)}, "wanted safetensors"),
        ({"a": entry([-2, -3], 0, 24)}, "wanted safetensors"),
        ({"a": entry([2, 3], 0, 24), "b": entry([2], 8, 16)}, "wanted safetensors"),
        ({"a": entry([2, 3], 0, 24, "X9"), "b": entry([], 24, 32, "I64")}, "wanted safetensors"),
        ({"a": entry([3, 2], 0, 24), "b": entry([], 24, 32, "I64")}, r"wanted a of shape \[2, 3\]"),
        ({"a": entry([2, 3], 0, 24), "b": entry([], 24, 32, "F64")}, "wanted b of shape"),
        ({"a": entry([2, 3], 0, 24), "c": entry([], 24, 32, "I64")}, "got none: b"),
        ({"a": entry([8], 0, 32)}, "got none: b"),
        (b"{", "wanted safetensors"),
        (b"[" * 10**5, "wanted safetensors"),
    ],
)
def test_headers_that_are_refused(tmp_path: Path, header: Any, message: str) -> None:
    path = write(tmp_path / "x", header)
    with pytest.raises(InputError, match=f"x: .*{message}") as caught:
        check_header(path, WANTED)
    assert "\n" not in str(caught.value)
    if message == "wanted safetensors":
        with pytest.raises(InputError, match="x: wanted safetensors, got"):
            from_bytes(path.read_bytes(), path)


def test_some_tensors_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(to_bytes({"a": torch.zeros(2, 3)}))
    check_header(tmp_path / "x", WANTED, optional=("b",))
    with pytest.raises(InputError, match="got none: b"):
        check_header(tmp_path / "x", WANTED, optional=("a",))
    (tmp_path / "x").write_bytes(to_bytes({"a": torch.zeros(2, 3), "b": torch.zeros(4)}))
    with pytest.raises(InputError, match="wanted b of shape"):
        check_header(tmp_path / "x", WANTED, optional=("b",))


def test_a_header_longer_than_the_file(tmp_path: Path) -> None:
    for content in (b"", b"\0" * 8, struct.pack("<Q", 2**62), struct.pack("<Q", 10**9) + b"{}"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(InputError, match="x: wanted"):
            check_header(tmp_path / "x", WANTED)
        with pytest.raises(InputError, match="x: wanted"):
            from_bytes(content, tmp_path / "x")
