"""q(y | x) and the posterior combined, against plain loops over rows and a grid."""

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from seqssvae.data.batches import collate
from seqssvae.inference.classify import MODES, classify
from seqssvae.inference.combine import (
    GRID,
    PRIOR_A,
    PRIOR_B,
    USUAL_POWER,
    compare_modes,
    expected_log_power,
    label_tables,
    measure_modes,
)
from seqssvae.inference.conformal import HeldOut
from seqssvae.inference.novelty import log_prob_per_symbol
from tests.support.factories import FACTORISATIONS, make_model
from tests.support.rows import random_rows

Float64 = NDArray[np.float64]


def tables(num_rows: int, a: float = 1.0, b: float = 1.0) -> tuple[Float64, Float64, Any]:
    """Two random opinions, and labels drawn from their product with powers a and b."""
    stream = np.random.default_rng(0)
    log_q, log_p = (log_softmax(3 * stream.standard_normal((num_rows, 3)), 1) for _ in "qp")
    share = np.exp(log_softmax(a * log_q + b * log_p, 1))
    return log_q, log_p, np.array([stream.choice(3, p=row) for row in share])


def fit_by_loops(log_q: Float64, log_p: Float64, y: Any) -> tuple[float, float]:
    """The posterior mean of log a and log b, over all pairs of the grid."""
    total = sum_a = sum_b = 0.0
    for log_a in GRID:
        for log_b in GRID:
            fit = log_softmax(np.exp(log_a) * log_q + np.exp(log_b) * log_p, 1)
            weight = math.exp(
                fit[range(len(y)), y].sum()
                - ((log_a - PRIOR_A[0]) / PRIOR_A[1]) ** 2 / 2
                - ((log_b - USUAL_POWER - PRIOR_B[0]) / PRIOR_B[1]) ** 2 / 2
            )
            total, sum_a, sum_b = total + weight, sum_a + weight * log_a, sum_b + weight * log_b
    return math.exp(sum_a / total), math.exp(sum_b / total)


def test_cross_fitting_leaves_each_row_out() -> None:
    """Weights of all rows; accuracy and log-loss by weights that were fitted without the row."""
    log_q, log_p, y = tables(12)
    found = compare_modes(log_q, log_p, y)
    assert found.weights == pytest.approx(fit_by_loops(log_q, log_p, y))
    mixed = []
    for row in range(12):
        others = np.arange(12) != row
        a, b = fit_by_loops(log_q[others], log_p[others], y[others])
        mixed.append(log_softmax(a * log_q[row] + b * log_p[row]))
    want = {"q": log_q, "posterior": log_p, "mix": np.array(mixed)}
    for mode, table in want.items():
        assert found.log_loss[mode] == pytest.approx(-table[range(12), y].mean())
        assert found.accuracy[mode] == (table.argmax(1) == y).mean()
    a, b = found.weights
    all_rows = log_softmax(a * log_q + b * log_p, 1)
    assert found.log_loss["mix"] > -all_rows[range(12), y].mean() + 1e-3


def test_each_opinion_alone_has_a_power_too() -> None:
    """By a loop over the grid; an opinion that is too sure is made as sure as it is right."""

    def fit(table: Float64, y: Any, prior: tuple[float, float]) -> float:
        total = sum_ = 0.0
        for log_power in GRID:
            loss = log_softmax(np.exp(log_power) * table, 1)[range(len(y)), y].sum()
            weight = math.exp(loss - ((log_power - prior[0]) / prior[1]) ** 2 / 2)
            total, sum_ = total + weight, sum_ + weight * log_power
        return math.exp(sum_ / total)

    log_q, log_p, y = tables(12)
    alone = (USUAL_POWER, PRIOR_B[1])
    found = compare_modes(log_q, log_p, y)
    assert found.powers == pytest.approx((fit(log_q, y, PRIOR_A), fit(log_p, y, alone)))
    for mode, table, prior in (("q", log_q, PRIOR_A), ("posterior", log_p, alone)):
        for row in range(12):
            others = np.arange(12) != row
            power = fit(table[others], y[others], prior)
            want = -log_softmax(power * table[row])[y[row]]
            assert found.losses[mode][row] == pytest.approx(want)
    np.testing.assert_allclose(found.q_losses, -log_q[range(12), y])
    log_q, log_p, y = tables(6000, 1.0, 0.0)
    assert compare_modes(log_softmax(3 * log_q, 1), log_p, y).powers[0] == pytest.approx(1 / 3, 0.1)


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.5, 0.1), (0.3, 2.0)])
def test_with_many_labels_the_weights_are_those_of_the_labels(a: float, b: float) -> None:
    found = compare_modes(*tables(6000, a, b))
    assert found.weights == pytest.approx((a, b), rel=0.15)
    assert found.best == "mix" and found.log_loss["mix"] < min(found.log_loss.values()) + 1e-9


def test_with_few_labels_the_weights_are_near_those_of_the_prior() -> None:
    """Whatever two labels say; under the prior alone they are its median, within the grid."""
    log_q, log_p, _ = tables(2)
    for y in (log_q.argmax(1), log_p.argmin(1)):
        (a, b) = compare_modes(log_q, log_p, y).weights
        assert abs(math.log(a) - PRIOR_A[0]) < PRIOR_A[1]
        assert abs(math.log(b) - USUAL_POWER - PRIOR_B[0]) < 1.5 * PRIOR_B[1]


