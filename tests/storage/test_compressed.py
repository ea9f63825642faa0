"""Compressed files, read by the ending of their names."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

from seqssvae.data.readers import iterate_rows
from seqssvae.errors import InputError
from seqssvae.storage.compressed import NAMES, decompressed, split_ending

CONTENT = "text,label\n" + "".join(f"row {i * i},{i % 2}\n" for i in range(5000))


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (*names, "folder/", "__MACOSX/._rows.csv", ".DS_Store"):
            archive.writestr(name, CONTENT)
    return stream.getvalue()


def by_zstandard(content: bytes) -> bytes:
    return bytes(pyarrow.compress(content, codec="zstd", asbytes=True))


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": by_zstandard,
    "zip": lambda content: zipped("a name without an ending"),
}


@pytest.mark.parametrize("ending", NAMES)
def test_rows_of_compressed_files(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"Rows.CSV.{ending.upper()}"
    path.write_bytes(COMPRESS[ending](CONTENT.encode()))
    assert split_ending(path) == ("Rows.CSV", ending)
    rows = list(iterate_rows(path))
    assert [row.sequence for row in rows] == [f"row {i * i}" for i in range(5000)]


@pytest.mark.parametrize("ending", NAMES)
def test_a_stream_without_a_name(ending: str) -> None:
    """Its kind is seen by its start; what is not compressed is returned as it is."""
    content = CONTENT.encode()
    assert decompressed(COMPRESS[ending](content)) == content
    assert decompressed(b"BZh is no ending") == b"BZh is no ending"
    with pytest.raises(InputError, match=f"^standard input: wanted a whole {NAMES[ending]} file"):
        decompressed(COMPRESS[ending](content)[:-200])


@pytest.mark.parametrize("ending", NAMES)
@pytest.mark.parametrize("is_cut", [True, False])
def test_damage_is_one_line(tmp_path: Path, ending: str, is_cut: bool) -> None:
    path = tmp_path / f"rows.csv.{ending}"
    path.write_bytes(COMPRESS[ending](CONTENT.encode())[:-200] if is_cut else b"something else")
    wanted = rf"rows.csv.{ending}:\d+: wanted a whole {NAMES[ending]} file, got damage after line"
    with pytest.raises(InputError, match=wanted) as caught:
        list(iterate_rows(path))
    assert "\n" not in str(caught.value)


def test_a_zip_file_has_the_format_of_its_content(tmp_path: Path) -> None:
    path = tmp_path / "download.zip"
    path.write_bytes(zipped("some/folder/rows.csv"))
    assert len(list(iterate_rows(path))) == 5000
    for names, got in ((("a.csv", "b.csv"), "got 2: a.csv, b.csv"), ((), "got none")):
        path.write_bytes(zipped(*names))
        with pytest.raises(InputError, match=f"download.zip: wanted a zip .* of one file, {got}"):
            list(iterate_rows(path))
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match="download.zip: wanted a whole zip file, got: File is not"):
        list(iterate_rows(path))


def test_an_encrypted_zip_file_is_one_line(tmp_path: Path) -> None:
    path, content = tmp_path / "rows.csv.zip", bytearray(zipped("rows.csv"))
    content[6] |= 1  # of the flags of the first file, here and in the table at the end
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="rows.csv.zip:1: wanted a whole zip file, got .*password"):
        list(iterate_rows(path))
