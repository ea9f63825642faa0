"""The ending of a file's name is its format."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import Table, parquet

from seqssvae.errors import InputError
from seqssvae.storage.records import in_cells, join_of, kind_of, to_parquet, to_text

RECORDS: list[dict[str, Any]] = [
    {"label": 'a,"\t\u00e9', "loc": [0.1, 2.0], "p": {"u": 1e-9, "v": 0.5}},
    {"label": "b", "loc": [1.0, 3.5], "p": {"u": 0.25, "v": 1.0}},
]


def test_the_ending_is_the_format(tmp_path: Path) -> None:
    for kind in ("csv", "tsv", "jsonl", "parquet"):
        assert kind_of(tmp_path / f"p.{kind.upper()}") == kind
    for name in ("p", "p.json", "p.csv.gz", "csv"):
        with pytest.raises(InputError, match=r"wanted a file .csv, .tsv, .jsonl or .parquet, got"):
            kind_of(tmp_path / name)
    with pytest.raises(InputError, match=r"p.csv: wanted a folder .* to write to, got none"):
        kind_of(tmp_path / "nowhere" / "p.csv")
    assert kind_of(Path("/dev/stdout")) == "jsonl"


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_records_are_read_as_they_were_written_in_parts(kind: str) -> None:
    whole = io.BytesIO()
    parts = [
        to_parquet(Table.from_pylist([record]))
        if kind == "parquet"
        else to_text([record], kind, is_first=not number)
        for number, record in enumerate(RECORDS)
    ]
    join_of(kind)(map(io.BytesIO, parts), whole)
    content = whole.getvalue()
    if kind == "parquet":
        assert parquet.read_table(io.BytesIO(content)).to_pylist() == RECORDS
    elif kind == "jsonl":
        assert [json.loads(line) for line in content.splitlines()] == RECORDS
    else:
        stream = io.StringIO(content.decode(), newline="")
        first, _ = csv.DictReader(stream, delimiter="," if kind == "csv" else "\t")
        assert first.pop("label") == RECORDS[0]["label"]
        found = {name: float(value) for name, value in first.items()}
        assert found == {"loc_0": 0.1, "loc_1": 2.0, "p_u": 1e-9, "p_v": 0.5}


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_lists_are_json_in_cells_of_tables(kind: str) -> None:
    record = {"id": "a", "tokens": ["é", "b"], "of": {"c": 1.0}, "none": None}
    found = in_cells(record, kind)
    assert found == record | ({"tokens": '["é", "b"]'} if kind in ("csv", "tsv") else {})
