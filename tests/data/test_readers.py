"""Every format gives the same rows, exactly, and an error names its line."""

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqssvae.data.audit import warn_of_quotes
from seqssvae.data.columns import ColumnChoice, Columns
from seqssvae.data.corpus import read_corpus
from seqssvae.data.readers import arrow_rows, column_names, iterate_rows
from seqssvae.data.rows import Row
from seqssvae.errors import InputError

Contents = list[tuple[int, str | list[str], str | tuple[str, ...] | None]]

unicode_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
text_rows = st.lists(st.tuples(unicode_text, st.none() | unicode_text), min_size=1)

EXACT = ["NA", "null", "1e5", "007", " x ", "True", "nan", 'say "hi", you', "a\tb", "größe 😀"]


def read(path: Path, **columns: Any) -> Contents:
    return [
        (row.number, row.sequence, row.label) for row in iterate_rows(path, ColumnChoice(**columns))
    ]


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the format of the path's name, with the columns of the first row."""
    if {".jsonl", ".ndjson"} & set(path.suffixes):
        return write(path, "".join(json.dumps(row) + "\n" for row in rows))
    if path.suffix == ".parquet":
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    stream = io.StringIO()
    delimiter = "\t" if ".tsv" in path.suffixes else ","
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    for row in rows:
        cells = {k: " ".join(v) if isinstance(v, list) else v for k, v in row.items()}
        writer.writerow(cells)
    return write(path, stream.getvalue())


FORMATS = ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.csv.gz", "a.tsv.gz", "a.jsonl.gz"]


@pytest.mark.parametrize("name", [*FORMATS, "A.v2.CSV", "a.ndjson"])
def test_values_are_not_converted(tmp_path: Path, name: str) -> None:
    path = write_rows(tmp_path / name, [{"text": text, "label": text} for text in EXACT])
    assert [row[1:] for row in read(path)] == [(text, text) for text in EXACT]


@pytest.mark.parametrize("name", FORMATS)
def test_tokens_are_read(tmp_path: Path, name: str) -> None:
    rows = [["e4", "e5"], ["NA"], ["[C@@H]", "(", '"'], ['["', "x]"]]
    path = write_rows(
        tmp_path / name, [{"tokens": row, "label": "x" if row[0] == "NA" else None} for row in rows]
    )
    assert [row[1] for row in read(path)] == rows
    assert [row[2] for row in read(path)] == [None, "x", None, None]


@pytest.mark.parametrize(
    ("cells", "row"),
    [
        ('"[""a b"", ""c""]",', (["a b", "c"], None)),
        ('"[6, 11, 3]","[""a"", ""b""]"', (["6", "11", "3"], ("a", "b"))),
        ('[6],"[""a""]"', (["6"], "a")),
        ("[ 6 ],[]", (["[", "6", "]"], None)),
        ("[nH] c,[CLS]", (["[nH]", "c"], "[CLS]")),
        ("[ ],[ 1 ]", (["[", "]"], "[ 1 ]")),
        ('"[1, 2] [3]","[1, 0.0]"', (["[1,", "2]", "[3]"], ("1", "0"))),
    ],
)
def test_a_cell_may_hold_a_json_list(tmp_path: Path, cells: str, row: Any) -> None:
    path = write(tmp_path / "a.csv", f"tokens,label\n{cells}\n")
    assert read(path) == [(2, *row)]


@pytest.mark.parametrize("name", FORMATS)
def test_labels_and_ids_are_the_same_from_every_format(tmp_path: Path, name: str) -> None:
    """As pandas writes them: integers beside missing ones are floats, in text with a dot."""
    for values, wanted in (
        ([0.0, 1.0, None], ["0", "1", None]),
        ([True, False], ["True", "False"]),
    ):
        rows = [{"text": f"t{i}", "label": one, "id": one} for i, one in enumerate(values)]
        found = list(iterate_rows(write_rows(tmp_path / name, rows)))
        assert [row.label for row in found] == wanted
        assert [row.id for row in found][:2] == wanted[:2]


