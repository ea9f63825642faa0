"""Sets of labels, against the definition of conformal p-values and by their coverage."""

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from seqssvae.errors import InputError
from seqssvae.inference.conformal import MISSES, HeldOut, greatest_losses, label_sets

Float64 = NDArray[np.float64]


def sets_by_definition(
    probabilities: Float64, losses: Float64, y: Any, coverage: float, groups: list[set[int]]
) -> list[set[int]]:
    """A label is in where the p-value of its loss, among the rows of its group, is above 1 - C."""
    found = []
    for row in probabilities:
        inside = {int(row.argmax())}
        for label, probability in enumerate(row):
            (group,) = (group for group in groups if label in group)
            others = [loss for loss, own in zip(losses, y, strict=True) if own in group]
            no_smaller = sum(loss >= -math.log(probability) for loss in others)
            if (1 + no_smaller) / (1 + len(others)) > 1 - coverage + 1e-12:
                inside.add(label)
        found.append(inside)
    return found


@pytest.mark.parametrize("coverage", [0.5, 0.55, 0.8, 0.9])
@pytest.mark.parametrize("num_rows", [0, 1, 9, 19, 20])
def test_sets_are_those_of_the_definition(coverage: float, num_rows: int) -> None:
    """Few rows: the classes share a quantile, up to the bound above which a set is full."""
    stream = np.random.default_rng(num_rows)
    losses, y = stream.exponential(size=num_rows), stream.integers(0, 3, num_rows)
    probabilities = softmax(2 * stream.standard_normal((50, 3)), axis=1)
    greatest = greatest_losses(losses, y, num_classes=3, coverage=coverage)
    if num_rows < 10:  # else a class may have enough rows of its own
        assert len(set(greatest)) == 1
        want = sets_by_definition(probabilities, losses, y, coverage, [{0, 1, 2}])
        found = [set(row.nonzero()[0].tolist()) for row in label_sets(probabilities, greatest)]
        assert found == want
    is_full = math.ceil(round((num_rows + 1) * coverage, 9)) > num_rows
    assert np.isinf(greatest).all() == is_full or num_rows >= 10


def test_a_class_with_enough_rows_has_its_own_quantile() -> None:
    """Five misses are expected; rarer classes share, with more until they have enough."""
    counts = {0: 60, 1: 7, 2: 3, 3: 50, 4: 55}
    y = np.repeat(list(counts), list(counts.values()))
    losses = np.random.default_rng(0).exponential(size=len(y)) * (1 + y)
    greatest = greatest_losses(losses, y, num_classes=5, coverage=0.9)
    assert MISSES / (1 - 0.9) == pytest.approx(50)
    assert greatest[1] == greatest[2] == greatest[3] and len(set(greatest)) == 3
    probabilities = softmax(2 * np.random.default_rng(1).standard_normal((50, 5)), axis=1)
    want = sets_by_definition(probabilities, losses, y, 0.9, [{0}, {4}, {1, 2, 3}])
    found = [set(row.nonzero()[0].tolist()) for row in label_sets(probabilities, greatest)]
    assert found == want
    assert len(set(greatest_losses(losses, y, num_classes=5, coverage=0.99))) == 1


@pytest.mark.parametrize(("num_rows", "classes"), [(30, 1), (400, 2)])
def test_sets_cover_new_rows(num_rows: int, classes: int) -> None:
    """A share of C to C + 1 / (n + 1), in each class where it has enough rows, else over all."""
    stream, draws = np.random.default_rng(0), 4000
    logit = stream.standard_normal((draws, num_rows + 1)) * [[3.0]]
    y = (stream.random(logit.shape) < 0.3).astype(np.int64)
    noise = np.where(y == 1, 3.0, 1.0) * stream.standard_normal(logit.shape)
    scores = np.stack([-noise, noise], -1) + 1.5 * np.stack([1 - y, y], -1)
    probabilities = softmax(scores, axis=-1)
    hits: dict[int, list[bool]] = {0: [], 1: []}
    for table, labels in zip(probabilities, y, strict=True):
        held_out = -np.log(table[range(num_rows), labels[:-1]])
        greatest = greatest_losses(held_out, labels[:-1], num_classes=2, coverage=0.8)
        assert len(set(greatest)) == classes
        inside = table[-1] >= np.exp(-greatest)
        hits[int(labels[-1])].append(bool(inside[labels[-1]]))
    shares = [hits[0] + hits[1]] if classes == 1 else list(hits.values())
    for share in shares:
        error = math.sqrt(0.8 * 0.2 / len(share))
        assert 0.8 - 3 * error < np.mean(share) < 0.8 + 1 / (0.2 * num_rows) + 3 * error
    if classes == 1:
        assert np.mean(hits[1]) < 0.7 < 0.8 < np.mean(hits[0])


def test_the_best_label_is_always_in_its_set() -> None:
    greatest = greatest_losses(
        np.full(99, 0.01), np.zeros(99, np.int64), num_classes=2, coverage=0.5
    )
    assert label_sets(np.array([[0.45, 0.55], [0.995, 0.005]]), greatest).tolist() == [
        [False, True], [True, False]
    ]  # fmt: skip


def test_plain_values_are_read_or_refused() -> None:
    plain: dict[str, Any] = {
        "y": [0, 1],
        "losses": {"q": [0.1, 0.2], "posterior": [1.0, 2.0], "mix": [3.0, 4.0]},
        "log_prob": [-1.0, -2.0, -3.0],
    }
    found = HeldOut.from_plain(json.loads(json.dumps(plain)), 2)
    assert found.y.tolist() == [0, 1] and found.losses["mix"].tolist() == [3.0, 4.0]
    assert found.log_prob.tolist() == [-1.0, -2.0, -3.0]
    missing: list[Any] = [None, {}, []]
    for nothing in missing:
        with pytest.raises(InputError, match="wanted a run with held-out labels.*got one without"):
            HeldOut.from_plain(nothing, 2)
    damaged: list[Any] = [
        5, [1], plain | {"y": [0, 2]}, plain | {"y": [-1, 0]}, plain | {"y": [0]},
        plain | {"y": "x"}, plain | {"losses": {"q": []}}, plain | {"log_prob": 1.0},
        plain | {"y": [2**70, 0]}, plain | {"losses": [1.0]}, plain | {"y": [[0, 1]]},
    ]  # fmt: skip
    for one in damaged:
        with pytest.raises(InputError, match="got damaged ones"):
            HeldOut.from_plain(one, 2)