@pytest.mark.parametrize(("mode", "num_rows"), [("q", 400), ("posterior", 400), ("mix", 3)])
def test_another_mode_is_taken_where_it_is_clearly_better(mode: str, num_rows: int) -> None:
    """Labels that one opinion gives, and the other knows nothing of; three rows show too little."""
    stream = np.random.default_rng(0)
    right = log_softmax(3 * stream.standard_normal((num_rows, 3)), 1)
    wrong = log_softmax(9 * stream.standard_normal((num_rows, 3)), 1)
    y = np.array([stream.choice(3, p=np.exp(row)) for row in right])
    pair = (wrong, right) if mode == "posterior" else (right, wrong)
    found = compare_modes(*pair, y)
    assert found.best == mode
    assert min(found.log_loss, key=lambda name: found.log_loss[name]) == (
        "q" if mode == "mix" else mode
    )


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_tables_are_what_classify_says(factorisation: str) -> None:
    """And the teacher's that of the n-gram part alone; labels of the rows are not read."""
    model = make_model(3, factorisation=factorisation)
    rows = random_rows([0, 2, -1, 1, 1, 0], 0)
    found = label_tables(model, rows)
    batch = collate(rows, range(6), num_classes=3)
    for mode, table in (("q", found.log_q), ("posterior", found.log_posterior)):
        want = classify(model, batch, mode=mode)
        np.testing.assert_allclose(np.exp(table), want, atol=1e-12)
    assert model.ngrams is not None and found.log_teacher is not None
    want = model.ngrams(batch.x, batch.lengths).softmax(-1)
    np.testing.assert_allclose(np.exp(found.log_teacher), want.detach(), atol=1e-12)
    likely = log_prob_per_symbol(model, rows, num_samples=0)
    np.testing.assert_allclose(found.log_prob, likely, atol=1e-12)
    assert label_tables(make_model(3, ngram_buckets=0), rows).log_teacher is None


def test_measures_are_those_of_the_tables() -> None:
    """Every figure by scikit-learn; of many rows a part is read, the same for a seed."""
    model, rows = make_model(3), random_rows([0, 1, 2] * 20, 0)
    found = measure_modes(model, rows, seed=1)
    log_q, log_p, log_teacher, log_prob = label_tables(model, rows)
    assert log_teacher is not None
    modes = compare_modes(log_q, log_p, rows.y)
    for name, table in (("q", log_q), ("posterior", log_p), ("teacher", log_teacher)):
        assert found[f"{name}_accuracy"] == (table.argmax(1) == rows.y).mean()
        assert found[f"{name}_log_loss"] == pytest.approx(log_loss(rows.y, np.exp(table)))
    assert found["mix_log_loss"] == modes.log_loss["mix"] and found["best_mode"] == modes.best
    assert found["mix_weights"] == list(modes.weights)
    held_out = HeldOut.from_plain(json.loads(json.dumps(found["held_out"])), 3)
    np.testing.assert_array_equal(held_out.y, rows.y)
    for mode in MODES:
        np.testing.assert_array_equal(held_out.losses[mode], modes.losses[mode])
    assert found["powers"] == list(modes.powers)
    np.testing.assert_allclose(found["q_losses"], -log_q[range(60), rows.y])
    np.testing.assert_array_equal(held_out.log_prob, log_prob)
    a, b = compare_modes(log_teacher, log_p, rows.y).weights
    assert found["teacher_weight"] == pytest.approx(a / b)
    part = measure_modes(model, rows, seed=1, max_rows=20)
    assert part == measure_modes(model, rows, seed=1, max_rows=20) != found
    plain = measure_modes(make_model(3, ngram_buckets=0), rows, seed=0)
    assert not [name for name in plain if "teacher" in name]


def test_the_power_of_a_posterior_is_found_without_labels() -> None:
    """That of the least cross-entropy to a calibrated teacher, by scipy, up to the grid's step."""
    generator = np.random.default_rng(0)
    evidence = generator.standard_normal((2000, 4))
    log_teacher = log_softmax(2 * evidence, axis=1)
    posterior = log_softmax(5 * (evidence + generator.standard_normal((2000, 4))), axis=1)

    def cross_entropy(log_power: float) -> float:
        tempered = log_softmax(math.exp(log_power) * posterior, axis=1)
        return -float((np.exp(log_teacher) * tempered).sum())

    want = minimize_scalar(cross_entropy, bounds=(-5, 2), method="bounded").x
    step = GRID[1] - GRID[0]
    assert -2 < want < -1
    assert abs(expected_log_power(log_teacher, posterior) - want) <= step / 2 + 1e-3
    assert abs(expected_log_power(log_teacher, 4 * log_teacher) + math.log(4)) <= step / 2 + 1e-9


def test_the_less_sure_a_posterior_may_be_the_less_it_weighs() -> None:
    log_q, log_p, y = tables(12)
    sure, unsure = (compare_modes(log_q, log_p, y, power) for power in (0.0, -3.0))
    assert unsure.weights[1] < 0.5 * sure.weights[1] and unsure.powers[1] < sure.powers[1]


def test_rows_without_labels_say_what_the_posterior_is_worth() -> None:
    model, rows = make_model(3), random_rows([0, 1, 2] * 4, 0)
    others = random_rows([-1] * 40, 3)
    log_q, log_p, *_ = label_tables(model, rows)
    _, posterior, log_teacher, _ = label_tables(model, others)
    assert log_teacher is not None
    power = expected_log_power(log_teacher, posterior)
    assert power != USUAL_POWER
    found = measure_modes(model, rows, unlabelled=others, seed=0)
    assert found["mix_weights"] == list(compare_modes(log_q, log_p, rows.y, power).weights)
    assert len(found["held_out"]["y"]) == 12 and len(found["held_out"]["log_prob"]) == 52
    assert found["mix_weights"] != measure_modes(model, rows, seed=0)["mix_weights"]
