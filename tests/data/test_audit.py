"""Likely mistakes are reported and counted, and the rows stay as they are."""

import logging
import random
import re
from pathlib import Path
from typing import Any

import pytest

from seqssvae.cli import main
from seqssvae.config import Config
from seqssvae.data.audit import count_shared, label_candidates
from seqssvae.data.columns import ColumnChoice
from seqssvae.data.corpus import Corpus, gather_corpus, read_corpus
from seqssvae.data.prepare import prepare, warn_of_test_rows_seen
from seqssvae.overrides import override
from tests.support.rows import write_rows

Rows = list[dict[str, Any]]


def labelled(*labels: Any) -> Rows:
    return [{"text": f"t{i}", "label": label} for i, label in enumerate(labels)]


PLAIN = labelled("a", "a", "b", "b")


@pytest.mark.parametrize(
    ("rows", "settings", "wanted"),
    [
        (PLAIN, {}, []),
        (
            labelled("A", "A", "a", "a", " a", " a", "b", "b"),
            {},
            ["the labels ' a', 'A', 'a' differ by case, space or Unicode form alone: taken as "
             "different classes"],
        ),
        (
            labelled("\u00e9", "\u00e9", "e\u0301", "e\u0301"),
            {},
            ["the labels 'e\u0301', '\u00e9' differ by case, space or Unicode form alone: taken "
             "as different classes"],
        ),
        (
            labelled(-1, -1, -1, 0, 0),
            {},
            ["3 rows have the label '-1': taken as a class of its own; leave a label empty if it "
             "is not known, or add it to data.unlabelled_values"],
        ),
        (
            labelled(*"aabb", "Unknown", "Unknown", "none", "none"),
            {},
            ["2 rows have the label 'Unknown': taken as a class", "2 rows have the label 'none'"],
        ),
        (labelled("a", "a"), {}, ["all labels are 'a': a classifier needs at least two classes"]),
        (labelled("a", "a", "b"), {}, ["1 of 2 classes has one labelled row only, not held "
                                       "out: 'b'"]),
        (
            labelled(*"aabbcc"),
            {"data.num_labels": 2},
            ["1 of 3 classes has no labelled row left: ",
             "2 of 3 classes have one labelled row only, not held out: "],
        ),
        (
            [{**row, "id": id} for row, id in zip(PLAIN, (1, "1", "x", 1), strict=True)],
            {},
            ["2 rows repeat an earlier id: -2, -3, ... is added to theirs"],
        ),
        (
            PLAIN + PLAIN,  # the same content without ids is no repeated id
            {},
            ["4 of 8 rows have the sequence of an earlier row: equal ones are all trained on, or "
             "all held out"],
        ),
        (
            [*PLAIN, {"text": "t0", "label": "b"}, {"text": "t1", "label": "a"}, {"text": "t2"}],
            {},
            ["3 of 7 rows have the sequence of an earlier row: equal ones are all trained on",
             "2 labelled rows have the sequence of another row and another label"],
        ),
        ([{"text": "a"}, {"text": "b"}], {"data.unlabelled_only": True}, []),
    ],
)  # fmt: skip
def test_warnings(tmp_path: Path, rows: Rows, settings: dict[str, Any], wanted: list[str]) -> None:
    config = override(Config(), {"data.vocabulary": "characters", **settings})
    prepared = prepare(config, write_rows(tmp_path / "rows.jsonl", rows))
    assert len(prepared.warnings) == len(wanted), prepared.warnings
    for line, start in zip(prepared.warnings, wanted, strict=True):
        assert line.startswith(start)
    names = {str(row["label"]) for row in rows if "label" in row}
    assert set(prepared.labels.names) == names  # none was merged with another


def test_files_without_labels_among_others_are_named(tmp_path: Path) -> None:
    parts = [PLAIN, [{"text": "x", "intent": "a"}, {"text": "y", "intent": "b"}]]
    files = [write_rows(tmp_path / f"{i}.jsonl", rows) for i, rows in enumerate(parts)]
    prepared = prepare(Config(), [files[0], files[1]])
    assert prepared.warnings == (f"{files[1]}: no row has a label, unlike other files",)
    assert prepare(Config(), files[0]).warnings == ()


