"""Several columns of labels: from rows that may miss any of them to combinations and sets."""

import itertools
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from seqssvae.config import Config, DataConfig
from seqssvae.data.columns import ColumnChoice, split_names
from seqssvae.data.corpus import read_corpus
from seqssvae.data.labels import Labels
from seqssvae.data.prepare import prepare
from seqssvae.data.sources import read_source, read_with_labels
from seqssvae.errors import InputError
from seqssvae.overrides import override
from tests.support.rows import write_rows

BOTH = ColumnChoice(label="intent, language")
ROWS: list[dict[str, Any]] = [
    {"text": "a", "intent": "book", "language": "de"},
    {"text": "b", "intent": "book", "language": None},
    {"text": "c", "intent": None, "language": "en"},
    {"text": "d", "intent": ["book", "cancel"], "language": "fr"},
    {"text": "e", "intent": None, "language": None},
    {"text": "f", "intent": "cancel", "language": "NA"},
    {"text": "g", "intent": "cancel", "language": "fr"},
]
NAMES = [f"intent={i},language={j}" for i in ("book", "cancel") for j in ("de", "en", "fr")]
Y = [0, -1, -1, -1, -1, -1, 5]
SETS = {1: (0, 1, 2), 2: (1, 4), 3: (2, 5), 5: (3, 4, 5)}


def named(values: list[Any]) -> list[Any]:
    """Without the keys of missing values, as in a jsonl file."""
    return [{name: v for name, v in row.items() if v is not None} for row in values]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "tsv", "parquet", "dataset"])
def test_a_class_is_a_combination_and_a_row_may_miss_any_column(tmp_path: Path, kind: str) -> None:
    source: Any = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        write_rows(source, named(ROWS[::-1]))
    elif kind in ("parquet", "dataset"):
        rows = [
            {
                **r,
                "intent": r["intent"]
                if isinstance(r["intent"], list) or r["intent"] is None
                else [r["intent"]],
            }
            for r in ROWS
        ]
        source = datasets.Dataset.from_list(rows)
        if kind == "parquet":
            source.to_parquet(tmp_path / "rows.parquet")
            source = tmp_path / "rows.parquet"
    else:
        cells = [
            [
                json.dumps(v).replace('"', '""') if isinstance(v, list) else v or ""
                for v in r.values()
            ]
            for r in ROWS
        ]
        between = "," if kind == "csv" else "\t"
        lines = [between.join(f'"{cell}"' for cell in row) for row in cells]
        source.write_text("\n".join([between.join(ROWS[0]), *lines]) + "\n")
    settings = DataConfig(label_column="intent, language")
    corpus = read_source(source, settings)
    labels = corpus.labels()
    assert labels.names == tuple(NAMES)
    assert labels.columns == {"intent": ("book", "cancel"), "language": ("de", "en", "fr")}
    y, sets = corpus.classes(labels)
    if kind == "jsonl":
        y, sets = y[::-1], {len(Y) - 1 - row: of_row for row, of_row in sets.items()}
    assert y.tolist() == Y
    assert sets == SETS
    assert corpus.count_unlabelled_values() == {"language=NA": 1}
    assert len(set(corpus.ids())) == len(ROWS)


def test_one_column_of_a_data_set_may_be_of_classes() -> None:
    feature = datasets.Features(
        {
            "text": datasets.Value("string"),
            "b": datasets.ClassLabel(names=["x", "y"]),
            "a": datasets.Value("string"),
        }
    )
    columns = {"text": ["s", "t"], "b": [1, -1], "a": ["u", "v"]}
    data = datasets.Dataset.from_dict(columns, features=feature)
    corpus = read_corpus(data, ColumnChoice(label="a,b"))
    assert [row.label for row in corpus] == [("a=u", "b=y"), "a=v"]


