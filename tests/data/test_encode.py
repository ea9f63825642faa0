"""Ids that are kept in a file, against ids that are made now, and against `encode` row by row."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqssvae.data import encode
from seqssvae.data.corpus import Corpus, gather_corpus, join_corpora, read_corpus
from seqssvae.data.encode import encode_corpus
from seqssvae.data.encoded import EncodedRows, RowPacker
from seqssvae.data.splits import Labels
from seqssvae.data.vocabulary import (
    CharacterVocabulary,
    TokenVocabulary,
    Vocabulary,
    build_vocabulary,
)
from seqssvae.storage.cache import cache_folder

TEXTS = ["abc", "ab", "b", "cabbage", "a b", "żółć", "a", "bbbbbbbbbb"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(encode, "KEPT_ROWS", 3)
    monkeypatch.setattr(encode, "CHUNK_ROWS", 3)


def write(path: Path, texts: list[str]) -> Path:
    labels: list[Any] = ["x", None, ["x", "y"]]
    rows = [{"text": text, "label": labels[i % 3]} for i, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row_by_row(corpus: Corpus, vocabulary: Vocabulary, max_length: int) -> EncodedRows:
    """The plain loop."""
    packer = RowPacker(max_length)
    for row in corpus:
        candidates = (0, 1) if isinstance(row.label, tuple) else ()
        y = ("x", "y").index(row.label) if isinstance(row.label, str) else -1
        packer.add(vocabulary.encode(row.sequence), y, candidates, row.id)
    return packer.rows()


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


def kept() -> list[str]:
    return sorted(path.name for path in cache_folder().glob("*.ids"))


@pytest.mark.parametrize("max_length", [1, 4, 20])
@pytest.mark.parametrize("kind", ["characters", "sentencepiece"])
def test_kept_ids_are_those_made_now(tmp_path: Path, kind: str, max_length: int) -> None:
    corpus = read_corpus(write(tmp_path / "a.jsonl", TEXTS))
    vocabulary = build_vocabulary(kind, TEXTS[:4], size=320)
    expected = row_by_row(corpus, vocabulary, max_length)
    labels = Labels(("x", "y"))
    for _ in range(2):
        check(encode_corpus(corpus, vocabulary, labels, max_length=max_length), expected)
        assert len(kept()) == 1
    given = [list(label) if isinstance(label, tuple) else label for label in corpus.labels()]
    in_memory = gather_corpus(TEXTS, given, source="program")
    check(encode_corpus(in_memory, vocabulary, labels, max_length=max_length), expected)
    parallel = encode_corpus(in_memory, vocabulary, labels, max_length=max_length, num_threads=2)
    check(parallel, expected)
    assert len(kept()) == 1


def test_kept_ids_are_mapped_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = read_corpus(write(tmp_path / "a.jsonl", TEXTS))
    vocabulary = CharacterVocabulary("abc")
    first = encode_corpus(corpus, vocabulary, None, max_length=9)
    monkeypatch.setattr(CharacterVocabulary, "encode_many", None)  # a call would fail
    again = encode_corpus(corpus, CharacterVocabulary("abc"), None, max_length=9)
    check(again, first)
    assert not again.symbols.flags.writeable and not again.symbols.flags.owndata


def test_other_files_vocabularies_and_settings_have_ids_of_their_own(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS)
    vocabulary = CharacterVocabulary("abc")

    def encode(vocabulary: Vocabulary = vocabulary, max_length: int = 9) -> list[int]:
        rows = encode_corpus(read_corpus(path), vocabulary, None, max_length=max_length)
        return [int(symbol) for symbol in rows.symbols]

    first = encode()
    others = [encode(CharacterVocabulary("cba")), encode(max_length=3)]
    write(path, [text[::-1] for text in TEXTS])  # of the same size
    os.utime(path, ns=(1, 1))
    others.append(encode())
    for number, other in enumerate(others):
        assert other != first and other not in others[:number]
    assert len(kept()) == 4


def test_a_shortened_file_is_made_again(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path / "a.jsonl", TEXTS))
    vocabulary = CharacterVocabulary("abc")
    expected = row_by_row(corpus, vocabulary, 9).symbols.tolist()
    for size in (0, 40, -4):
        encode_corpus(corpus, vocabulary, None, max_length=9)
        path = cache_folder() / kept()[0]
        path.write_bytes(path.read_bytes()[:size])
        found = encode_corpus(corpus, vocabulary, None, max_length=9)
        assert found.symbols.tolist() == expected


def test_joined_corpora_are_encoded_as_one(tmp_path: Path) -> None:
    first, second = (
        read_corpus(write(tmp_path / f"{i}.jsonl", TEXTS[i:]), read_labels=not i) for i in range(2)
    )
    vocabulary = CharacterVocabulary("abc")
    rows = encode_corpus(join_corpora(first, second), vocabulary, Labels(("x", "y")), max_length=9)
    alone = [row_by_row(corpus, vocabulary, 9) for corpus in (first, second)]
    check(rows, EncodedRows.concatenate(alone))
    assert len(kept()) == 1


tokens = st.lists(st.lists(st.sampled_from(["a", "bb", "?"]), min_size=1, max_size=5), min_size=1)


@given(rows=tokens, max_length=st.integers(1, 6))
def test_tokens_are_encoded_as_row_by_row(rows: list[list[str]], max_length: int) -> None:
    corpus, vocabulary = gather_corpus(rows, source="program"), TokenVocabulary(["a", "bb"])
    found = encode_corpus(corpus, vocabulary, None, max_length=max_length)
    check(found, row_by_row(corpus, vocabulary, max_length))


def test_long_rows_are_encoded_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "CHUNK_SYMBOLS", 5)
    monkeypatch.setattr(encode, "CHUNK_ROWS", 100)
    sizes: list[int] = []
    encode_many = CharacterVocabulary.encode_many

    def counted(self: CharacterVocabulary, sequences: Any, *, num_threads: int = 1) -> Any:
        sizes.append(len(sequences))
        return encode_many(self, sequences, num_threads=num_threads)

    monkeypatch.setattr(CharacterVocabulary, "encode_many", counted)
    corpus, vocabulary = gather_corpus(["abc"] * 5, source="program"), CharacterVocabulary("abc")
    found = encode_corpus(corpus, vocabulary, None, max_length=9)
    assert sizes == [2, 2, 1]
    np.testing.assert_array_equal(found.symbols, row_by_row(corpus, vocabulary, 9).symbols)