@pytest.mark.parametrize("word", ["NaN", "NA", "None", "null", "?", "<NA>"])
def test_a_word_for_no_label_is_no_class(tmp_path: Path, word: str) -> None:
    """And that is said; another list of such words may be given."""
    rows = [*labelled(*"aabb", word, word, " "), {"text": "u"}]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    prepared = prepare(Config(), source)
    assert prepared.labels.names == ("a", "b") and len(prepared.unlabelled) == 4
    assert prepared.warnings == (
        f"2 rows have the label {word!r}: unlabelled; see data.unlabelled_values",
    )
    given = override(Config(), {"data.unlabelled_values": ["a"]})
    assert prepare(given, source).labels.names == tuple(sorted(["b", word]))
    none = override(Config(), {"data.unlabelled_values": "[]"})
    assert prepare(none, source).labels.names == tuple(sorted(["a", "b", word]))


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (
            ["ham\tsee you", "spam\tfree", "ham\tok", "x"],
            "3 of the first 4 texts are or contain a tab: .*suffix .tsv",
        ),
        (["[6, 11]", '["a", "b"]'], "2 of .* a list: name the column with --tokens-column"),
        (['{"text": "a"}'], "1 of .* a JSON object: give the file the suffix .jsonl"),
        (["[nH]c", "[x] y", "{a}", "a\t", "[12]a"], None),
        (["a\tb", "ab"], None),  # no more than half
    ],
)
def test_texts_of_another_format_are_warned_of(
    tmp_path: Path, texts: list[str], wanted: str | None
) -> None:
    (tmp_path / "rows.txt").write_text("".join(f"{text}\n" for text in texts))
    config = override(Config(), {"data.unlabelled_only": True, "data.vocabulary": "characters"})
    found = prepare(config, tmp_path / "rows.txt").warnings
    assert len(found) == (wanted is not None)
    assert wanted is None or re.search(wanted, found[0])


def test_rows_in_both_files_are_counted(tmp_path: Path) -> None:
    """By their sequences alone; repeated test rows are counted each time."""
    train = write_rows(tmp_path / "train.jsonl", PLAIN)
    more = write_rows(tmp_path / "more.jsonl", [{"text": "u"}])
    test = write_rows(tmp_path / "test.jsonl", labelled("b", "new")[:1] * 2 + [{"text": "u"}])
    assert warn_of_test_rows_seen(Config(), train, test) == 2
    assert warn_of_test_rows_seen(Config(), train, test, unlabelled_source=more) == 3
    assert warn_of_test_rows_seen(Config(), train, more) == 0


def test_shared_rows_are_counted_as_by_a_loop(tmp_path: Path) -> None:
    """Rows of tokens, also of tokens that look alike when joined."""
    generator = random.Random(0)
    tokens = ["a", "b", "ab", "1:a", "1"]

    def draw(name: str, number: int) -> tuple[Corpus, list[list[str]]]:
        rows = [generator.choices(tokens, k=generator.randint(1, 3)) for _ in range(number)]
        path = write_rows(tmp_path / name, [{"tokens": row} for row in rows])
        return read_corpus(path), rows

    (test, wanted), (one, first), (two, second) = (
        draw(f"{number}.jsonl", number) for number in (400, 20, 10)
    )
    expected = sum(row in first or row in second for row in wanted)
    assert 0 < expected < 400
    assert count_shared(test, [one, two]) == expected


def test_train_and_compare_log_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_rows(tmp_path / "rows.jsonl", labelled("A", "A", "a", "a"))
    words = (
        f"train --data {path} --test {path} --out {tmp_path / 'run'} --model.ngram_buckets=0 "
        "--model.encoder_size=2 --model.decoder_size=2 --objective.kl_warmup_steps=1 "
        "--training.num_steps=1 --training.num_threads=1"
    ).split()
    compare = (
        f"compare --data {path} --test {path} --out {tmp_path / 'results'} --arms nb-words "
        "--budgets 4 --draws 1"
    ).split()
    for command in (words, compare):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert main(command) == 0
        assert "4 test rows are also training rows: results are optimistic" in caplog.text
        assert "the labels 'A', 'a' differ by case" in caplog.text


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "hub", "dataset"])
def test_columns_that_may_hold_labels(tmp_path: Path, kind: str) -> None:
    """Few distinct values, whatever their type; no ids, numbers with decimals, or constants."""
    import datasets

    rows = [
        {"id": i, "body": f"b{i}", "n": i, "x": i + 0.5, "one": "k", "intent": "uv"[i % 2],
         "toxic": i % 3 % 2, "flag": i > 3, "few": "w" if i == 2 else None}
        for i in range(8)
    ]  # fmt: skip
    dataset, source = datasets.Dataset.from_list(rows), tmp_path / f"rows.{kind}"
    match kind:
        case "csv":
            dataset.to_csv(source)
        case "jsonl":
            dataset.to_json(source)
        case "parquet":
            dataset.to_parquet(source)
        case _:
            dataset.to_parquet(tmp_path / "train.parquet")
    given: Any = {"hub": f"hub:{tmp_path}", "dataset": dataset}.get(kind, source)
    found = label_candidates(given, ColumnChoice(text="body"))
    assert found == {"intent": ["u", "v"], "toxic": ["0", "1"], "flag": ["False", "True"]}
    assert label_candidates(gather_corpus(["a"], source="program")) == {}