@pytest.mark.parametrize("name", FORMATS)
def test_case_and_space_of_a_column_do_not_count(tmp_path: Path, name: str) -> None:
    rows = [{"ID": "k", " Text": "a", "LABEL ": "x"}]
    (row,) = iterate_rows(write_rows(tmp_path / name, rows))
    assert (row.id, row.sequence, row.label) == ("k", "a", "x")
    assert read(tmp_path / name, label="label", text="text")[0][1:] == ("a", "x")
    assert read(tmp_path / name, read_labels=False)[0][2] is None


def test_columns_of_every_json_row_are_found_by_name(tmp_path: Path) -> None:
    """Also where another row has other ones before them."""
    rows: list[dict[str, Any]] = [{"Text": "a"}, {"ID": "k", "Text": "b", "Label": "x"}]
    rows.append({"Text": "c", "Label": None})
    path = write_rows(tmp_path / "a.jsonl", rows)
    assert [row[2] for row in read(path)] == [None, "x", None]
    assert [row.id for row in iterate_rows(path)][1] == "k"
    assert column_names(path, ColumnChoice(), 1000) == ["Text", "ID", "Label"]
    assert column_names(path, ColumnChoice(), 1) == ["Text"]


@settings(max_examples=50, deadline=None)
@given(rows=text_rows)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_any_text_is_read_unchanged(
    tmp_path_factory: pytest.TempPathFactory, name: str, rows: list[tuple[str, str | None]]
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    write_rows(path, [{"text": text, "label": label} for text, label in rows])
    found = [(sequence, label) for _, sequence, label in read(path)]
    assert found == [(text, label if label and label.strip() else None) for text, label in rows]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt", "a.txt.gz"])
def test_byte_order_mark_and_crlf_are_no_part_of_a_text(tmp_path: Path, name: str) -> None:
    lines = {"csv": ["text,label", "one,a", "two,"], "txt": ["one", "two"]}
    lines["jsonl"] = ['{"text": "one", "label": "a"}', '{"text": "two"}']
    kind = name.split(".")[1]
    path = write(tmp_path / name, "\ufeff" + "\r\n".join(lines[kind]) + "\r\n")
    assert [row[1] for row in read(path)] == ["one", "two"]
    if kind != "txt":
        assert [row[2] for row in read(path)] == ["a", None]


def test_numbers_are_lines_of_text_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,label\n"a\nb",x\n\nc,y\n')
    assert read(path) == [(2, "a\nb", "x"), (5, "c", "y")]
    path = write(tmp_path / "a.jsonl", '\n{"text": "a"}\n\n \n{"text": "b"}\n\n')
    assert [row[0] for row in read(path)] == [2, 5]


def test_labels_of_json_rows(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "a"},
        {"text": "b", "label": None},
        {"text": "c", "label": 3},
        {"label": ["x", "y"], "text": "d", "more": {}},
        {"text": "e", "label": ""},
    ]
    path = write_rows(tmp_path / "a.jsonl", rows)
    labels = [row[2] for row in read(path)]
    assert labels == [None, None, "3", ("x", "y"), None]
    assert [row[2] for row in read(path, label="label")] == labels
    assert [row[2] for row in read(path, read_labels=False)] == [None] * 5
    assert [row[2] for row in read(path, read_labels=False, label="away")] == [None] * 5


def test_a_txt_file_has_no_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "a\n")
    assert read(path, text="text") == [(1, "a", None)]
    with pytest.raises(InputError, match=r"a.txt:1: wanted a column 'label', got 'text'"):
        read(path, label="label")


def test_ids_are_read(tmp_path: Path) -> None:
    for name in FORMATS:
        path = write_rows(tmp_path / name, [{"id": "k", "text": "a"}, {"id": "l", "text": "a"}])
        assert [row.id for row in iterate_rows(path)] == ["k", "l"]
    path = write_rows(tmp_path / "a.jsonl", [{"id": "k"}])
    assert [row.sequence for row in iterate_rows(path, ColumnChoice(text="id"))] == ["k"]


