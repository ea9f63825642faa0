from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from seqssvae.config import Config
from seqssvae.data.corpus import Corpus, read_corpus
from seqssvae.data.labels import Labels
from seqssvae.data.prepare import prepare
from seqssvae.data.sources import (
    RowReader,
    read_like,
    read_sequences,
    read_with_labels,
    vocabulary_kind,
)
from seqssvae.data.vocabulary import EOS, UNK, CharacterVocabulary, TokenVocabulary
from seqssvae.errors import InputError
from seqssvae.overrides import override
from tests.support.rows import write_rows

Rows = Sequence[Mapping[str, Any]]


def settings(**changes: Any) -> Config:
    return override(Config(), {key.replace("__", "."): value for key, value in changes.items()})


def test_the_kind_of_vocabulary(tmp_path: Path) -> None:
    def kind(rows: Rows, asked: str = "auto") -> str:
        config = settings(data__vocabulary=asked)
        return vocabulary_kind(config.data, read_corpus(write_rows(tmp_path / "rows.jsonl", rows)))

    word, sentence, tokens = {"text": "word"}, {"text": "two words"}, {"tokens": ["a", "b c"]}
    assert kind([word, word, sentence]) == "characters"
    assert kind([word, sentence, sentence]) == "sentencepiece"
    assert kind([word, sentence]) == "characters"  # no more than half
    assert kind([{"text": " padded "}]) == "characters"
    assert kind([tokens]) == kind([tokens], "tokens") == "tokens"
    assert kind([sentence], "characters") == "characters"
    assert kind([word], "sentencepiece") == "sentencepiece"
    for rows, asked, got in (
        ([word], "tokens", "text"),
        ([tokens], "characters", "tokens"),
        ([tokens], "sentencepiece", "tokens"),
    ):
        with pytest.raises(InputError, match=rf"rows.jsonl: wanted .* = {asked}, got {got}"):
            kind(rows, asked)


def test_rows_without_any_label_are_evaluated_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [{"text": f"a{i}"} for i in range(4)])
    found = read_like(source, settings(), CharacterVocabulary("a"), Labels(("u", "v")))
    assert (found.y == -1).all() and "rows.jsonl: no row has a label" in caplog.text
    read_like(source, settings(), CharacterVocabulary("a"), None)
    read_like(source, settings(), CharacterVocabulary("a"), Labels(()))
    assert caplog.text.count("no row has a label") == 1


def test_words_for_no_label_in_another_file(tmp_path: Path) -> None:
    """They are unlabelled unless training has such a class; not so among possible labels."""
    rows: Rows = [{"text": "a", "label": label} for label in ("u", "NA", "v", "?", None)]
    source, vocabulary = write_rows(tmp_path / "rows.jsonl", rows), CharacterVocabulary("a")
    for names, y in ((("u", "v"), [0, -1, 1, -1, -1]), (("NA", "u", "v"), [1, 0, 2, -1, -1])):
        assert read_like(source, settings(), vocabulary, Labels(names)).y.tolist() == y
    odd = write_rows(tmp_path / "odd.jsonl", [rows[0], {"text": "a", "label": ["v", "NA"]}])
    with pytest.raises(InputError, match=r"odd\.jsonl:2: wanted a list of classes, got 'v', 'NA'"):
        read_like(odd, settings(), vocabulary, Labels(("u", "v")))


def test_rows_of_another_file_are_read_as_the_training_rows(tmp_path: Path) -> None:
    vocabulary, labels = CharacterVocabulary("ab"), Labels(("u", "v"))
    config = settings(data__text_column="word", data__label_column="kind", data__max_length=4)
    rows: Rows = [
        {"word": "ab", "kind": "v"},
        {"word": "bxb", "kind": None},
        {"word": "aaaaa", "kind": ["u", "v"]},
    ]
    found = read_like(write_rows(tmp_path / "rows.jsonl", rows), config, vocabulary, labels)
    assert found.y.tolist() == [1, -1, -1] and found.candidates == {2: (0, 1)}
    assert found.padded(np.arange(3))[0].tolist() == [[4, 5, EOS, 0], [5, UNK, 5, EOS], [4] * 4]
    assert found.row(2).tolist() == [4] * 5 + [EOS]  # for n-grams
    unread = read_like(tmp_path / "rows.jsonl", config, vocabulary, None)
    assert unread.y.tolist() == [-1, -1, -1] and not unread.candidates
    assert read_sequences(tmp_path / "rows.jsonl", config) == ["ab", "bxb", "aaaaa"]


def test_an_unknown_label_is_an_error_with_its_row(tmp_path: Path) -> None:
    vocabulary, labels = CharacterVocabulary("ab"), Labels(("left", "right"))
    for label in ("lefft", ["right", "lefft"]):
        rows: Rows = [{"text": "a", "label": "left"}, {"text": "b", "label": label}]
        source = write_rows(tmp_path / "rows.jsonl", rows)
        with pytest.raises(InputError, match=r"rows\.jsonl:2: .*'left', 'right'.*got 'lefft'"):
            read_like(source, settings(), vocabulary, labels)
        assert len(read_like(source, settings(), vocabulary, None)) == 2


