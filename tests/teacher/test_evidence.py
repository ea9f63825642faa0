"""Naive Bayes of blocks of features: its columns by hand, and how blocks are weighed."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack

from seqssvae.teacher import evidence as room
from seqssvae.teacher.evidence import fit_evidence
from seqssvae.teacher.student import inverse_frequencies, weigh_counts

Doubles = NDArray[np.float64]


def fit(
    counts: csr_matrix, posteriors: Doubles, num_blocks: int
) -> tuple[Doubles, Doubles, Doubles]:
    """W, b and the logits of the rows."""
    idf = inverse_frequencies(counts)
    features = weigh_counts(counts, idf, num_blocks)
    weight, bias = fit_evidence(
        counts,
        features,
        idf,
        posteriors=posteriors,
        targets=posteriors,
        row_weights=np.ones(len(posteriors)),
        num_blocks=num_blocks,
    )
    return weight, bias, features @ weight + bias


def make_telling(num_rows: int = 200) -> tuple[csr_matrix, Doubles]:
    """Two blocks: one feature in four says the class, and one feature for each row alone."""
    y = np.random.default_rng(0).integers(0, 2, num_rows)
    telling = np.zeros((num_rows, num_rows), np.float32)
    telling[np.arange(num_rows), y] = 1
    telling[::4] = 0
    telling[::4, 2] = 1
    own = np.eye(num_rows, dtype=np.float32)
    return hstack((csr_matrix(telling), csr_matrix(own)), format="csr"), np.eye(2)[y]


def test_features_say_what_plain_loops_count(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    table = random.poisson(0.8, (20, 6)).astype(np.float32)
    table[:, 4] = 0
    posteriors = random.dirichlet(np.ones(3), 20)
    monkeypatch.setattr(room, "_fit_scales", lambda *_: (np.array([2.0, 0.5]), np.zeros(3)))
    counts = csr_matrix(table)
    weight, _, _ = fit(counts, posteriors, 2)
    idf = inverse_frequencies(counts)
    for feature in range(6):
        block = slice(3) if feature < 3 else slice(3, 6)
        mass = [float((table[:, block].sum(1) * posteriors[:, y]).sum()) + 1 for y in range(3)]
        for y in range(3):
            share = mass[y] / sum(mass)
            count = float((table[:, feature] * posteriors[:, y]).sum())
            total = float(table[:, feature].sum())
            says = math.log((count + 2 * share) / (total + 2)) - math.log(share)
            scale = 2.0 if feature < 3 else 0.5
            assert weight[feature, y] == pytest.approx(scale * says / idf[feature], abs=1e-6)
    assert np.abs(weight[4]).max() < 1e-12  # nobody has it: it says nothing


def test_a_block_that_only_knows_its_own_rows_gets_no_weight() -> None:
    counts, posteriors = make_telling()
    weight, _, logits = fit(counts, posteriors, 2)
    half = len(weight) // 2
    assert (weight[[0, 1], [0, 1]] - weight[[0, 1], [1, 0]]).min() > 4  # nats times idf
    assert np.abs(weight[half:]).max() < 0.05 * np.abs(weight[:2]).max()
    told = np.arange(len(posteriors)) % 4 > 0
    assert (logits.argmax(1) == posteriors.argmax(1))[told].all()


def test_scales_and_bias_are_at_the_minimum() -> None:
    random = np.random.default_rng(1)
    sums, targets = random.normal(size=(3, 50, 4)), random.dirichlet(np.ones(4), 50)
    sums[0] += np.log(targets)
    row_weights = random.random(50)

    def loss(scales: Doubles, bias: Doubles) -> float:
        logits = np.tensordot(scales, sums, 1) + bias
        log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        penalty = room.PENALTY / 2 * ((scales**2).sum() + (bias**2).sum())
        return float(penalty - (row_weights[:, None] * targets * log_probs).sum())

    scales, bias = room._fit_scales(sums, targets, row_weights)
    assert scales.min() >= 0 and scales[0] > 0.2
    best = loss(scales, bias)
    for _ in range(50):
        near = np.maximum(scales + 0.05 * random.normal(size=3), 0)
        assert loss(near, bias + 0.05 * random.normal(size=4)) > best


@pytest.mark.parametrize("num_rows", [1, 2, 5])
def test_few_rows_and_a_class_without_any_are_borne(num_rows: int) -> None:
    counts = csr_matrix(np.eye(6, dtype=np.float32)[:num_rows])
    posteriors = np.eye(3)[np.arange(num_rows) % 2]
    weight, bias, logits = fit(counts, posteriors, 2)
    assert np.isfinite(weight).all() and np.isfinite(bias).all()
    assert logits[:, 2].max() <= logits.max()