BAD: list[tuple[str, str | bytes, str]] = [
    (
        "a.csv",
        b"text,label\na,b\n\xe9t\xe9,b\n",
        "a.csv:3: wanted UTF-8, got the byte 0xe9 at byte 1",
    ),
    ("a.txt", b"abc\nab\xff\n", "a.txt:2: wanted UTF-8, got the byte 0xff at byte 3"),
    ("a.jsonl", b'{"text": "\xff"}\n', "a.jsonl:1: wanted UTF-8, got the byte 0xff"),
    (
        "a.csv",
        "x\n".encode("utf-16"),
        "a.csv:1: wanted UTF-8, got UTF-16, which --encoding utf-16 reads",
    ),
    ("a.csv", "", "a.csv:1: wanted a header, got an empty file"),
    ("a.csv", "\n\n", "a.csv:1: wanted a header, got an empty file"),
    ("a.jsonl", "", "a.jsonl:1: wanted a row, got an empty file"),
    ("a.jsonl.gz", "\n \n", "a.jsonl.gz:1: wanted a row, got an empty file"),
    ("a.txt", "", "a.txt:1: wanted a row, got an empty file"),
    ("a.parquet", "", "a.parquet:1: wanted a row, got an empty file"),
    ("a.csv", "text,label\n", "a.csv:2: wanted a row, got a header only"),
    ("a.tsv", "text\tlabel", "a.tsv:2: wanted a row, got a header only"),
    ("a.csv", "words,label\na,b\n", "a.csv:1: wanted a column 'text' .*, got 'words', 'label'"),
    ("a.jsonl", '{"words": "a"}', "a.jsonl:1: wanted a column 'text' .*, got 'words'"),
    ("a.jsonl", '{"text": "a"}\n{"txt": "b"}', "a.jsonl:2: wanted a column 'text', got 'txt'"),
    ("a.csv", "text,label\na,b\n,b\n", "a.csv:3: wanted a text, got an empty one"),
    ("a.csv", 'text\n""\n', "a.csv:2: wanted a text, got an empty one"),
    ("a.csv", "tokens,label\n  ,b\n", "a.csv:2: wanted a list of tokens, got an empty one"),
    ("a.csv", "tokens\n\"['a', 'b']\"\n", "a.csv:2: wanted tokens .*, got a list as Python"),
    ("a.txt", "a\n\nb\n", "a.txt:2: wanted a text, got an empty one"),
    ("a.jsonl", '{"text": ""}', "a.jsonl:1: wanted a text, got an empty one"),
    ("a.jsonl", '{"tokens": []}', "a.jsonl:1: wanted a list of tokens, got an empty one"),
    ("a.jsonl", '{"text": 5}', "a.jsonl:1: wanted a text, got the number 5"),
    ("a.jsonl", '{"tokens": "a b"}', "a.jsonl:1: wanted a list of tokens, got the text 'a b'"),
    ("a.jsonl", '{"tokens": [1.5]}', "a.jsonl:1: wanted tokens that are strings .*, got the num"),
    ("a.csv", "text,label\na,\"['b', 'c']\"\n", "a.csv:2: wanted a label or a JSON list, got a"),
    ("a.csv", "text,label\na,[{}]\n", "a.csv:2: wanted a label .*, got an object"),
    ("a.csv", "tokens\n[]\n", "a.csv:2: wanted a list of tokens, got an empty one"),
    ("a.jsonl", '{"text": "a"}\n["b"]', "a.jsonl:2: wanted a JSON object, got a list"),
    ("a.jsonl", '"a"', "a.jsonl:1: wanted a JSON object, got a text"),
    ("a.jsonl", "null", "a.jsonl:1: wanted a JSON object, got null"),
    ("a.jsonl", '{"text": "a"}\n{"text"', "a.jsonl:2: wanted a JSON object, got broken JSON at"),
    ("a.jsonl", "[" * 100_000, "a.jsonl:1: wanted a JSON object, got broken JSON: maximum"),
    ("a.jsonl", '{"text": ' + "1" * 5000 + "}", "a.jsonl:1: wanted a JSON object, got broken"),
    ("a.jsonl", '{"text": "\\ud800"}', "a.jsonl:1: wanted Unicode text, got the lone surrogate"),
    ("a.jsonl", '{"text": "a", "label": 1.5}', "a.jsonl:1: wanted a label .*, got the number 1.5"),
    (
        "a.jsonl",
        '{"text": "a", "category": "x"}\n{"text": "a", "label": "y"}',
        "a.jsonl:2: wanted labels in one column, 'category' as above, .*, got a column 'label'",
    ),
    ("a.csv", "text,label\na,b,c\n", "a.csv:2: wanted 2 cells, got 3"),
    ("a.csv", "text,label\na\n", "a.csv:2: wanted 2 cells, got 1"),
    ("a.csv", 'text\na\n"b', "a.csv:3: wanted cells that are quoted .*, got one that is not"),
    (
        "a.csv",
        'text\n"b"c\n',
        "a.csv:2: wanted cells that are quoted .*, got one that is not",
    ),
    (
        "a.tsv",
        'text\tlabel\na\tx\n"5 inch\ty\nb\tx\n12"\ty\n',
        "a.tsv:3: wanted cells with no tab beside a line break .*, got one over the lines 3 to 5",
    ),
    ("a.tsv", '"text\tlabel\na"\tx\n', "a.tsv:1: wanted cells with no tab beside a line break"),
    ("a.txt", "x" * 1_000_000, "a.txt:1: wanted a sequence of fewer than 1,000,000 char"),
    ("a.csv", "text\n" + "x" * 2_000_000, "a.csv:2: wanted a sequence of fewer than 1,000,000"),
    ("a.parquet", "text\nno parquet\n", "a.parquet:1: wanted a parquet file, got another"),
    ("a.json", "[]", "a.json: wanted a file .csv, .tsv, .jsonl, .txt or .fasta .*, got 'a.json'"),
    ("a.parquet.gz", "", "wanted a file .csv"),
    ("words", "a", "words: wanted a file .csv"),
    ("gz", "a", "gz: wanted a file .csv"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD, ids=[bad[2][:50] for bad in BAD])
def test_bad_files_are_errors_of_one_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(write(tmp_path / name, content))
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(tmp_path / name))
    assert len(text) < len(str(tmp_path)) + 250


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl.gz", "a.parquet", "a.txt"])
def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: wanted a readable file, got No such file"):
        read(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{name}.*: wanted a .*file, got"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", FORMATS)