def test_rows_of_the_other_kind_than_in_training_are_an_error(tmp_path: Path) -> None:
    text = write_rows(tmp_path / "text.jsonl", [{"text": "ab"}])
    tokens = write_rows(tmp_path / "tokens.jsonl", [{"tokens": ["a", "b"]}])
    with pytest.raises(InputError, match="text.jsonl: wanted tokens as in training, got text"):
        read_like(text, settings(), TokenVocabulary(["a", "b"]), None)
    with pytest.raises(InputError, match="tokens.jsonl: wanted text as in training, got tokens"):
        read_like(tokens, settings(), CharacterVocabulary("ab"), None)
    assert read_sequences(tokens, settings()) == [["a", "b"]]


def named_by_id(corpus: Corpus) -> dict[str, Any]:
    return {row.id: row.label for row in corpus}


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_labels_are_joined_by_id_from_another_table(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever their order, format and type of ids; labels beside the rows are not read."""
    rows = [{"id": i, "text": f"t{i}", "label": "old"} for i in range(5)]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    table = pandas.DataFrame({"label": ["u", "v", None, "w"], "ID": [3, 0, 2, 9]})
    match ending:
        case "jsonl":
            path = write_rows(tmp_path / "labels.jsonl", table.to_dict("records"))
        case "csv":
            table.to_csv(path := tmp_path / "labels.csv", index=False)
        case "parquet":
            table.to_parquet(path := tmp_path / "labels.parquet")
    corpus = read_with_labels(source, path, settings().data)
    assert named_by_id(corpus) == {"0": "v", "1": None, "2": None, "3": "u", "4": None}
    assert [row.sequence for row in corpus] == [f"t{i}" for i in range(5)]
    assert corpus.label_names() == ("u", "v") and corpus.labels_source == str(path)
    assert "1 ids are those of no row" in caplog.text
    prepared = prepare(settings(data__dev_fraction=0.0), corpus)
    assert sorted(prepared.labelled.ids) == ["0", "3"] and prepared.labels.names == ("u", "v")
    other = pandas.DataFrame({"id": range(5), "kind": [*"abcde"]})
    other.to_csv(tmp_path / "other.csv", index=False)
    named = read_with_labels(
        source, tmp_path / "other.csv", settings(data__label_column="kind").data
    )
    assert named.label_names() == (*"abcde",) and named.key != corpus.key


def test_labels_of_fasta_headers(tmp_path: Path) -> None:
    fasta, table = tmp_path / "a.fa", tmp_path / "labels.tsv"
    fasta.write_text(">p1 kinase\nMK\n>p2\nAA\n")
    table.write_text("id\tlabel\np2\tx\n")
    corpus = read_with_labels(fasta, table, settings().data)
    assert named_by_id(corpus) == {"p1": None, "p2": "x"}


@pytest.mark.parametrize(
    ("rows", "table", "message"),
    [
        ([{"id": "a"}], "id,label\na,x\na,y\n", r"labels.csv:3: wanted one label .* two of 'a'"),
        ([{"id": "a"}], "id,label\nb,x\n", r"labels.csv: wanted ids .* like 'a' .*, got 'b'"),
        ([{}], "id,label\n0,x\n", r"like '[0-9a-f]{16}' \(a checksum where there is no column"),
        ([{"id": "a"}], "id,kind\na,x\n", r"labels.csv: wanted a column of labels .*, got none"),
        ([{"id": "a"}], "name,label\na,x\n", r"labels.csv:1: wanted a column 'id'"),
        ([{"id": "a"}], "id,label\n,x\n", r"labels.csv:2: wanted a text, got an empty one"),
    ],
)
def test_tables_of_labels_that_do_not_fit(
    tmp_path: Path, rows: Rows, table: str, message: str
) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [{"text": "t", **row} for row in rows])
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(InputError, match=message) as error:
        read_with_labels(source, tmp_path / "labels.csv", settings().data)
    assert "\n" not in str(error.value)


def test_a_reader_reads_arguments_files_and_tables_alike(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = RowReader(settings(), CharacterVocabulary("abc "), Labels(("u", "v")), 0.0)
    rows = [{"text": "ab", "label": "v"}, {"text": "c a", "label": "u"}]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    found = [
        reader.read_texts(["ab", "c a"]),
        reader.read_sequences(row["text"] for row in rows),  # type: ignore[arg-type]
        reader.read_sequences(pandas.DataFrame(rows)),
        reader.read(source),
    ]
    assert len({tuple(one.symbols.tolist()) for one in found}) == 1 and not caplog.text
    assert all((one.y == -1).all() for one in found)
    assert reader.read(source, labels=True).y.tolist() == [1, 0]
    assert reader.split_texts(["c a"]) == ["c a"]
    of_tokens = RowReader(settings(), TokenVocabulary(["c", "a"]), Labels(()), 0.0)
    assert of_tokens.split_texts(["c a"]) == [["c", "a"]]
    assert of_tokens.read_texts(["c a"]).row(0)[-1] == EOS
    with pytest.raises(InputError, match="TEXT 2: wanted a sequence, got an empty one"):
        reader.read_texts(["a", " "])
    reader.read_texts(["x"])
    assert "1 symbols are not in the vocabulary" in caplog.text