def test_names_of_columns_may_be_quoted_and_must_differ() -> None:
    assert split_names("label") == ("label",)
    assert split_names(' a , "b, c"') == ("a", "b, c")
    assert split_names('"b, c"') == ("b, c",)
    assert ColumnChoice(label='"b, c"').label_columns == ()
    assert ColumnChoice(label="a,b", read_labels=False).label_columns == ()
    for wrong in ("a,", "a,A", "a,b=c"):
        with pytest.raises(InputError, match="--label-column: wanted different names of columns"):
            split_names(wrong)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('text,a,b\nx,u,v\ny,"[""u"", """"]",v\n', "3: wanted labels in column 'a' that"),
        ("text,c\nx,u\n", "1: wanted a column 'a', got 'text', 'c'"),
        ("text,A,a ,b\nx,u,u,u\n", "1: wanted one column 'a', got 'A', 'a '"),
    ],
)
def test_an_error_names_file_row_and_column(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "f.csv"
    path.write_text(rows)
    with pytest.raises(InputError) as caught:
        read_corpus(path, ColumnChoice(label="a,b"))
    assert str(caught.value).startswith(f"{path}:{message}")


def test_a_value_of_the_wrong_type_names_its_column(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.jsonl", [{"text": "x", "a": "u"}, {"text": "y", "b": 0.5}])
    with pytest.raises(InputError, match=r"f\.jsonl:2: wanted a label in column 'b' that is a str"):
        read_corpus(path, ColumnChoice(label="a,b"))
    path = write_rows(tmp_path / "g.jsonl", [{"text": "x"}, {"text": "y"}])
    with pytest.raises(InputError, match=r"g\.jsonl:1: wanted a column 'a' in some row"):
        read_corpus(path, ColumnChoice(label="a,b"))


def test_an_unknown_label_or_column_is_an_error(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.jsonl", named(ROWS))
    labels = Labels.of_columns({"intent": ["book", "cancel"], "language": ["de", "en"]})
    corpus = read_source(path, DataConfig(label_column="intent,language"))
    with pytest.raises(InputError, match=r":4: column 'language': wanted a known .*, got 'fr'"):
        corpus.classes(labels)
    with pytest.raises(InputError, match=r":1: wanted label columns .*, 'a', 'b', got 'int"):
        corpus.classes(Labels.of_columns({"a": ["x"], "b": ["y"]}))
    with pytest.raises(InputError, match="wanted label columns as in training, one, got 'intent'"):
        corpus.classes(Labels(("a", "b")))
    with pytest.raises(InputError, match="as in training, 'intent', 'language', got one"):
        read_source(path, DataConfig(label_column="language")).classes(labels)
    odd = write_rows(tmp_path / "odd.jsonl", [{"text": "x", "intent": ["book", "NA"]}, *ROWS])
    with pytest.raises(InputError, match=r"odd.jsonl:1: wanted a list of classes in col"):
        read_source(odd, DataConfig(label_column="intent,language")).classes(corpus.labels())


def test_too_many_combinations_and_a_column_without_labels_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        Labels.of_columns({"a": [*map(str, range(50))], "b": [*map(str, range(41))]}, "f.csv")
    assert str(caught.value) == (
        "f.csv: wanted at most 2,000 combinations of labels, got 2,050 (a 50, b 41)"
    )
    path = write_rows(tmp_path / "f.jsonl", [{"text": t, "a": "u"} for t in "xyz"])
    config = override(Config(), {"data.label_column": "a,b"})
    with pytest.raises(InputError, match="f.jsonl: wanted a label in column 'b' of some row"):
        prepare(config, path)


def test_labels_of_another_table_have_columns_too(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": t, "id": t} for t in "xy"])
    table = tmp_path / "table.csv"
    table.write_text("id,a,b\nx,u,\ny,u,w\n")
    corpus = read_with_labels(rows, table, DataConfig(label_column="a,b"))
    assert [row.label for row in corpus] == ["a=u", ("a=u", "b=w")]
    assert corpus.labels().names == ("a=u,b=w",)


def test_what_is_known_of_a_column() -> None:
    labels = Labels.of_columns({"intent": ["book", "cancel"], "language": ["de", "en", "fr"]})
    y, sets = labels.of_column("intent", np.array(Y), SETS)
    assert y.tolist() == [0, 0, -1, -1, -1, 1, 1]
    assert sets == {}
    y, sets = labels.of_column("language", np.array(Y), {**SETS, 4: (0, 1)})
    assert y.tolist() == [0, -1, 1, 2, -1, -1, 2]
    assert sets == {4: (0, 1)}
    assert [part.tolist() for part in labels.parts([-1, 4])] == [[-1, 1], [-1, 1]]
    table = np.arange(12.0).reshape(2, 6)
    assert labels.marginal("intent", table).tolist() == [[3, 12], [21, 30]]
    assert labels.marginal("language", table).tolist() == [[3, 5, 7], [15, 17, 19]]


def test_an_argument_names_labels_of_some_columns() -> None:
    labels = Labels.of_columns({"intent": ["a", "b, c"], "language": ["de", "x=y"]})
    assert labels.fitting(None) == [0, 1, 2, 3]
    assert labels.fitting("language=de") == [0, 2]
    assert labels.fitting("language=x=y, intent=b, c") == [3]
    for number, name in enumerate(labels.names):
        assert labels.fitting(name) == [number]
    with pytest.raises(InputError, match=r"label: wanted COLUMN=LABEL, once for each of 'intent', "):
        labels.fitting("de")
    with pytest.raises(InputError, match=r"label: column 'language': wanted a .*mean 'de'"):
        labels.fitting("language=DE")
    with pytest.raises(InputError, match="label: wanted COLUMN=LABEL, once .*, got 'intent=b, c'"):
        labels.fitting("intent=a,intent=b, c")
    assert Labels(("u", "v")).fitting("v") == [1]
    assert Labels(()).fitting(None) is None
    with pytest.raises(InputError, match="label: wanted one of u, v, got none"):
        Labels(("u", "v")).fitting(None)


def test_labels_of_columns_are_saved(tmp_path: Path) -> None:
    labels = Labels.of_columns({"a": ["u", "v"], "b": ["w"]})
    labels.save(tmp_path / "labels.json")
    assert Labels.load(tmp_path / "labels.json") == labels
    for damaged in ('{"a": "u"}', '{"a": [1]}', '{"a": ["u", "u"]}', '["u", ["v"]]'):
        (tmp_path / "labels.json").write_text(damaged)
        with pytest.raises(InputError, match=r"labels\.json: wanted a list of labels"):
            Labels.load(tmp_path / "labels.json")


def test_rows_of_some_columns_are_labelled_and_warnings_name_a_column(tmp_path: Path) -> None:
    pairs = [*itertools.product("uv", "wx")] * 5
    rows = [{"text": f"t{i}", "a": a, "b": b} for i, (a, b) in enumerate(pairs)]
    rows += [{"text": "half", "a": "v"}, {"text": "once", "a": "z"}, {"text": "free"}]
    path = write_rows(tmp_path / "f.jsonl", rows)
    prepared = prepare(override(Config(), {"data.label_column": "a,b"}), path)
    assert len(prepared.labelled_dev) == 4
    assert (prepared.labelled_dev.y >= 0).all()
    assert len(prepared.labelled) == 18
    assert len(prepared.unlabelled) == 1
    assert sorted(prepared.labelled.candidates.values()) == [(2, 3), (4, 5)]
    assert prepared.warnings == (
        "column 'a': 1 of 3 classes has one labelled row only, not held out: 'z'",
    )
