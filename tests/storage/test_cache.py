"""Files of the cache: whole or absent."""

import os
from pathlib import Path

import pytest

from seqssvae.errors import InputError
from seqssvae.storage.cache import cache_folder, cached_file, fingerprint


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def get(name: str, content: bytes, *, size: int | None = None) -> bytes:
    def is_whole(path: Path) -> bool:
        return size is None or path.stat().st_size == size

    path = cached_file(name, lambda path: _write(path, content), is_whole=is_whole)
    assert path.parent == cache_folder()
    return path.read_bytes()


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def test_a_file_is_written_once(cache: Path) -> None:
    assert get("a", b"first") == b"first"
    assert get("a", b"second") == b"first"
    assert get("b", b"second") == b"second"
    assert sorted(path.name for path in (cache / "seqssvae").iterdir()) == ["a", "b"]


def test_a_damaged_file_is_written_again() -> None:
    assert get("a", b"first", size=5) == b"first"
    os.truncate(cache_folder() / "a", 3)
    assert get("a", b"third", size=5) == b"third"


def test_unfinished_files_are_not_read(cache: Path) -> None:
    """Neither after an error nor after a kill."""

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyError("stop")

    with pytest.raises(KeyError):
        cached_file("a", fail, is_whole=lambda _: True)
    assert not list((cache / "seqssvae").iterdir())
    (cache / "seqssvae" / ".a.0123").write_bytes(b"half")
    assert get("a", b"whole") == b"whole"


def test_a_folder_that_cannot_be_written_is_an_error(cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(InputError, match="cache: wanted a cache .*HF_HOME.*, got: "):
        get("a", b"")


def test_other_parts_have_other_fingerprints() -> None:
    parts: list[tuple[object, ...]] = [("a", "b"), ("ab",), ("a", "b", None), ("a", ("b",)), (1,)]
    assert len({fingerprint(*part) for part in parts}) == len(parts)
    assert fingerprint("a", 1) == fingerprint("a", 1)
    assert fingerprint("\udc80")
