"""Several columns of labels: from rows that may miss any of them to a run and its answers."""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from seqssvae.cli import main
from seqssvae.config import Config, DataConfig
from seqssvae.data.columns import ColumnChoice, split_names
from seqssvae.data.corpus import read_corpus
from seqssvae.data.labels import Labels
from seqssvae.data.prepare import prepare
from seqssvae.data.sources import read_source, read_with_labels
from seqssvae.errors import InputError
from seqssvae.inference.writing.options import Decoding
from seqssvae.model.build import build
from seqssvae.nn.ngram_logits import NGramLogits
from seqssvae.overrides import override
from seqssvae.runs import checkpoints
from seqssvae.show.explorer import open_run
from seqssvae.show.label_page import label_section
from seqssvae.teacher.distil import distil
from seqssvae.trained import load
from seqssvae.training.fit import fit
from tests.support.rows import write_rows
from tests.support.training import assert_same_run

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
    with pytest.raises(InputError, match=r"label: wanted COLUMN=LABEL, once for each of 'int"):
        labels.fitting("de")
    with pytest.raises(InputError, match=r"label: column 'language': wanted a .*mean 'de'"):
        labels.fitting("language=DE")
    with pytest.raises(InputError, match="label: wanted COLUMN=LABEL, once .*, got 'intent=b, c'"):
        labels.fitting("intent=a,intent=b, c")
    assert Labels(("u", "v")).fitting("v") == [1]
    assert Labels(()).fitting(None) is None
    with pytest.raises(InputError, match="label: wanted one of u, v, got none"):
        Labels(("u", "v")).fitting(None)


def test_rows_that_are_alone_in_their_combination_are_held_out(tmp_path: Path) -> None:
    """By the labels of the column with most, of each of which a row is left to train on."""
    pairs = itertools.product(range(3), range(10))
    rows = [{"text": f"t{i}", "a": a, "b": b} for i, (a, b) in enumerate(pairs)]
    path = write_rows(tmp_path / "f.jsonl", rows)
    prepared = prepare(override(Config(), {"data.label_column": "a,b"}), path)
    assert len(prepared.labelled_dev) == 6
    assert set(prepared.labels.parts(prepared.labelled.y)[1]) == set(range(10))


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


WORDS = {
    "intent": {"book": "room table seat", "cancel": "stop undo quit", "ask": "why when where"},
    "language": {"de": "der und nicht", "en": "the and not"},
}
SIZES = {
    **dict.fromkeys(map("model.{}_size".format, ("embedding", "encoder", "decoder")), 8),
    "model.latent_size": 2,
    "model.ngram_buckets": 512,
    "data.label_column": "intent,language",
    "training.num_threads": 1,
}


