from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqssvae.config import Config
from seqssvae.data.encoded import EncodedRows, Evidence
from seqssvae.data.prepare import prepare
from seqssvae.overrides import override
from seqssvae.teacher.dawid_skene import fit_confusions, known_of, weak_evidence, with_likely_labels
from seqssvae.teacher.partial import possible_classes
from tests.support.rows import make_rows, write_rows

MATRICES = np.array(
    [[[0.95, 0.05], [0.15, 0.85]], [[0.8, 0.2], [0.1, 0.9]], [[0.7, 0.3], [0.1, 0.9]]]
)


def draw(num_rows: int, num_labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes, votes of which a third is missing, and what labels of the first rows say."""
    random = np.random.default_rng(0)
    y = (random.random(num_rows) < 0.4).astype(int)
    votes = np.stack([(random.random(num_rows) < of[y, 1]).astype(int) for of in MATRICES], 1)
    votes[random.random(votes.shape) < 1 / 3] = -1
    known = possible_classes(num_rows, np.arange(num_labels), y[:num_labels], 2)
    return y, votes, known


@pytest.mark.parametrize("num_labels", [0, 20, 60_000])
def test_confusions_are_found(num_labels: int) -> None:
    y, votes, known = draw(60_000, num_labels)
    found = fit_confusions(votes, known, num_steps=200)
    np.testing.assert_allclose(found.matrices, MATRICES, atol=0.03)
    np.testing.assert_allclose(found.shares, [0.6, 0.4], atol=0.03)


def test_with_all_labels_they_are_counts() -> None:
    """With one pseudo-count for each vote, and one more for the right one."""
    y, votes, known = draw(50, 50)
    found = fit_confusions(votes, known)
    for source in range(3):
        counts = np.ones((2, 2)) + np.eye(2)
        for label, vote in zip(y, votes[:, source], strict=True):
            if vote >= 0:
                counts[label, vote] += 1
        np.testing.assert_allclose(
            found.matrices[source], counts / counts.sum(1, keepdims=True), rtol=1e-12
        )


@pytest.mark.parametrize("others", [True, False], ids=["beside two", "alone"])
def test_a_voter_of_one_label_is_counted_where_others_say_something(others: bool) -> None:
    """By a plain loop over the rows; EM does without it."""
    y, votes, known = draw(500, 30)
    random = np.random.default_rng(1)
    says = random.random(500) < np.where(y == 1, 0.5, 0.1)
    votes = np.where(np.arange(3) < 2 * others, votes, -1)
    votes[:, 2] = np.where(says, 1, -1)
    found = fit_confusions(votes, known)
    without = fit_confusions(np.where(np.arange(3) == 2, -1, votes), known)
    np.testing.assert_allclose(found.matrices[:2], without.matrices[:2])
    right, total = 7.0, 10.0
    for row in np.flatnonzero(says):
        posterior = found.shares * known[row]
        for voter in (0, 1):
            if votes[row, voter] >= 0:
                posterior = posterior * without.matrices[voter, :, votes[row, voter]]
        if row < 30 or (votes[row, :2] >= 0).any():
            right, total = right + posterior[1] / posterior.sum(), total + 1
    odds = right / (total - right) * found.shares[0] / found.shares[1]
    matrix = found.matrices[2]
    np.testing.assert_allclose(matrix.sum(1), 1)
    np.testing.assert_allclose(matrix[1, 1] / matrix[0, 1], odds, rtol=1e-3)
    assert found.only.tolist() == [-1, -1, 1] and (total > 100) == others


def test_a_rule_of_one_label_is_as_right_as_it_is_in_three_classes() -> None:
    """With labels enough: p(y | vote) by its matrix and the shares is that of the rows."""
    random = np.random.default_rng(0)
    y = random.choice(3, 20_000, p=[0.6, 0.3, 0.1])
    votes = np.where(random.random(20_000) < np.array([0.02, 0.05, 0.4])[y], 2, -1)[:, None]
    found = fit_confusions(votes, possible_classes(len(y), np.arange(len(y)), y, 3))
    posterior = found.matrices[0, :, 2] * found.shares
    truth = (y[votes[:, 0] == 2] == 2).mean()
    np.testing.assert_allclose(posterior[2] / posterior.sum(), truth, atol=0.01)


def test_evidence_is_that_of_sets_soft_labels_and_votes() -> None:
    """Its greatest value in a row is 1; of a labelled row it is 1, whose label says all."""
    soft, votes = np.ones((4, 3), np.float32), np.array([[0], [1], [-1], [2]], np.int16)
    soft[1] = [0.5, 1, 0]
    plain = make_rows([[5]] * 4, y=[2, -1, -1, -1], candidates={1: (0, 1)})
    rows = EncodedRows(
        plain.symbols, plain.offsets, plain.y, plain.candidates, evidence=Evidence(soft, votes)
    )
    evidence = weak_evidence(rows, 3)
    assert evidence is not None
    found = fit_confusions(votes, known_of(rows, 3)).matrices[0]
    product = np.array([found[0, 1] / 2, found[1, 1], 0])
    np.testing.assert_allclose(evidence[0], 1)
    np.testing.assert_allclose(evidence[1], product / product.max(), rtol=1e-6)
    np.testing.assert_allclose(evidence[2], 1)
    np.testing.assert_allclose(evidence[3], found[:, 2] / found[:, 2].max(), rtol=1e-6)
    assert weak_evidence(plain, 3) is None


def test_classifiers_of_labels_alone_learn_the_likeliest_ones(tmp_path: Path) -> None:
    """Rows that nobody votes on stay unlabelled, sets stay sets; labels stay whatever votes say."""
    rows: list[dict[str, Any]] = [
        {"id": "gold", "text": "a", "label": "u", "A": "v"},
        *(
            {"id": f"g{i}", "text": f"b{i}", "label": "uv"[i % 2], "A": "uv"[i % 2]}
            for i in range(8)
        ),
        {"id": "soft", "text": "c", "label": {"u": 0.2, "v": 0.8}},
        {"id": "set", "text": "d", "label": ["u", "v"]},
        {"id": "voted", "text": "e", "label": None, "A": "v"},
        {"id": "free", "text": "f", "label": None},
    ]
    settings = override(Config(), {"data.vote_columns": "A", "data.dev_fraction": 0.0})
    prepared = prepare(settings, write_rows(tmp_path / "rows.jsonl", rows))
    found = with_likely_labels(prepared)
    y = dict(zip(found.labelled.ids, found.labelled.y.tolist(), strict=True))
    assert (y["gold"], y["soft"], y["voted"], y["set"]) == (0, 1, 1, -1)
    assert found.unlabelled.ids == ["free"] and len(found.labelled.candidates) == 1
    plain = prepare(Config(), write_rows(tmp_path / "plain.jsonl", rows[:9]))
    assert with_likely_labels(plain) is plain
