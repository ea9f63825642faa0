"""y: the labels that a row may have, and its sites in a Pyro program."""

import itertools
from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from pyro.ops.indexing import Vindex
from torch import Tensor

from seqssvae.data.batches import Batch

IMPOSSIBLE = -1e4  # a log-probability: q(y | x) of such a label is exactly 0, and 0 * log q is 0


def sample_y(
    log_prob: Tensor, columns: Mapping[str, int], observed: Tensor | None = None
) -> Tensor:
    """Sample y in a Pyro program: one site "y", or a site "y_COLUMN" for each of several columns.

    Args:
        log_prob: Log-probabilities of y, `[*L, B, K]` or `[K]`.
        columns: Number of labels of each of several columns of labels; none where there is one.
        observed: y if it is known, `[B]`.

    Returns:
        y, `[*L, B]`, with a leading dim for each site where it is enumerated.
    """
    if not columns:
        label: Tensor = pyro.sample("y", dist.Categorical(logits=log_prob), obs=observed)
        return label
    sizes = tuple(columns.values())
    table, y = log_prob.unflatten(-1, sizes), torch.zeros_like(log_prob[..., 0], dtype=torch.int64)
    known = itertools.repeat(None) if observed is None else torch.unravel_index(observed, sizes)
    later = list(range(-len(sizes), 0))  # dims of columns that are not sampled yet
    for (name, size), part in zip(columns.items(), known, strict=False):
        later.pop(0)
        logits = table.logsumexp(tuple(later)) if later else table
        label = pyro.sample(f"y_{name}", dist.Categorical(logits=logits), obs=part)
        y = y * size + label
        if later:
            table = Vindex(table)[(..., label, *(slice(None) for _ in later))]  # given this label
    return y


def restrict(log_prob: Tensor, batch: Batch, evidence: Tensor | None = None) -> Tensor:
    """q(y | x) given what is known of a row's label: q(y | x) e(y), normalised over C.

    Args:
        log_prob: log q(y | x), `[*L, B, K]`.
        batch: The rows; C is the set of a row's possible labels.
        evidence: log e(y), `[B, K]`, 0 where C is all that is known; None for 0 everywhere.

    Returns:
        Log-probabilities, `[*L, B, K]`, at most -9000 for a label that is not possible.
    """
    return _with_evidence(log_prob, batch, evidence).log_softmax(-1)


def auxiliary_log_prob(log_prob: Tensor, batch: Batch, evidence: Tensor | None = None) -> Tensor:
    """alpha log of the sum of q(y | x) e(y) over C of each row, `[*L, B]`.

    For a set of labels that is alpha log q(y in C | x), and exactly 0 for a row of which nothing is
    known.

    Args:
        log_prob: log q(y | x), `[*L, B, K]`.
        batch: As of `restrict`.
        evidence: See there.
    """
    is_free = batch.possible_labels(log_prob.shape[-1]).all(-1)
    if evidence is not None:
        is_free = is_free & (evidence == 0).all(-1)
    chosen = _with_evidence(log_prob, batch, evidence).logsumexp(-1)
    chosen = torch.where(is_free, torch.zeros_like(chosen), chosen)
    return chosen if batch.alpha is None else batch.alpha.to(chosen.dtype) * chosen


def _with_evidence(log_prob: Tensor, batch: Batch, evidence: Tensor | None) -> Tensor:
    possible = batch.possible_labels(log_prob.shape[-1])
    joint = log_prob if evidence is None else log_prob + evidence
    return joint.masked_fill(~possible, IMPOSSIBLE)


def all_labelled(batch: Batch) -> bool:
    """Whether the label of every row is known."""
    return batch.candidates is None and bool(batch.host.is_labelled.all())
