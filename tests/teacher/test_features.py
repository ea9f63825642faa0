"""Sequences as ids, and document-term matrices of their n-grams."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer

from seqssvae.data.encoded import EncodedRows
from seqssvae.data.vocabulary import EOS, NUM_SPECIAL, UNK
from seqssvae.nn.ngrams import NGrams, count_ngrams
from seqssvae.teacher.features import Analyzer, DocumentTermMatrix, Features, Sequences
from tests.support.rows import make_rows

SENTENCES = ["It is so, is it?", "so it is not", "not so BAD"]


def list_rows(rows: EncodedRows) -> list[list[int]]:
    return [rows.row(number).tolist() for number in range(len(rows))]


def list_symbols(analyzer: Analyzer, level: str) -> list[str]:
    vocabulary = analyzer.vocabularies[level]
    return [vocabulary.symbol(id) for id in range(NUM_SPECIAL, len(vocabulary))]


def test_sentences_are_words_and_characters_in_lower_case() -> None:
    analyzer = Analyzer(SENTENCES)
    assert list_symbols(analyzer, "main") == ["it", "is", "so", ",", "?", "not", "bad"]
    features = analyzer.encode(["Not, it", "so new", ""])
    assert features.has_words and len(features) == 3
    assert list_rows(features.rows["main"]) == [[9, 7, 4, EOS], [6, UNK, EOS], [EOS]]
    assert features.vocabulary_sizes["main"] == NUM_SPECIAL + 7
    letters = analyzer.vocabularies["characters"].encode("so new")
    assert list_rows(features.rows["characters"])[1] == [*letters, EOS]
    assert letters[3] != UNK and letters[-1] == UNK  # n, and w


@pytest.mark.parametrize(
    ("sequences", "symbols"),
    [
        (["Ab", "ba c", "b"], ["a", "b", " ", "c"]),  # few spaces
        (["a b", "b a", "a c"], ["a", " ", "b", "c"]),  # two words a row
        ([["A", "a b"], [], ["c"]], ["A", "a b", "c"]),
        (["", ""], []),
    ],
)
def test_other_rows_are_read_as_characters_or_as_their_tokens(
    sequences: Sequences, symbols: list[str]
) -> None:
    analyzer = Analyzer(sequences)
    assert list_symbols(analyzer, "main") == symbols
    features = analyzer.encode(sequences)
    assert list(features.rows) == ["main"] and not features.has_words
    assert all(row[-1] == EOS and UNK not in row for row in list_rows(features.rows["main"]))


def test_of_a_long_row_the_first_symbols_are_read() -> None:
    features = Analyzer(SENTENCES, max_symbols=2).encode(SENTENCES)
    assert all(set(rows.lengths) == {3} for rows in features.rows.values())
    assert Analyzer([["a"] * 5], max_symbols=2).encode([["a"] * 5]).rows["main"].lengths == [3]


def test_rows_are_taken_in_the_order_given() -> None:
    analyzer, order = Analyzer(SENTENCES), np.array([2, 0, 2])
    taken = analyzer.encode(SENTENCES).take(order)
    again = analyzer.encode([SENTENCES[row] for row in order])
    for level, rows in taken.rows.items():
        assert list_rows(rows) == list_rows(again.rows[level])
    assert taken.vocabulary_sizes == again.vocabulary_sizes
    assert len(taken.take(np.zeros(0, np.int64))) == 0


def test_each_thing_is_computed_once() -> None:
    rows = make_rows([[4, 5, 6, EOS], [5, 4, EOS], [EOS]])
    features = Features({"main": rows}, {"main": 10})
    assert len(features.index("main", False).levels) == 4
    assert len(features.index("main", True).levels) == 1
    assert features.index("main", True).by_position
    assert features.index("main", False) is features.index("main", False)
    assert features.matrix("main", "bigrams") is features.matrix("main", "bigrams")
    for name, order, positions in (("bigrams", 2, 0), ("5-grams", 5, 0), ("positions", 2, 40)):
        (counts,) = count_ngrams(rows, [NGrams(order, positions)], num_buckets=2**20)
        assert (features.counts("main", name) != counts).nnz == 0
    with_words = Features({"main": rows, "characters": rows}, {"main": 10, "characters": 10})
    assert len(with_words.index("main", False).levels) == 3
    assert len(with_words.index("characters", False).levels) == 4


def test_ngrams_of_one_row_are_dropped() -> None:
    counts = csr_matrix(np.array([[1, 0, 2, 0], [3, 0, 0, 1], [0, 0, 1, 0]], np.float32))
    matrix = DocumentTermMatrix(counts)
    assert matrix.columns.tolist() == [0, 2]
    assert matrix.counts.toarray().tolist() == [[1, 2], [3, 0], [0, 1]]
    transformer, tfidf = matrix.tfidf
    expected = TfidfTransformer(sublinear_tf=True).fit(counts[:, [0, 2]])
    np.testing.assert_allclose(tfidf.toarray(), expected.transform(counts[:, [0, 2]]).toarray())
    np.testing.assert_allclose(transformer.idf_, expected.idf_)


def test_if_rows_have_nothing_in_common_all_ngrams_are_used() -> None:
    assert DocumentTermMatrix(csr_matrix(np.eye(3, 5))).columns.tolist() == [0, 1, 2]


def test_lsa_uses_the_largest_singular_values() -> None:
    table = np.random.default_rng(0).poisson(0.7, (20, 8)).astype(np.float32)
    table[5] = 0
    matrix = DocumentTermMatrix(csr_matrix(table), num_components=3)
    transformer, reduced = matrix.lsa
    full = matrix.tfidf[1].toarray()
    projected = full @ np.linalg.svd(full)[2][:3].T
    expected = projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-9)
    assert reduced.shape == (20, 3)
    np.testing.assert_allclose(reduced @ reduced.T, expected @ expected.T, atol=1e-4)
    np.testing.assert_allclose(transformer.transform(matrix.counts[3:6]), reduced[3:6], atol=1e-6)


def test_lsa_of_one_row_has_one_dimension() -> None:
    assert DocumentTermMatrix(csr_matrix(np.ones((1, 2), np.float32))).lsa[1].shape == (1, 1)