def made_up(num_rows: int, columns: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Rows whose two labels are independent, with those of some columns; half of a row is noise."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(num_rows):
        labels = {name: str(random.choice(list(of))) for name, of in WORDS.items()}
        words = [random.choice(WORDS[name][of].split()) for name, of in labels.items()] * 2
        words += list(random.choice(["foo", "bar", "spam", "ham", "egg"], 4))
        text = " ".join(random.permutation(words))
        rows.append({"text": text, **{name: labels[name] for name in columns}})
    return rows


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 labels of both columns, 6 of one alone and 12 of the other, and 200 rows without."""
    parts = [(24, [*WORDS]), (6, ["intent"]), (12, ["language"]), (200, [])]
    listed = [made_up(n, columns, seed) for seed, (n, columns) in enumerate(parts)]
    folder = tmp_path_factory.mktemp("columns")
    write_rows(folder / "test.jsonl", made_up(60, [*WORDS], 9) + made_up(20, ["language"], 10))
    return write_rows(folder / "train.jsonl", itertools.chain(*listed))


@pytest.fixture(scope="module")
def run(rows: Path) -> Path:
    out, settings = rows.parent / "run", {**SIZES, "training.num_steps": 40}
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    flags += ["--test", str(rows.parent / "test.jsonl")]
    assert main(["train", "--data", str(rows), "--out", str(out), *flags]) == 0
    return out


def test_few_labels_of_each_column_are_enough(run: Path, rows: Path) -> None:
    """A product of heads learns from rows with one label alone; the run is read from its folder."""
    figures = load(run).evaluate(rows.parent / "test.jsonl", likelihood_rows=20)
    assert figures["num_labelled"] == 60
    assert figures["accuracy"] > 0.8
    found = figures["columns"]
    assert (found["intent"]["num_labelled"], found["language"]["num_labelled"]) == (60, 80)
    assert all(of_column["accuracy"] > 0.9 for of_column in found.values())
    assert list(found["language"]["classes"]) == ["de", "en"]
    assert np.sum(found["intent"]["confusion"]) == 60
    model = load(run).model
    assert model.label_columns == {"intent": 3, "language": 2}
    assert model.head_y is not None and model.ngrams is not None
    assert len(model.head_y.features.weight) == model.ngrams.weight.shape[1] == 5


def test_a_row_is_classified_by_each_column(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["room seat der und foo", "undo the and spam stop"]
    found = load(run).classify(texts, abstain=0.999999, coverage=0.5)
    assert [(row["label_intent"], row["label_language"]) for row in found] == [(None, None)] * 2
    found = load(run).classify(texts)
    assert [(row["label_intent"], row["label_language"]) for row in found] == [
        ("book", "de"), ("cancel", "en")
    ]  # fmt: skip
    for row in found:
        joint = row["probabilities"]
        for column, of_column in WORDS.items():
            for label in of_column:
                sums = sum(p for name, p in joint.items() if f"{column}={label}" in name.split(","))
                assert row[f"probabilities_{column}"][label] == pytest.approx(sums)
            best = max(row[f"probabilities_{column}"].values())
            assert row[f"probability_{column}"] == best
    capsys.readouterr()
    assert main(["classify", str(run), texts[0]]) == 0
    cells = capsys.readouterr().out.strip().split("\t")
    assert cells[::2] == ["book", "de"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_predictions_of_columns_are_written(
    run: Path, rows: Path, tmp_path: Path, kind: str
) -> None:
    out, data = tmp_path / f"out.{kind}", rows.parent / "test.jsonl"
    command = ["classify", str(run), "--data", str(data), "--out", str(out), "--abstain", "1e-9"]
    assert main(command) == 0
    columns = datasets.load_dataset(kind.replace("jsonl", "json"), data_files=str(out))["train"]
    truth = [json.loads(line) for line in data.read_text().splitlines()]
    pairs = zip(columns["label_language"], truth, strict=True)
    assert np.mean([found == row["language"] for found, row in pairs]) > 0.9


def test_commands_print_and_suggest_columns(
    run: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(rows.parent / "test.jsonl")
    assert main(["evaluate", str(run), "--data", data, "--likelihood-rows", "9"]) == 0
    printed = capsys.readouterr().out
    assert "column intent: accuracy" in printed and "column language: accuracy" in printed
    out = tmp_path / "next.csv"
    for kind, line in ({"csv": "text\nroom der", "jsonl": '{"text": "room der"}'}).items():
        pool = tmp_path / f"pool.{kind}"  # without any of the columns
        pool.write_text(line + "\n")
        words = ["suggest", str(run), "--data", str(pool), "--out", str(tmp_path / f"to.{kind}")]
        assert main([*words, "--label-column", "intent,tongue"]) == 2
        assert "wanted a column 'intent'" in capsys.readouterr().err
        assert main(words) == 0
        assert read_corpus(tmp_path / f"to.{kind}", BOTH).label_names() == ()
    assert main(["suggest", str(run), "--data", str(rows), "-n", "3", "--out", str(out)]) == 0
    assert out.read_text().startswith("id,text,intent,language,predicted,probability,doubt\n")
    assert main(["explain", str(run), "room der"]) == 0
    assert "intent=" in capsys.readouterr().out
    assert main(["check", str(run), "--data", data, "--rows", "3", "--draws", "2"]) == 0
    folder = tmp_path / "onnx"
    assert main(["export", str(run), "--to", "onnx", "--out", str(folder)]) == 0  # it is compared


def test_labels_that_are_left_out_are_drawn_or_kept(
    run: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the prior in new sequences, by q(y | x) in rewritten ones."""
    model, used = load(run, "cpu"), list[Any]()
    plain = Decoding.write

    def write(self: Decoding, network: Any, z: Any, y: Any, streams: Any) -> Any:
        used.append(y)
        return plain(self, network, z, y, streams)

    monkeypatch.setattr(Decoding, "write", write)
    assert len(model.generate("language=de", 60, strategy="greedy")) == 60
    assert set(used.pop().tolist()) == {0, 2, 4}
    model.generate(None, 60, strategy="greedy")
    assert set(used.pop().tolist()) == set(range(6))
    texts = ["room seat the and foo table", "undo stop quit der und nicht"]
    model.transfer(texts, to="language=de", strategy="greedy")
    assert [model.labels.names[y] for y in used.pop().tolist()] == [
        "intent=book,language=de", "intent=cancel,language=de"
    ]  # fmt: skip
    model.interpolate(texts[0], texts[1], 3, label="intent=cancel", strategy="greedy")
    assert {model.labels.names[y] for y in used.pop().tolist()} == {"intent=cancel,language=en"}
    out = tmp_path / "new.jsonl"
    command = ["generate", str(run), "--label", "language=de", "-n", "60", "--out", str(out)]
    assert main([*command, "--strategy", "greedy", "--unique"]) == 0
    made = [json.loads(line) for line in out.read_text().splitlines()]
    assert {(row["intent"], row["language"]) for row in made} == {
        (intent, "de") for intent in ("ask", "book", "cancel")
    }  # also the labels that are drawn
    drawn = [f"intent={row['intent']},language=de" for row in made]
    wanted = model.iterate_with_y("language=de", len(made), strategy="greedy", unique=True)
    assert drawn == [model.labels.names[y] for _, y in wanted if y is not None]
    with pytest.raises(InputError, match="label: column 'language': wanted a known label"):
        model.transfer(texts, to="language=fr")


def test_each_column_is_labelled_in_the_explorer(run: Path, tmp_path: Path) -> None:
    """Of rows without any of the columns; a row may be given the label of some."""
    texts = ["room der", "undo the", "why nicht", "stop and"]
    pool = write_rows(tmp_path / "pool.jsonl", [{"text": text} for text in texts])
    exploration = open_run(run, pool)
    assert list(exploration.label_columns) == ["intent", "language"]
    rows = exploration.suggest(0)[:3]
    page = str(label_section(exploration))
    assert "'ask'" in page and "'en'" in page and "--from" not in page
    content = exploration.labelled_file(rows, ["book", "de", None, " en ", "", None])
    found = [json.loads(line) for line in content.splitlines()]
    assert [{n: v for n, v in row.items() if n in WORDS} for row in found] == [
        {"intent": "book", "language": "de"}, {"language": "en"}
    ]  # fmt: skip
    assert [row["text"] for row in found] == [row["sequence"] for row in rows[:2]]


def test_what_takes_one_column_refuses_several(
    run: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(rows), "--label-column", "intent,language"]
    for command, message in (
        (["compare", *data, "--test", str(rows)], "wanted one label column to compare on, got int"),
        (
            ["train", *data, "--from", str(run)],
            "wanted one label column beside --from, got several",
        ),
    ):
        assert main([*command, "--out", str(tmp_path / "out.jsonl")]) == 2
        assert message in capsys.readouterr().err


def test_a_killed_run_of_columns_is_resumed(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = override(
        Config(),
        {**SIZES, "training.num_steps": 6, "training.evaluate_every": 2,
         "objective.kl_warmup_steps": 2, "model.prior": "labelled"},
    )  # fmt: skip
    fit(config, rows, tmp_path / "whole")
    number, save = itertools.count(1), checkpoints.save_checkpoint

    def killed(folder: Path, state: Mapping[str, Any]) -> None:
        if next(number) == 3:
            raise KeyboardInterrupt
        save(folder, state)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("seqssvae.training.fit.save_checkpoint", killed)
        fit(config, rows, tmp_path / "broken")
    fit(config, rows, tmp_path / "broken", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    prior = load(tmp_path / "whole").model.prior_logits.exp().view(3, 2)
    np.testing.assert_allclose(prior, prior.sum(1, keepdim=True) * prior.sum(0), rtol=1e-5)
    assert float(prior.std()) > 0.001


def test_a_prior_of_columns_is_given_label_by_label(rows: Path) -> None:
    config = override(Config(), {**SIZES, "model.prior": (2.0, 1.0, 1.0, 3.0, 1.0)})
    prior = build(config, prepare(config, rows)).prior_logits.exp().view(3, 2)
    np.testing.assert_allclose(prior.sum(1), [0.5, 0.25, 0.25], rtol=1e-5)
    np.testing.assert_allclose(prior.sum(0), [0.75, 0.25], rtol=1e-5)
    with pytest.raises(InputError, match="model.prior: wanted 5 numbers above 0, one for each cl"):
        build(override(config, {"model.prior": (1.0,) * 6}), prepare(config, rows))


def test_each_column_has_a_teacher(rows: Path) -> None:
    """As good as one of that column alone, which has the same rows; one label teaches nothing."""
    prepared = prepare(override(Config(), SIZES), rows)
    part = NGramLogits(num_buckets=512, num_classes=6, label_sizes=(3, 2))
    teachers = distil(part, prepared, seed=0)
    assert [teacher.posteriors.shape[1] for teacher in teachers] == [3, 2]
    for number, alone in enumerate(prepared.by_column()):
        single = NGramLogits(num_buckets=512, num_classes=len(alone.labels.names))
        distil(single, alone, seed=0)
        torch.testing.assert_close(part.weight.split([3, 2], 1)[number], single.weight)
    y = prepared.labelled.y
    assert (next(prepared.by_column()).labelled.y >= 0).sum() == (y >= 0).sum() + 6
    labels = Labels.of_columns({**prepared.labels.columns, "third": ["one"]})
    of_three = dataclasses.replace(prepared, labels=labels)
    third = NGramLogits(num_buckets=512, num_classes=6, label_sizes=(3, 2, 1))
    assert len(distil(third, of_three, seed=0)) == 2
    torch.testing.assert_close(third.weight[:, :5], part.weight)
    assert not third.weight[:, 5].any()
