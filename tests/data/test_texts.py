"""Lines of text, FASTA records and lines of fastText."""

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from seqssvae.config import Config
from seqssvae.data.columns import ColumnChoice
from seqssvae.data.prepare import prepare
from seqssvae.data.readers import iterate_rows
from seqssvae.errors import InputError
from seqssvae.overrides import override

FASTA = ">sp|P1|A kinase OS=human\nMKV L\n\nacgt\r\n>P2 other\nmk*-\n>P2\nMK\n"


def write(path: Path, content: str) -> Path:
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


def read(path: Path, **columns: Any) -> list[tuple[int, Any, Any]]:
    rows = iterate_rows(path, ColumnChoice(**columns))
    return [(row.number, row.sequence, row.label) for row in rows]


@pytest.mark.parametrize("name", ["a.fa", "a.fasta", "a.FAA", "a.fna", "a.fas", "a.fasta.gz"])
def test_fasta_records(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, FASTA)
    assert read(path) == [(1, "MKVLACGT", None), (5, "MK*-", None), (7, "MK", None)]
    assert [row.id for row in iterate_rows(path)] == ["sp|P1|A", "P2", "P2-2"]


@pytest.mark.parametrize(
    ("pattern", "labels"),
    [
        (r"OS=(\w+)", ["human", None, None]),
        (r"kinase|other", ["kinase", "other", None]),
        (r" (?:OS=)?(x)?", [None, None, None]),
        (r"^P(\d)", [None, "2", "2"]),
    ],
)
def test_labels_in_headers(tmp_path: Path, pattern: str, labels: list[str | None]) -> None:
    path = write(tmp_path / "a.fa", FASTA)
    assert [row[2] for row in read(path, pattern=pattern)] == labels
    assert [row[2] for row in read(path, pattern=pattern, read_labels=False)] == [None] * 3


def test_the_pattern_is_a_setting(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fa", "".join(f">{i} {'uv'[i % 2]}\nM{'K' * i}\n" for i in range(10)))
    config = override(Config(), {"data.label_pattern": "u|v"})
    prepared = prepare(config, path)
    assert prepared.labels.names == ("u", "v") and prepared.vocabulary.kind == "characters"
    with pytest.raises(InputError, match=r"a\.fa: wanted a label .*--label-pattern REGEX for"):
        prepare(Config(), path)
    with pytest.raises(InputError, match=r"^--label-pattern: wanted a regular .*, got '\('"):
        prepare(override(Config(), {"data.label_pattern": "("}), path)


def test_a_txt_file_with_fasta_records_is_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", ">P1 u\nMK\nvl\n>P2 v\nMK\n")
    assert read(path, pattern=r" (\w)") == [(1, "MKVL", "u"), (4, "MK", "v")]
    for content in (">quoted mail\n> more of it\n", "> P1\nMK\n", ">P1\nMK VL\n", "MK\n>P1\nMK\n"):
        lines = content.splitlines()
        assert [row[1] for row in read(write(tmp_path / "b.txt", content))] == lines


def test_lines_of_fasttext(tmp_path: Path) -> None:
    content = (
        "no label\n__label__a good  text\r\n__label__a __label__b-c\tboth \nsee __label__a\n"
        "__label__ x\n"
    )
    path = write(tmp_path / "a.txt", content)
    wanted = ["no label", "good  text", "both ", "see __label__a", "__label__ x"]
    assert [row[1] for row in read(path)] == wanted
    labels = [None, "a", ("a", "b-c"), None, None]
    assert [row[2] for row in read(path)] == labels == [row[2] for row in read(path, label="label")]
    assert [row[1:] for row in read(path, read_labels=False)] == [(text, None) for text in wanted]
    late = write(tmp_path / "late.txt", "text\n" * 10 + "__label__a b\n")
    assert read(late)[10] == (11, "__label__a b", None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.fa", "", "a.fa:1: wanted a row, got an empty file"),
        ("a.fa", "\nMK\n>a\n", "a.fa:2: wanted the header of a FASTA record, >..., got 'MK"),
        ("a.fa", ">a\nMK\n>b\n\n>c\nMK\n", "a.fa:3: wanted a text, got an empty one"),
        ("a.fa", ">a\n" + ("A" * 100 + "\n") * 10_000, "a.fa:1: wanted a sequence of fewer than"),
        ("a.txt", "__label__a text\n__label__a\n", "a.txt:2: wanted a text, got an empty one"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / name, content))


def test_columns_of_other_formats_are_absent(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fa", FASTA)
    assert len(read(path, text="sequence")) == 3
    for named in ({"text": "body"}, {"tokens": "tokens"}, {"label": "label"}):
        with pytest.raises(InputError, match=r"a\.fa:1: wanted a column .*got 'sequence', 'id'"):
            read(path, **named)


def test_a_genome_is_refused_without_being_held_in_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fa", ">a\n" + ("A" * 100 + "\n") * 100_000)
    tracemalloc.start()
    with pytest.raises(InputError, match="fewer than 1,000,000"):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000  # of a file of 10 MB


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "windows-1252", "UTF8"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl.gz", "a.txt", "a.fasta"])
def test_other_encodings_are_read_as_they_are_named(
    tmp_path: Path, name: str, encoding: str
) -> None:
    lines = {"a.csv": ["text", "grün"], "a.txt": ["grün"], "a.fasta": [">grün", "ACGT"]}
    text = "\r\n".join(lines.get(name, ['{"text": "grün"}'])) + "\r\n"
    path, content = tmp_path / name, text.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    (row,) = iterate_rows(path, ColumnChoice(encoding=encoding))
    assert "grün" in (row.sequence, row.id)
    if encoding == "UTF8":
        return
    wanted = "UTF-16, which --encoding utf-16.* reads"
    if encoding == "windows-1252":
        wanted = r"the byte 0xfc .* \(--encoding windows-1252 reads"
    with pytest.raises(InputError, match=rf"{name}:\d: wanted UTF-8, got {wanted}"):
        list(iterate_rows(path))


@pytest.mark.parametrize(
    ("encoding", "content", "message"),
    [
        ("klingon", b"a", "--encoding: wanted an encoding that Python knows, .*, got 'klingon'"),
        ("zip", b"a", "--encoding: wanted an encoding that Python knows, .*, got 'zip'"),
        (
            "ascii",
            b"a\n\xff\n",
            r"a.txt:1: wanted ascii \(--encoding\), got other bytes after",
        ),
    ],
)
def test_an_encoding_that_does_not_fit_is_one_line(
    tmp_path: Path, encoding: str, content: bytes, message: str
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(iterate_rows(tmp_path / "a.txt", ColumnChoice(encoding=encoding)))