def test_absent_named_columns_are_errors(tmp_path: Path, name: str) -> None:
    path = write_rows(tmp_path / name, [{"text": "a", "label": "x"}] * 3)
    for column in ("text", "tokens", "label"):
        with pytest.raises(InputError, match=r":1: wanted a column 'away'.*, got 'text', 'label'"):
            read(path, **{column: "away"})


def test_a_truncated_gzip_file_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt.gz", "".join(f"line {i * i}\n" for i in range(10_000)))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"a.txt.gz:\d+: wanted a whole gzip file, got damage"):
        read(path)
    write(tmp_path / "b.txt", "no gzip").rename(tmp_path / "b.txt.gz")
    with pytest.raises(InputError, match=r"b.txt.gz:1: wanted a whole gzip file, got damage"):
        read(tmp_path / "b.txt.gz")


def bad_utf8(folder: Path) -> Path:
    from pyarrow import parquet

    values = pyarrow.array([b"a"] * 1500 + [b"\xff"] + [b"b"], pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), len(values), values.buffers())
    parquet.write_table(pyarrow.table({"text": text}), folder / "a.parquet")
    return folder / "a.parquet"


def damaged_page(folder: Path) -> Path:
    path = write_rows(folder / "a.parquet", [{"text": str(i * i)} for i in range(5000)])
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (bad_utf8, "a.parquet:1501: wanted UTF-8, got the byte 0xff"),
        (damaged_page, r"a.parquet:\d+: wanted a whole parquet file, got a damaged one"),
    ],
)
def test_damaged_parquet_files_are_errors(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_the_file_is_not_held_in_memory(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"text": "x" * 10_000 + str(i)} for i in range(1000)])
    tracemalloc.start()
    count = sum(isinstance(row, Row) for row in iterate_rows(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 1000
    assert peak < 2_000_000  # of a file of 10 MB


# Arrow tables

COLUMNS = Columns("text", False, "label", None)


def table(label: Any) -> pyarrow.Table:
    return pyarrow.table({"text": ["a", "b", "c"], "label": label})


def read_arrow(*tables: pyarrow.Table, names: list[str] | None = None) -> list[Row]:
    return list(arrow_rows(tables, COLUMNS, "source", label_names=[names]))


def test_row_numbers_continue_over_batches() -> None:
    rows = read_arrow(table(["x", "y", None]), table(["x", "y", None]))
    assert [row.number for row in rows] == [1, 2, 3, 4, 5, 6]
    assert (rows[4].sequence, rows[4].label) == ("b", "y")


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.large_string(),
        pyarrow.string_view(),
        pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
    ],
)
def test_every_kind_of_string_is_read(kind: pyarrow.DataType) -> None:
    rows = read_arrow(table(pyarrow.array(["x", "y", None], kind)))
    assert [row.label for row in rows] == ["x", "y", None]


