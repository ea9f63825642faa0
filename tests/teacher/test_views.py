"""Sequences as ids, and bags of their n-grams."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from seqssvae.data.vocabulary import EOS, NUM_SPECIAL, UNK
from seqssvae.nn.ngrams import Block, count_blocks
from seqssvae.teacher.student import weigh_counts
from seqssvae.teacher.views import Bag, Material, Sequences, Splitter, View, Views
from tests.support.rows import make_rows

SENTENCES = ["It is so, is it?", "so it is not", "not so BAD"]


def list_rows(view: View) -> list[list[int]]:
    return [part.tolist() for part in np.split(view.symbols, view.offsets[1:-1])]


def make_views(rows: list[list[int]]) -> Views:
    flat = make_rows(rows)
    return Views(View(flat.symbols, flat.offsets, 10), None)


def test_sentences_are_words_and_characters_in_lower_case() -> None:
    splitter = Splitter(SENTENCES)
    assert splitter.has_words
    assert list(splitter.main) == ["it", "is", "so", ",", "?", "not", "bad"]
    assert list(splitter.main.values()) == list(range(NUM_SPECIAL, NUM_SPECIAL + 7))
    views = splitter.views(["Not, it", "so new", ""])
    words = views.by_name["main"]
    assert list_rows(words) == [[9, 7, 4, EOS], [6, UNK, EOS], [EOS]]
    assert words.vocabulary_size == NUM_SPECIAL + 7
    characters = views.by_name["characters"]
    letters = splitter.characters
    assert list_rows(characters)[1] == [
        *(letters.get(letter, UNK) for letter in "so new"),
        EOS,
    ]
    assert letters["n"] in list_rows(characters)[1] and UNK in list_rows(characters)[1]


@pytest.mark.parametrize(
    ("sequences", "main"),
    [
        (["Ab", "ba c", "b"], ["a", "b", " ", "c"]),  # few spaces
        (["a b", "b a", "a c"], ["a", " ", "b", "c"]),  # two words a row
        ([["A", "a b"], [], ["c"]], ["A", "a b", "c"]),
        (["", ""], []),
    ],
)
def test_other_rows_are_read_as_characters_or_as_their_tokens(
    sequences: Sequences, main: list[str]
) -> None:
    splitter = Splitter(sequences)
    assert list(splitter.main) == main
    views = splitter.views(sequences)
    assert list(views.by_name) == ["main"]
    assert all(row[-1] == EOS and UNK not in row for row in list_rows(views.by_name["main"]))


def test_of_a_long_row_the_first_symbols_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqssvae.teacher.views.MAX_SYMBOLS", 2)
    views = Splitter(SENTENCES).views(SENTENCES)
    assert all(set(np.diff(view.offsets)) == {3} for view in views.by_name.values())
    assert np.diff(Splitter([["a"] * 5]).views([["a"] * 5]).by_name["main"].offsets) == [3]


def test_rows_are_taken_in_the_order_given() -> None:
    splitter = Splitter(SENTENCES)
    views, order = splitter.views(SENTENCES), np.array([2, 0, 2])
    taken = views.take(order)
    again = splitter.views([SENTENCES[row] for row in order])
    for name, view in taken.by_name.items():
        assert list_rows(view) == list_rows(again.by_name[name])
        assert view.vocabulary_size == again.by_name[name].vocabulary_size
    assert len(views.take(np.zeros(0, np.int64)).by_name["main"].offsets) == 1


def test_a_bag_keeps_what_two_rows_have() -> None:
    counts = csr_matrix(np.array([[1, 0, 2, 0], [3, 0, 0, 1], [0, 0, 1, 0]], np.float32))
    bag = Bag(counts)
    assert bag.columns.tolist() == [0, 2]
    assert bag.counts.toarray().tolist() == [[1, 2], [3, 0], [0, 1]]
    np.testing.assert_allclose(
        bag.weighted.toarray(), weigh_counts(counts[:, [0, 2]], bag.idf).toarray()
    )
    other = csr_matrix(np.array([[0, 5, 7, 0], [0, 0, 0, 1]], np.float32))
    assert bag.select(other).toarray().tolist() == [[0, 7], [0, 0]]


def test_a_bag_of_rows_with_nothing_in_common_keeps_all() -> None:
    bag = Bag(csr_matrix(np.eye(3, 5, dtype=np.float32)))
    assert bag.columns.tolist() == [0, 1, 2]
    nothing = Bag(csr_matrix((3, 5), dtype=np.float32))
    assert nothing.weighted.shape == (3, 0)
    assert nothing.reduced().shape == (3, 0)


def test_rows_are_reduced_to_the_directions_of_the_largest_singular_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("seqssvae.teacher.views.NUM_COMPONENTS", 3)
    table = np.random.default_rng(0).poisson(0.7, (20, 8)).astype(np.float32)
    table[5] = 0
    bag = Bag(csr_matrix(table))
    reduced = bag.reduced()
    full = bag.weighted.toarray()
    projected = full @ np.linalg.svd(full)[2][:3].T
    expected = projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-9)
    assert reduced.shape == (20, 3)
    np.testing.assert_allclose(reduced @ reduced.T, expected @ expected.T, atol=1e-4)
    np.testing.assert_allclose(bag.reduce(bag.weighted[3:6]), reduced[3:6], atol=1e-6)
    assert bag.reduced() is reduced


def test_material_is_made_once_with_the_orders_asked_for() -> None:
    rows = [[4, 5, 6, EOS], [5, 4, EOS], [EOS]]
    material = Material(make_views(rows), order=3)
    assert material.num_rows == 3
    assert len(material.index("main", False).levels) == 3
    assert len(material.index("main", True).levels) == 1
    assert material.index("main", True).by_position
    assert material.index("main", False) is material.index("main", False)
    assert material.bag("main", "pairs") is material.bag("main", "pairs")
    for bag, order, places in (("pairs", 2, 0), ("long", 5, 0), ("places", 2, 40)):
        counts = count_blocks(make_rows(rows), [Block(order, places)], num_buckets=2**20)
        assert (material.views.counts("main", bag) != counts).nnz == 0
