"""Ids of a cached file, against ids made now, and against `encode` row by row."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqssvae.config import Config
from seqssvae.data.columns import ColumnChoice
from seqssvae.data.corpus import Corpus, gather_corpus, read_corpus
from seqssvae.data.encode import describe_long_rows, encode_corpus, encode_sequences
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.labels import Labels
from seqssvae.data.vocabulary import (
    EOS,
    CharacterVocabulary,
    TokenVocabulary,
    Vocabulary,
    build_vocabulary,
)
from seqssvae.overrides import override
from seqssvae.storage.cache import cache_folder
from tests.support.rows import make_rows, write_rows

TEXTS = ["abc", "ab", "b", "cabbage", "a b", "żółć", "a", "bbbbbbbbbb"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(path: Path, texts: list[str]) -> Path:
    labels: list[Any] = ["x", None, ["x", "y"]]
    rows = [{"text": text, "label": labels[i % 3]} for i, text in enumerate(texts)]
    return write_rows(path, rows)


def row_by_row(corpus: Corpus, vocabulary: Vocabulary, max_length: int) -> EncodedRows:
    """The plain loop."""
    rows = list(corpus)
    ids = [[*vocabulary.encode(row.sequence), EOS][:max_length] for row in rows]
    y = [("x", "y").index(row.label) if isinstance(row.label, str) else -1 for row in rows]
    partial = [number for number, row in enumerate(rows) if isinstance(row.label, tuple)]
    return make_rows(ids, y, dict.fromkeys(partial, (0, 1)), [row.id for row in rows])


def check(found: EncodedRows, expected: EncodedRows) -> None:
    assert found.symbols.tolist() == expected.symbols.tolist()
    assert found.offsets.tolist() == expected.offsets.tolist()
    assert found.y.tolist() == expected.y.tolist()
    assert found.candidates == expected.candidates
    assert found.ids == expected.ids
    assert (found.num_truncated, found.num_unknown) == (
        expected.num_truncated,
        expected.num_unknown,
    )


def encode(
    corpus: Corpus, vocabulary: Vocabulary, labels: Labels | None, **options: Any
) -> EncodedRows:
    """A few rows at a time, and more than three rows in a file."""
    small: dict[str, Any] = {"max_rows_in_memory": 3, "chunk_rows": 3}
    return encode_corpus(corpus, vocabulary, labels, **{**small, **options})


def cached() -> list[str]:
    return sorted(path.name for path in cache_folder().glob("*.ids"))


@pytest.mark.parametrize("max_length", [1, 4, 20])
@pytest.mark.parametrize("kind", ["characters", "sentencepiece"])
def test_cached_ids_are_those_made_now(tmp_path: Path, kind: str, max_length: int) -> None:
    corpus = read_corpus(write(tmp_path / "a.jsonl", TEXTS))
    vocabulary = build_vocabulary(kind, TEXTS[:4], size=320)
    expected = row_by_row(corpus, vocabulary, max_length)
    labels = Labels(("x", "y"))
    for _ in range(2):
        check(encode(corpus, vocabulary, labels, max_length=max_length), expected)
        assert len(cached()) == 1
    given = [list(row.label) if isinstance(row.label, tuple) else row.label for row in corpus]
    in_memory = gather_corpus(TEXTS, given, source="program")
    check(encode(in_memory, vocabulary, labels, max_length=max_length), expected)
    parallel = encode(in_memory, vocabulary, labels, max_length=max_length, num_threads=2)
    check(parallel, expected)
    assert len(cached()) == 1


@pytest.mark.parametrize("in_memory", [False, True])
def test_rows_are_kept_past_what_recurrent_networks_read(tmp_path: Path, in_memory: bool) -> None:
    corpus = read_corpus(write(tmp_path / "a.jsonl", TEXTS))
    vocabulary = CharacterVocabulary("abc")
    limits = {"max_length": 3, "whole_length": 8}
    if in_memory:
        found = encode_sequences([row.sequence for row in corpus], vocabulary, **limits)
    else:
        found = encode(corpus, vocabulary, None, **limits)
    expected = row_by_row(corpus, vocabulary, 8)
    assert found.symbols.tolist() == expected.symbols.tolist()
    assert found.offsets.tolist() == expected.offsets.tolist()
    assert found.lengths.tolist() == np.minimum(expected.lengths, 3).tolist()
    assert found.num_truncated == sum(len(text) >= 3 for text in TEXTS)


def test_the_log_says_what_is_read_of_long_rows() -> None:
    config = override(Config(), {"data.max_length": 10, "data.ngram_reach": 3})
    wanted = "5 rows are longer than data.max_length = 10: "
    whole = "n-grams of q(y|x) are read up to symbol 30, all else is truncated"
    assert describe_long_rows(5, config) == wanted + whole
    for changes in ({"data.ngram_reach": 1}, {"model.ngram_buckets": 0}):
        assert describe_long_rows(5, override(config, changes)) == wanted + "truncated"


def test_cached_ids_are_mapped_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = read_corpus(write(tmp_path / "a.jsonl", TEXTS))
    vocabulary = CharacterVocabulary("abc")
    first = encode(corpus, vocabulary, None, max_length=9)
    monkeypatch.setattr(CharacterVocabulary, "encode_many", None)  # a call would fail
    again = encode(corpus, CharacterVocabulary("abc"), None, max_length=9)
    check(again, first)
    assert not again.symbols.flags.writeable and not again.symbols.flags.owndata


def test_other_files_vocabularies_and_settings_have_ids_of_their_own(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS)
    vocabulary = CharacterVocabulary("abc")

    def symbols(vocabulary: Vocabulary = vocabulary, max_length: int = 9) -> list[int]:
        rows = encode(read_corpus(path), vocabulary, None, max_length=max_length)
        return [int(symbol) for symbol in rows.symbols]

    first = symbols()
    others = [symbols(CharacterVocabulary("cba")), symbols(max_length=3)]
    write(path, [text[::-1] for text in TEXTS])  # of the same size
    os.utime(path, ns=(1, 1))
    others.append(symbols())
    for number, other in enumerate(others):
        assert other != first and other not in others[:number]
    assert len(cached()) == 4


def test_a_truncated_file_is_made_again(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path / "a.jsonl", TEXTS))
    vocabulary = CharacterVocabulary("abc")
    expected = row_by_row(corpus, vocabulary, 9).symbols.tolist()
    for size in (0, 40, -4):
        encode(corpus, vocabulary, None, max_length=9)
        path = cache_folder() / cached()[0]
        path.write_bytes(path.read_bytes()[:size])
        found = encode(corpus, vocabulary, None, max_length=9)
        assert found.symbols.tolist() == expected


def test_joined_corpora_are_encoded_as_one(tmp_path: Path) -> None:
    first, second = (
        read_corpus(write(tmp_path / f"{i}.jsonl", TEXTS[i:]), ColumnChoice(read_labels=not i))
        for i in range(2)
    )
    vocabulary = CharacterVocabulary("abc")
    rows = encode(first.joined(second), vocabulary, Labels(("x", "y")), max_length=9)
    alone = [row_by_row(corpus, vocabulary, 9) for corpus in (first, second)]
    check(rows, EncodedRows.concatenate(alone))
    assert len(cached()) == 1


tokens = st.lists(st.lists(st.sampled_from(["a", "bb", "?"]), min_size=1, max_size=5), min_size=1)


@given(rows=tokens, max_length=st.integers(1, 6))
def test_tokens_are_encoded_as_row_by_row(rows: list[list[str]], max_length: int) -> None:
    corpus, vocabulary = gather_corpus(rows, source="program"), TokenVocabulary(["a", "bb"])
    found = encode(corpus, vocabulary, None, max_length=max_length)
    check(found, row_by_row(corpus, vocabulary, max_length))


def test_long_rows_are_encoded_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    encode_many = CharacterVocabulary.encode_many

    def counted(self: CharacterVocabulary, sequences: Any, *, num_threads: int = 1) -> Any:
        sizes.append(len(sequences))
        return encode_many(self, sequences, num_threads=num_threads)

    monkeypatch.setattr(CharacterVocabulary, "encode_many", counted)
    corpus, vocabulary = gather_corpus(["abc"] * 5, source="program"), CharacterVocabulary("abc")
    found = encode(corpus, vocabulary, None, max_length=9, chunk_rows=100, chunk_symbols=5)
    assert sizes == [2, 2, 1]
    np.testing.assert_array_equal(found.symbols, row_by_row(corpus, vocabulary, 9).symbols)