def test_integers_of_named_classes_become_names() -> None:
    rows = read_arrow(table([1, -1, None]), names=["no", "yes"])
    assert [row.label for row in rows] == ["yes", None, None]
    rows = read_arrow(table([[1, 0], [], None]), names=["no", "yes"])
    assert [row.label for row in rows] == [("yes", "no"), None, None]
    for bad in (2, -2):
        with pytest.raises(InputError, match=f"source:2: wanted a label from 0 to 1.*, got {bad}"):
            read_arrow(table([0, bad, 1]), names=["no", "yes"])


INCHES = 'text{0}label\n5" disk{0}x\n"5 inch{0}y\nb{0}x\n12"{0}y\n"q"{0}x\n'


def test_a_cell_that_may_hold_other_rows_is_reported(tmp_path: Path) -> None:
    """At each reading, unless quotes are characters, or quoted cells are meant to be so."""
    csv, tsv = tmp_path / "a.csv", tmp_path / "a.tsv"
    csv.write_text(INCHES.format(","))
    tsv.write_text(INCHES.format("\t"))
    for path in (csv, tsv):
        rows = list(iterate_rows(path, ColumnChoice(quotes="never")))
        texts = ['5" disk', '"5 inch', "b", '12"', '"q"']
        assert [(row.sequence, row.label) for row in rows] == list(zip(texts, "xyxyx", strict=True))
    quoted = list(iterate_rows(tsv, ColumnChoice(quotes="always")))
    assert [row.sequence for row in quoted] == ['5" disk', "5 inch\ty\nb\tx\n12", "q"]
    assert not any(row.is_doubtful for row in [*rows, *quoted])
    assert [row.is_doubtful for row in iterate_rows(csv)] == [False, True, False]
    for corpus in (read_corpus(csv), read_corpus(csv)):  # the second one from the cache
        assert list(warn_of_quotes(corpus)) == [
            f"{csv}:3: a cell holds a line break and a delimiter: if it holds other rows, a quote "
            "is unbalanced; --data.quotes never reads quotes as characters"
        ]
    csv.write_text('text,"label\nor, none"\na,b\n')
    assert read_corpus(csv).doubtful() == f"{csv}:3"  # the first row, since the header has two


def test_lines_of_a_quoted_cell_without_delimiter_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"a\nb"\tx\n"a\tb"\ty\n')
    assert [row.sequence for row in iterate_rows(path)] == ["a\nb", "a\tb"]
    assert read_corpus(path).doubtful() is None


SOFT_ROWS: list[dict[str, Any]] = [
    {"text": "a", "label": {"u": 0.7, "w": 0.3}, "A": "u", "B": 1},
    {"text": "b", "label": {"u": 1.0, "w": 0}, "A": None, "B": 0},
    {"text": "c", "label": {"u": 0.5, "w": 0.5}, "A": "", "B": None},
    {"text": "d", "label": None, "A": "w", "B": None},
]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet", "map", "dataset"])
def test_soft_labels_and_votes_are_the_same_in_every_format(ending: str, tmp_path: Path) -> None:
    """One label with all of the probability is that label; equal ones are a set."""
    import datasets
    from pyarrow import parquet

    choice, path = ColumnChoice(votes=" A,B"), tmp_path / f"rows.{ending}"
    if ending == "dataset":
        corpus = read_corpus(datasets.Dataset.from_list(SOFT_ROWS), choice)
        assert corpus.votes is not None and corpus.voters == ("A", "B")
        votes = corpus.votes.to_pylist()
        rows = [replace(row, votes=tuple(of)) for row, of in zip(corpus, votes, strict=True)]
    elif ending == "map":
        kind = pyarrow.map_(pyarrow.string(), pyarrow.float32())
        pairs = [one["label"] and list(one["label"].items()) for one in SOFT_ROWS]
        table = pyarrow.table({"text": ["a", "b", "c", "d"], "label": pyarrow.array(pairs, kind)})
        parquet.write_table(table, path.with_suffix(".parquet"))
        rows = list(iterate_rows(path.with_suffix(".parquet")))
    else:
        plain = [
            {k: json.dumps(v) if isinstance(v, dict) and ending[1:] == "sv" else v for k, v in one}
            for one in (row.items() for row in SOFT_ROWS)
        ]
        rows = list(iterate_rows(write_rows(path, plain), choice))
    assert [row.label for row in rows] == [("u", "w"), "u", ("u", "w"), None]
    assert rows[0].shares == pytest.approx((0.7, 0.3), abs=1e-6)
    assert [row.shares for row in rows[1:]] == [None] * 3
    if ending != "map":
        assert [row.votes for row in rows] == [("u", "1"), (None, "0"), (None, None), ("w", None)]


