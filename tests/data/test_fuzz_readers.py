"""Files of any content: their rows, or one InputError; rows of any labels: their parts."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seqssvae.config import Config
from seqssvae.data.columns import ColumnChoice
from seqssvae.data.corpus import gather_corpus
from seqssvae.data.prepare import prepare
from seqssvae.data.readers import iterate_rows
from seqssvae.data.rows import Row, is_missing, name_of
from seqssvae.errors import InputError
from seqssvae.overrides import override
from tests.support.rows import write_rows
from tests.support.strategies import any_texts, cases, only_input_errors, texts, values

NAMES = ["a.jsonl", "a.csv", "a.tsv", "a.txt", "a.parquet", "a.jsonl.gz", "a.csv.gz", "a.txt.gz"]
FRAGMENTS = [
    *(b'{"text": "ab"}', b'{"text": "a", "label": "l"}', b'{"text":', b'"', b"[1]", b"null", b"{}"),
    *(b"text,label", b"text\tlabel", b'a,"b', b'"a""b",c', b"a,b,c"),
    *(b",", b"\t", b"text", b"label"),
    *(b"\n", b"\n", b"\r\n", b"\r", b"\0", b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\x80", b"\xc3"),
    *(b"PAR1", b"\x1f\x8b\x08\0", b"1e5", b"NA", b"\\ud800", b"\\u0000", b"a b", b" ", b"'", b"\\"),
]


no_lists = texts.filter(lambda text: text[:1] + text[-1:] != "[]")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


def read(path: Path) -> list[Row]:
    return list(iterate_rows(path))


def table(rows: list[list[str]], delimiter: str, end: str) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(  # without quotes a lone CR would end a row
        stream, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL
    )
    writer.writerows(rows)
    return stream.getvalue().encode()


@cases(60)
@given(
    name=st.sampled_from(NAMES),
    content=st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=8), max_size=20).map(b"".join),
    zipped=st.booleans(),
)
def test_any_bytes(tmp_path: Path, name: str, content: bytes, zipped: bool) -> None:
    path = tmp_path / name
    if zipped or path.suffix != ".gz":
        written(path, content)
    else:
        path.write_bytes(content)
    with only_input_errors():
        for row in read(path):
            assert isinstance(row.sequence, str) and row.sequence


@cases(60)
@given(rows=st.lists(st.tuples(texts, no_lists, texts), min_size=1, max_size=5), data=st.data())
@example(rows=[("a\r", "NA", "1")], data=None)
@example(rows=[("1e5", " A ", "\ufeff"), ("007", "a", "")], data=None)
def test_tables_are_read_as_they_were_written(
    tmp_path: Path, rows: list[tuple[str, str, str]], data: Any
) -> None:
    """Cells are read unchanged; an error needs an empty text."""
    suffix, delimiter = ("csv", ",") if data is None else data.draw(
        st.sampled_from([("csv", ","), ("tsv", "\t"), ("csv.gz", ",")])
    )  # fmt: skip
    end = "\n" if data is None else data.draw(st.sampled_from(["\n", "\r\n"]))
    header = ["text", "label", "id"]
    path = written(
        tmp_path / f"a.{suffix}", table([header, *(list(row) for row in rows)], delimiter, end)
    )
    try:
        found = list(iterate_rows(path, ColumnChoice(quotes="always")))
    except InputError as error:
        assert "" in [text for text, _, _ in rows], error
        return
    labels = ["" if is_missing(label) else name_of(label) for _, label, _ in rows]
    assert [(row.sequence, row.label or "") for row in found] == [
        (text, label) for (text, _, _), label in zip(rows, labels, strict=True)
    ]
    given_ids = [id for _, _, id in rows]
    for row, id in zip(found, given_ids, strict=True):
        assert (
            is_missing(id)
            or row.id == name_of(id)
            or (row.repeats_id and row.id.startswith(f"{name_of(id)}-"))
        )


@cases(60)
@given(
    records=st.lists(
        values
        | st.dictionaries(st.sampled_from(["text", "tokens", "label", "id", "more"]), values),
        min_size=1,
        max_size=4,
    )
)
@example(records=[{"text": "a", "label": -1}, {"text": "a", "label": 10**400}])
@example(records=[{"text": "\ud800"}])
@example(records=[{"text": "a", "label": ["A", 1, "A"]}])
def test_json_values_of_any_type(tmp_path: Path, records: list[Any]) -> None:
    """Only texts, tokens and labels of the stated types are taken, and taken as they are."""
    path = write_rows(tmp_path / "a.jsonl", records)
    with only_input_errors():
        found = read(path)
        assert len(found) == len(records)
        for row, record in zip(found, records, strict=True):
            tokens = record.get("tokens")
            if isinstance(tokens, list):
                tokens = [name_of(token) for token in tokens]
            assert row.sequence in (record.get("text"), tokens)
            label = record.get("label")
            if not isinstance(label, list):
                assert row.label == (None if is_missing(label) else name_of(label))


@cases(50)
@given(
    lines=st.lists(texts.filter(lambda text: "\n" not in text and text[-1:] != "\r")),
    mark=st.sampled_from(["", "\ufeff"]),
    end=st.sampled_from(["\n", "\r\n"]),
    is_ended=st.booleans(),
)
def test_txt_lines(tmp_path: Path, lines: list[str], mark: str, end: str, is_ended: bool) -> None:
    """The last line may have no end."""
    content = mark + end.join(lines) + end * is_ended
    *expected, last = content.removeprefix("\ufeff").split(end)
    expected += [last] * bool(last)
    try:
        found = read(written(tmp_path / "a.txt.gz", content.encode()))
    except InputError:
        assert "" in expected or not expected
    else:
        assert [row.sequence for row in found] == expected
        assert [row.number for row in found] == list(range(1, len(expected) + 1))


@cases(30)
@given(
    sequences=st.lists(texts, min_size=1, max_size=4),
    labels=st.sampled_from([["NA"], [1], [-1], [1.5], [None], [b"\xff"], [True], [["A", "B"]]]),
)
def test_parquet_columns_of_any_type(
    tmp_path: Path, sequences: list[str], labels: list[Any]
) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = {"text": sequences, "label": labels * len(sequences)}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    with only_input_errors():
        found = read(tmp_path / "a.parquet")
        assert [row.sequence for row in found] == sequences
        wanted: dict[str, Any] = {"NA": "NA", "1": "1", "-1": "-1", "True": "True"}
        wanted |= {"None": None, "['A', 'B']": ("A", "B")}
        assert [row.label for row in found] == [wanted[str(labels[0])]] * len(sequences)


@cases(20)
@given(name=any_texts)
@example(name="a\0.jsonl")
@example(name="\ud800.csv")
def test_any_name_of_a_file(name: str) -> None:
    with pytest.raises(InputError):
        read(Path(name))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.txt", "a.txt.gz"])
def test_ten_megabytes_in_a_line(tmp_path: Path, name: str) -> None:
    text = "a" * 10_000_000
    content = {"jsonl": json.dumps({"text": text}), "txt": text}.get(name.split(".")[1])
    path = written(tmp_path / name, (f"text\n{text}\n" if content is None else content).encode())
    with pytest.raises(InputError, match=r"fewer than 1,000,000"):
        read(path)


def test_a_duplicate_key_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", b'{"text": "ab", "label": "x", "text": "cd"}\n')
    with pytest.raises(InputError, match=r"a.jsonl:1: .*the key 'text' twice"):
        read(path)


def odd_name(name: str, data: st.DataObject) -> str:
    """A name of a column as other programs write it."""
    cased = data.draw(st.sampled_from([name, name.upper(), name.title()]))
    return data.draw(st.sampled_from(["{}", " {}", "{} ", "\ufeff{}", "\t{}"])).format(cased)


@cases(60)
@given(
    kinds=st.lists(st.sampled_from(["text", "label", "id", "more"]), min_size=1, max_size=5),
    suffix=st.sampled_from(["csv", "tsv", "jsonl"]),
    data=st.data(),
)
def test_any_header(tmp_path: Path, kinds: list[str], suffix: str, data: st.DataObject) -> None:
    """Columns are found whatever their case and space, and are never taken for another."""
    names = [odd_name(kind, data) for kind in kinds]
    rows = [[f"{kind} {number}" for kind in kinds] for number in range(3)]
    path = tmp_path / f"a.{suffix}"
    if suffix == "jsonl":
        write_rows(path, [dict(zip(names, row, strict=True)) for row in rows])
    else:
        path.write_bytes(table([names, *rows], "," if suffix == "csv" else "\t", "\n"))
    try:
        found = read(path)
    except InputError:
        assert "text" not in kinds or any(kinds.count(kind) > 1 for kind in kinds)
        return
    for number, row in enumerate(found):
        assert row.sequence == f"text {number}"
        assert row.label in (None, f"label {number}")
        assert (row.label is None) == ("label" not in kinds)


@cases(100)
@given(
    lines=st.lists(
        st.lists(st.sampled_from(['"', "a", " ", "'", '""', "x y"]), max_size=4).map("".join),
        min_size=1,
        max_size=8,
    ),
    suffix=st.sampled_from(["csv", "tsv"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_no_quote_swallows_rows_in_silence(
    tmp_path: Path, lines: list[str], suffix: str, end: str
) -> None:
    """Each line has a delimiter: a cell of several lines holds one, which is said."""
    delimiter = "," if suffix == "csv" else "\t"
    lines = [f"t{line}{delimiter}l" for line in lines]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(end.join([f"text{delimiter}label", *lines, ""]).encode())
    as_they_are = iterate_rows(path, ColumnChoice(quotes="never"))
    assert [f"{row.sequence}{delimiter}{row.label}" for row in as_they_are] == lines
    path.write_bytes(end.join([f"text{delimiter}label", *(one[1:] for one in lines), ""]).encode())
    with only_input_errors():
        found = read(path)
        assert len(found) == len(lines) or any(row.is_doubtful for row in found)


@cases(60)
@given(
    sequences=st.lists(texts.filter(bool), min_size=1, max_size=3),
    encoding=st.sampled_from(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]),
    name=st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.csv.gz"]),
)
def test_any_encoding(tmp_path: Path, sequences: list[str], encoding: str, name: str) -> None:
    """Rows are the same in each encoding, if it is named; if not, they are not others."""
    texts = [one.encode(encoding, "ignore").decode(encoding) or "x" for one in sequences]
    content = "".join(f"{json.dumps({'text': one}, ensure_ascii=False)}\n" for one in texts)
    if "jsonl" not in name:
        delimiter = "," if "csv" in name else "\t"
        content = table([["text"], *([one] for one in texts)], delimiter, "\n").decode()
    path = written(tmp_path / name, content.encode(encoding))
    found = iterate_rows(path, ColumnChoice(encoding=encoding, quotes="always"))
    assert [row.sequence for row in found] == texts
    with only_input_errors():
        plain = [row.sequence for row in iterate_rows(path, ColumnChoice(quotes="always"))]
        assert plain == texts or encoding in ("cp1252", "latin-1")


WORDS = ["a", "b", " a", "NA", "?", "", " ", "null", "unknown", "-1", "0", "1.0", "True", "\u00e9"]


@cases(60)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["one", "two", "three", "four", "five", "six"]),
            st.sampled_from([*WORDS, None, 1, True, ["a", "b"], ["a"]]),
        ),
        min_size=1,
        max_size=40,
    ),
    seed=st.integers(0, 3),
)
def test_any_labels_and_copies(rows: list[tuple[str, Any]], seed: int) -> None:
    """A word for no label is no class, and equal rows are all trained on or all held out."""
    sequences, labels = zip(*rows, strict=True)
    corpus = gather_corpus(list(sequences), list(labels), source="here")
    config = override(Config(), {"training.seed": seed, "data.vocabulary": "characters"})
    none = set(config.data.unlabelled_values)
    listed = [label if isinstance(label, list) else [label] for label in labels]
    names = {name_of(one) for label in listed for one in label if not is_missing(one)} - none
    if not names:
        with pytest.raises(InputError, match="wanted a label in some row"):
            prepare(config, corpus.with_unlabelled(sorted(none)))
        return
    prepared = prepare(config, corpus.with_unlabelled(sorted(none)))
    assert set(prepared.labels.names) == names
    parts = [prepared.labelled, prepared.unlabelled, prepared.dev]
    numbers = [set(part.index.tolist()) for part in parts]
    assert sum(map(len, numbers)) == len(set.union(*numbers)) <= len(rows)
    trained = {sequences[row] for part in numbers[:2] for row in part}
    assert not trained & {sequences[row] for row in numbers[2]}
    for part in parts:
        for row, y in zip(part.index.tolist(), part.y.tolist(), strict=True):
            assert y < 0 or prepared.labels.names[y] == name_of(listed[row][0])
