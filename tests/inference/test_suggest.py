"""Rows to label next."""

import numpy as np
import pytest

from seqssvae.data.vocabulary import EOS
from seqssvae.inference import suggest as module
from seqssvae.inference.novelty import log_prob_per_symbol
from seqssvae.inference.predict import classify_table
from seqssvae.inference.suggest import agreement, spread, suggest
from tests.support.factories import make_model
from tests.support.rows import make_rows

OPTIONS = {"mode": "mix", "weights": (0.7, 0.4)}


def random_rows(num: int = 80) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [[*random.integers(4, 7, random.integers(1, 6)).tolist(), EOS] for _ in range(num)]


@pytest.mark.parametrize("latent_size", [2, 0])
@pytest.mark.parametrize("ngram_buckets", [64, 0])
def test_rows_are_different_doubted_and_no_outliers(latent_size: int, ngram_buckets: int) -> None:
    model = make_model(3, latent_size=latent_size, ngram_buckets=ngram_buckets)
    sequences = [*random_rows(), [4, 4, 4, 4, 4, EOS]]
    rows = make_rows(sequences)
    found = suggest(model, rows, 6, **OPTIONS)  # type: ignore[arg-type]
    assert len(found.chosen) == 6 and found.seen.tolist() == list(range(81))
    assert len({tuple(sequences[row]) for row in found.chosen}) == 6
    assert (np.diff(found.doubt[found.chosen]) <= 0).all()
    assert found.doubt[found.chosen].mean() > found.doubt.mean()
    log_prob = log_prob_per_symbol(model, rows, num_samples=0)
    assert log_prob[found.chosen].min() >= np.quantile(log_prob, 0.05)
    again = suggest(model, rows, 6, **OPTIONS)  # type: ignore[arg-type]
    assert again.chosen.tolist() == found.chosen.tolist()
    few = suggest(model, make_rows(sequences[:3] * 2), 9, **OPTIONS)  # type: ignore[arg-type]
    assert len(few.chosen) <= 3


def test_of_many_rows_a_random_part_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 30)
    found = suggest(make_model(3), make_rows(random_rows()), 4, **OPTIONS)  # type: ignore[arg-type]
    assert len(set(found.seen.tolist())) == len(found.probabilities) == len(found.doubt) == 30


def test_chosen_are_among_the_most_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubt is 1 minus the difference of the two likeliest labels, as `classify` has them."""
    model, rows = make_model(3), make_rows(random_rows())
    found = suggest(model, rows, 5, **OPTIONS)  # type: ignore[arg-type]
    table = classify_table(model, rows, **OPTIONS)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.probabilities, table, atol=1e-6)
    for doubt, probabilities in zip(found.doubt, table.tolist(), strict=True):
        *_, second, likeliest = sorted(probabilities)
        assert abs(doubt - (1 - likeliest + second)) < 1e-6
    monkeypatch.setattr(module, "OUTLIERS", 0.0)
    monkeypatch.setattr(module, "DOUBTED", 1)  # then no other row is doubted more
    found = suggest(model, rows, 5, **OPTIONS)  # type: ignore[arg-type]
    texts = {rows.row(row).tobytes(): doubt for row, doubt in enumerate(found.doubt)}
    np.testing.assert_allclose(found.doubt[found.chosen], sorted(texts.values())[:-6:-1], atol=1e-6)


def test_each_cluster_gives_its_middle() -> None:
    random = np.random.default_rng(0)
    points = np.repeat([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]], 20, axis=0)
    points += 0.1 * random.standard_normal(points.shape)
    chosen = sorted(spread(points, 3).tolist())
    middles = points.reshape(3, 20, 2).mean(1, keepdims=True)
    distances = np.linalg.norm(points.reshape(3, 20, 2) - middles, axis=-1)
    assert chosen == [20 * i + row for i, row in enumerate(distances.argmin(1).tolist())]
    assert spread(points[:1].repeat(5, 0), 3).tolist() == [0]  # equal rows


def test_agreement_is_kappa() -> None:
    assert agreement("aabb", "aabb") == 1.0 == agreement("aaaa", "aaaa")
    assert agreement("aabb", "abab") == 0.0
