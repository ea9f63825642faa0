"""Confusion matrices of voters by EM, anchored by labels (Dawid and Skene 1979).

    p(y, votes) = p(y) prod_s p(vote_s | y)         s over the voters that say something

The class shares p(y) are those of the rows on which somebody votes or whose label is known; voters
are independent given y.

Of a voter that only ever says label c, such as a rule of keywords, EM cannot tell how often it is
right from the share of c. So it takes no part. How often it is right is counted afterwards on the
rows of which a label or a voter of several labels tells something, with 7 right and 3 wrong votes
more; then p(c | y = c) / p(c | y != c) is the odds of that over the odds of c.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared
from seqssvae.model.votes import FIRST_ACCURACY, PSEUDO_COUNT
from seqssvae.teacher.partial import Known, is_known, possible_classes, weighed

Float64 = NDArray[np.float64]

NUM_STEPS = 50  # of EM
PRIOR_VOTES = 10  # of a voter of one label, as many right as FIRST_ACCURACY says


class Confusions(NamedTuple):
    """What is found of the voters.

    Attributes:
        matrices: p(vote | y), `[S, K, K]`.
        shares: p(y), `[K]`.
        only: The label of a voter that says no other one, -1 of others, `[S]`.
    """

    matrices: Float64
    shares: Float64
    only: NDArray[np.int64]

    def log_evidence(self, votes: NDArray[np.integer]) -> Float64:
        """log p(votes | y) of rows, `[n, K]`, from votes `[n, S]`, -1 for a missing one."""
        total = np.zeros((len(votes), len(self.shares)))
        for matrix, of_rows in zip(self.matrices, votes.T, strict=True):
            says = of_rows >= 0
            total[says] += np.log(matrix).T[of_rows[says]]
        return total


def fit_confusions(
    votes: NDArray[np.integer], known: Known, *, num_steps: int = NUM_STEPS
) -> Confusions:
    """Fit to rows, with a Dirichlet prior for each label's votes.

    Args:
        votes: `[n, S]`, -1 for a missing one.
        known: What is known beside them, `[n, K]`: labels, sets, soft labels; see `partial`.
        num_steps: Steps of EM.
    """
    num_classes = known.shape[1]
    only = np.array([_only_label(of) if num_classes > 1 else -1 for of in votes.T])
    has_any = (votes[:, only < 0] >= 0).any(1) | is_known(known)
    every, votes, known = votes[has_any], votes[has_any][:, only < 0], known[has_any]
    eye = np.eye(num_classes)
    start = FIRST_ACCURACY * eye + (1 - FIRST_ACCURACY) / max(num_classes - 1, 1) * (1 - eye)
    uniform = np.full(num_classes, 1 / num_classes)
    found = Confusions(np.repeat(start[None], votes.shape[1], 0), uniform, only[only < 0])
    for _ in range(num_steps if votes.shape[1] else 1):
        scores = np.log(found.shares) + found.log_evidence(votes)
        posteriors = softmax(weighed(scores, known), axis=1)
        shares = posteriors.sum(0) + 1
        counts = np.array([posteriors[of >= 0].T @ eye[of[of >= 0]] for of in votes.T])
        counts = counts.reshape(-1, num_classes, num_classes) + PSEUDO_COUNT + eye
        found = Confusions(counts / counts.sum(2, keepdims=True), shares / shares.sum(), found.only)
    matrices = np.repeat(start[None], len(only), 0)
    matrices[only < 0] = found.matrices
    for voter in np.flatnonzero(only >= 0):
        of_label = posteriors[every[:, voter] >= 0, only[voter]]
        right = (PRIOR_VOTES * FIRST_ACCURACY + of_label.sum()) / (PRIOR_VOTES + len(of_label))
        matrices[voter] = _one_label(only[voter], right, found.shares)
    return Confusions(matrices, found.shares, only)


def _only_label(votes: NDArray[np.integer]) -> int:
    """What a voter always says; -1 if it says several labels or none."""
    said = np.unique(votes[votes >= 0])
    return int(said[0]) if len(said) == 1 else -1


def _one_label(label: int, right: float, shares: Float64) -> Float64:
    """p(vote | y), `[K, K]`, of a voter of one label, which is right so often with these shares.

    Only the ratio of p(label | y = label) to that of other y counts; it is `K - 1` times the odds
    of being right where classes are equally frequent.
    """
    others = len(shares) - 1
    ratio = right / (1 - right) * (1 - shares[label]) / shares[label]
    says = np.full(len(shares), 1 / (ratio + others))
    says[label] = ratio / (ratio + others)
    matrix = np.repeat((1 - says[:, None]) / others, len(shares), 1)
    matrix[:, label] = says
    return matrix


def known_of(rows: EncodedRows, num_classes: int) -> Known:
    """What labels, sets and soft labels say of rows, `[n, K]`."""
    labelled = np.flatnonzero(rows.y >= 0)
    known: Known = possible_classes(
        len(rows), labelled, rows.y[labelled], num_classes, rows.candidates
    )
    soft = rows.evidence().soft
    return known if soft is None else known * np.where(rows.y[:, None] >= 0, 1, soft)


def with_likely_labels(prepared: Prepared) -> Prepared:
    """The rows for a classifier that learns from labels alone: soft labels and votes decide.

    A row with a soft label, or with a vote, has the likeliest label by the evidence and the shares
    of the classes. Where there is nothing of the kind, the rows are as they are.
    """
    rows = EncodedRows.concatenate([prepared.labelled, prepared.unlabelled])
    soft, votes = rows.evidence()
    if soft is None and votes is None:
        return prepared
    known = known_of(rows, len(prepared.labels.names))
    scores, is_said = np.zeros(known.shape), np.zeros(len(rows), np.bool_)
    if soft is not None:
        is_said[[row for row in rows.candidates if (soft[row] < 1).any()]] = True
    if votes is not None:
        found = fit_confusions(votes, known)
        scores = found.log_evidence(votes) + np.log(found.shares)
        is_said |= (votes >= 0).any(1)
    y = np.where(is_said & (rows.y < 0), weighed(scores, known).argmax(1), rows.y)
    sets = {row: of_row for row, of_row in rows.candidates.items() if y[row] < 0}
    is_labelled = (y >= 0) | (np.arange(len(rows)) < len(prepared.labelled))
    rows = rows.with_labels(y, sets)
    return dataclasses.replace(
        prepared, labelled=rows.take(is_labelled), unlabelled=rows.take(~is_labelled)
    )


def weak_evidence(rows: EncodedRows, num_classes: int) -> NDArray[np.float32] | None:
    """e(y) of rows, `[n, K]`, by soft labels, sets and votes; of labelled rows 1.

    None where nothing is known but labels and sets.
    """
    soft, votes = rows.evidence()
    if soft is None and votes is None:
        return None
    known = known_of(rows, num_classes)
    of_votes = np.zeros(known.shape)
    if votes is not None:
        of_votes = fit_confusions(votes, known).log_evidence(votes)
    scores = weighed(of_votes, known)
    scores[rows.y >= 0] = 0
    evidence: NDArray[np.float32] = np.exp(scores - scores.max(1, keepdims=True)).astype(np.float32)
    return evidence
