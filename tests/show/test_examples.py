import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seqssvae.data.encode import encode_given
from seqssvae.data.vocabulary import CharacterVocabulary
from seqssvae.show.examples import (
    NUM_EXAMPLES,
    NUM_PAIRS,
    find_alike,
    find_confused_pairs,
    find_nearest,
    ngram_vectors,
)


def test_confused_pairs_in_descending_order() -> None:
    y = np.array([0, 0, 0, 0, 1, 1, 2, -1])
    probabilities = np.array(
        [[0.1, 0.8, 0.1], [0.3, 0.4, 0.3], [0.05, 0.9, 0.05], [1, 0, 0]]
        + [[0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 1, 0]]
    )
    first, second = find_confused_pairs(y, probabilities, ["a", "b", "c"], list("stuvwxyz"))
    assert first == ("a", "b", 3, 0.75, ["u", "s", "t"])  # the surest mistake first
    assert second == ("b", "c", 1, 0.5, ["x"])  # not z, whose label is not known
    assert find_confused_pairs(y, np.eye(3)[y], ["a", "b", "c"], list("stuvwxyz")) == []
    assert find_confused_pairs(np.full(2, -1), np.zeros((2, 0)), [], ["s", "t"]) == []


@given(st.integers(0, 2**32 - 1))
def test_confused_pairs_equal_plain_loops(seed: int) -> None:
    generator = np.random.default_rng(seed)
    y = generator.integers(-1, 4, 60)
    probabilities = generator.dirichlet(np.ones(4), 60)
    names = [f"label {k}" for k in range(4)]
    found = find_confused_pairs(y, probabilities, names, list(map(str, range(60))))
    best = probabilities.argmax(1)
    counts = {
        (names[t], names[p]): int(((y == t) & (best == p)).sum())
        for t in range(4)
        for p in range(4)
        if t != p
    }
    assert [pair.num_rows for pair in found] == sorted(counts.values())[::-1][:NUM_PAIRS]
    for pair in found:
        assert pair.num_rows == counts[pair.true, pair.predicted]
        assert len(pair.examples) == min(pair.num_rows, NUM_EXAMPLES)
        for row in map(int, pair.examples):
            assert (names[y[row]], names[best[row]]) == (pair.true, pair.predicted)


def test_the_nearest_row_shares_the_most_ngrams() -> None:
    vocabulary = CharacterVocabulary("abcdefgh")
    rows, others = (
        encode_given(texts, vocabulary, max_length=20)
        for texts in (["abc", "gfe", "habcd", ""], ["abd", "efg", "abcd", "abc", "gffe", "a"])
    )
    assert find_nearest(rows, others)[:3].tolist() == [3, 4, 2]
    np.testing.assert_array_equal(find_nearest(others, others), np.arange(6))
    ranked = find_alike(rows, ngram_vectors(others), 2)
    assert ranked.shape[1] == 2 and ranked[:3, 0].tolist() == [3, 4, 2]
    assert find_alike(rows, others, 99).shape[1] == 6
