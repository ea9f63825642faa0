"""Sealed folders; what runs and checkpoints make of them stands in their own tests."""

from pathlib import Path

import pytest

from seqssvae.errors import InputError
from seqssvae.storage.manifest import measure, open_sealed, seal


def make(folder: Path) -> Path:
    folder.mkdir()
    (folder / "a").write_bytes(b"one")
    (folder / "b").write_bytes(b"")
    assert seal(folder, {"fact": "ü", "sha256": "of another"}, format=3) == ["a", "b", MANIFEST]
    return folder


MANIFEST = "manifest.json"


def test_what_is_sealed_can_be_opened_and_read(tmp_path: Path) -> None:
    sealed = open_sealed(make(tmp_path / "x"), format=3, required=("a",))
    assert sealed.read("a") == b"one" and sealed.read("b") == b""
    assert sealed.facts["fact"] == "ü"
    assert sealed.files["a"] == measure(tmp_path / "x" / "a") == {
        "size": 3,
        "sha256": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
    }  # fmt: skip


@pytest.mark.parametrize("position", [0, 5, -2, -3, -40, -80])
def test_every_byte_of_the_manifest_counts(tmp_path: Path, position: int) -> None:
    """Blanks too, which JSON would forgive."""
    folder = make(tmp_path / "x")
    content = bytearray((folder / MANIFEST).read_bytes())
    content[position] ^= 32 if chr(content[position]).isalpha() else 1
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(InputError, match="manifest.json: wanted"):
        open_sealed(folder, format=3, required=())


def test_blanks_that_are_added_are_seen(tmp_path: Path) -> None:
    folder = make(tmp_path / "x")
    content = (folder / MANIFEST).read_bytes()
    for other in (content + b"\n", b" " + content, content.replace(b": ", b":  ", 1)):
        (folder / MANIFEST).write_bytes(other)
        with pytest.raises(InputError, match="manifest.json: wanted the manifest that was written"):
            open_sealed(folder, format=3, required=())


def test_a_file_that_grew_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terabyte of holes takes no time."""
    sealed = open_sealed(make(tmp_path / "x"), format=3, required=())
    with open(tmp_path / "x" / "a", "r+b") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="a: wanted the file .* got a .* 1099511627776 bytes$"):
        sealed.check("a")


def test_a_manifest_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    folder = make(tmp_path / "x")
    with open(folder / MANIFEST, "r+b") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="manifest.json: wanted a manifest, got no regular file"):
        open_sealed(folder, format=3, required=())