def test_a_data_frame_has_labels_beside_lists_of_them_and_soft_ones() -> None:
    labels = ["u", {"u": 0.7, "w": 0.3}, ["u", "w"], None, 1, np.nan, "", ["w"], []]
    frame = pandas.DataFrame({"text": [*"abcdefghi"], "label": labels})
    rows = list(read_corpus(frame))
    assert [r.label for r in rows] == ["u", *[("u", "w")] * 2, None, "1", None, None, "w", None]
    assert [row.shares for row in rows] == [None, (0.7, 0.3), *[None] * 7]
    assert frame["label"][0] == "u"
    frame["label"] = frame["label"].map(lambda label: label or 2.5)
    with pytest.raises(InputError, match="^dataset: wanted values of one type in each column, got"):
        read_corpus(frame)


@pytest.mark.parametrize(
    ("label", "error"),
    [
        ({"u": 0.7, "w": 0.2}, "of sum 1, got the sum 0.9"),
        ({"u": 1.5, "w": -0.5}, "to probabilities, got the number -0.5 for 'w'"),
        ({"u": float("nan"), "w": 1}, "got the number nan for 'u'"),
        ({"u": "0.7", "w": 0.3}, "got the text '0.7' for 'u'"),
        ({"u": True}, "got true for 'u'"),
        ({"": 1.0}, "got the number 1.0 for ''"),
        ({}, "of sum 1, got the sum 0"),
        ({"u": float("inf")}, "of sum 1, got the sum inf"),
    ],
)
def test_a_bad_soft_label_is_an_error(label: dict[str, Any], error: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"text": "a", "label": label}])
    with pytest.raises(InputError) as caught:
        list(iterate_rows(path))
    assert str(caught.value).startswith(f"{path}:1: wanted a soft label") and error in str(
        caught.value
    )


def test_a_soft_label_as_python_prints_it_is_an_error_and_other_braces_are_text(
    tmp_path: Path,
) -> None:
    path = write_rows(tmp_path / "rows.csv", [{"text": "a", "label": "{u}"}])
    assert read(path) == [(2, "a", "{u}")]
    write_rows(path, [{"text": "a", "label": "{'u': 0.7, 'w': 0.3}"}])
    with pytest.raises(InputError, match="or a JSON object, got an object as Python"):
        read(path)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_columns_of_votes_that_are_not_there_are_an_error(ending: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / f"rows.{ending}", [{"text": "a", "label": "u", "A": "u"}])
    some_row = " in some row" if ending == "jsonl" else ""  # a later row may have it
    wanted = rf"rows\.{ending}:1: wanted a column 'B'{some_row}, got 'text', 'label', 'A'"
    with pytest.raises(InputError, match=f"{wanted}; --vote-columns names other ones"):
        list(iterate_rows(path, ColumnChoice(votes="A,B")))
    rows = list(iterate_rows(path, ColumnChoice(votes="A,B", votes_may_miss=True)))
    assert rows[0].votes == ("u", None)
    with pytest.raises(InputError, match="wanted columns of votes beside 'label', got 'A,label'"):
        list(iterate_rows(path, ColumnChoice(votes="A,label")))
    with pytest.raises(InputError, match="--vote-columns: wanted different names"):
        list(iterate_rows(path, ColumnChoice(votes="A,a")))
