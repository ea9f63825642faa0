import math

import numpy as np
import pytest
from scipy.optimize import check_grad

from seqssvae.teacher.logistic import soft_cross_entropy
from seqssvae.teacher.partial import EMWeights, possible_classes, set_cross_entropy
from tests.support.counts import Float64

POSSIBLE = possible_classes(4, np.array([2]), np.array([1]), 4, {0: (1, 3)})


def test_a_table_has_labels_sets_and_rows_without_either() -> None:
    assert POSSIBLE.tolist() == [
        [False, True, False, True],
        [True] * 4,
        [False, True, False, False],
        [True] * 4,
    ]


@pytest.mark.parametrize("weight", [0.0, 0.2, 1.0])
def test_a_row_weighs_by_its_information(weight: float) -> None:
    """Of four classes, a set of two has half of a label's."""
    em = EMWeights(POSSIBLE, weight)
    assert em.first.tolist() == [[0, 0.25, 0, 0.25], [0] * 4, [0, 1, 0, 0], [0] * 4]
    assert em.open.tolist() == ([0, 1, 3] if weight else [0])
    of_set = weight + (1 - weight) / 2
    assert em.total == pytest.approx(of_set + 2 * weight)
    scores = np.log([[5.0, 1.0, 5.0, 3.0], [1.0, 1.0, 1.0, 2.0], [0.1] * 4])[: len(em.open)]
    want = [
        [0, of_set / 4, 0, of_set * 3 / 4],
        [weight / 5] * 3 + [weight * 2 / 5],
        [weight / 4] * 4,
    ]
    np.testing.assert_allclose(em.expect(scores), want[: len(em.open)])


def test_a_class_alone_is_every_rows() -> None:
    em = EMWeights(np.ones((3, 1), np.bool_), 0.1)
    assert em.first.tolist() == [[1]] * 3 and not len(em.open)


def test_the_loss_of_sets_is_that_of_labels_where_they_have_one_class() -> None:
    random = np.random.default_rng(0)
    logits, weights = random.normal(size=(5, 3)), random.random(5)
    one_hot = np.eye(3, dtype=np.bool_)[[0, 2, 1, 1, 0]]
    nats, gradient = set_cross_entropy(logits, one_hot, weights)
    want, want_gradient = soft_cross_entropy(logits, one_hot.astype(float), weights)
    assert nats == pytest.approx(want)
    np.testing.assert_allclose(gradient, want_gradient)


def test_the_loss_of_sets_is_the_log_of_a_sum() -> None:
    random = np.random.default_rng(1)
    logits, weights = random.normal(size=(4, 4)), random.random(4)

    def loss(flat: Float64) -> float:
        total = 0.0
        for row, one in enumerate(flat.reshape(4, 4)):
            shares = np.exp(one) / np.exp(one).sum()
            total -= weights[row] * math.log(shares[POSSIBLE[row]].sum())
        return total

    nats, gradient = set_cross_entropy(logits, POSSIBLE, weights)
    assert nats == pytest.approx(loss(logits.ravel()))
    assert check_grad(loss, lambda _: gradient.ravel(), logits.ravel()) < 1e-6
    assert np.abs(gradient[[1, 3]]).max() < 1e-15  # all classes: nothing is known


def test_soft_evidence_lies_between_a_set_and_a_label() -> None:
    """Its posterior is weighed by e, its row by 1 - H(e) / log K; the loss is that of the sum."""
    random = np.random.default_rng(2)
    soft = np.array([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0], [0.25, 1.0, 0.25]], np.float32)
    em = EMWeights(soft, 0.0)
    assert em.open.tolist() == [0, 2]  # with the weight 0 nothing is learned where nothing is known
    shares = soft / soft.sum(1, keepdims=True)
    entropy = [-sum(p * math.log(p) for p in row if p > 0) for row in shares.tolist()]
    information = 1 - np.array(entropy) / math.log(3)
    information[1] = 0
    np.testing.assert_allclose(em.first, shares * information[:, None], atol=1e-7)
    scores = random.normal(size=(2, 3))
    joint = np.exp(scores) * soft[[0, 2]]
    want = information[[0, 2], None] * joint / joint.sum(1, keepdims=True)
    np.testing.assert_allclose(em.expect(scores), want, rtol=1e-6)
    logits, weights = random.normal(size=(3, 3)), random.random(3)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    nats, gradient = set_cross_entropy(logits, soft, weights)
    assert nats == pytest.approx(-(weights * np.log((p * soft).sum(1))).sum())
    step = 1e-6 * random.normal(size=(3, 3))
    higher, lower = (set_cross_entropy(logits + s, soft, weights)[0] for s in (step, -step))
    assert higher - lower == pytest.approx(2 * (gradient * step).sum(), rel=1e-5)
