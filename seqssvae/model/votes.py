"""Weak labels: soft labels, and votes of weak sources, as evidence about y in the model.

    log e(y) = log of the soft label + sum_s log p(vote_s | y)

It joins log p(x, y, z) (virtual evidence, Pearl 1988), so that q(y | x) e(y), normalised, is the
guide of such a row. A vote that is missing adds nothing. Voters are independent given y (Dawid and
Skene 1979). A voter that only ever says one label has no confusion to learn: the likelihood of its
votes is greatest where all of them are right. So its matrix is found beforehand and stays.
"""

from collections.abc import Sequence

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike, NDArray
from pyro.ops.indexing import Vindex
from torch import Tensor, nn

from seqssvae.data.batches import Batch
from seqssvae.data.encoded import Evidence

FIRST_ACCURACY = 0.7  # of a voter's votes
PSEUDO_COUNT = 1.0  # of each pair of label and vote


class Voters(nn.Module):
    """p(vote | y) of S voters, weak sources of labels: a learned confusion matrix each.

    Args:
        names: Their names, S of them.
        num_classes: K, of labels and of votes.

    Attributes:
        logits: Logits of the confusion matrices, `[S, K, K]`, rows by label.
        share: What one vote of each voter carries of the matrix's Dirichlet prior, `[S]`: 1 over
            the number of its votes, so that all of them carry it once; 0 for no prior.
        only: The label of a voter that says no other one, whose matrix is not learned; -1 of
            others, `[S]`.
    """

    def __init__(self, names: Sequence[str], num_classes: int) -> None:
        super().__init__()
        self.names = tuple(names)
        wrong = (1 - FIRST_ACCURACY) / max(num_classes - 1, 1)
        matrix = torch.full((num_classes, num_classes), wrong).fill_diagonal_(FIRST_ACCURACY)
        self.logits = nn.Parameter(matrix.log().repeat(len(self.names), 1, 1))
        self.register_buffer("share", torch.zeros(len(self.names)))
        self.share: Tensor
        self.register_buffer("only", torch.full((len(self.names),), -1))
        self.only: Tensor

    def forward(self, votes: Tensor) -> Tensor:
        """log p(votes | y) of each row, with the votes' parts of the prior, `[B, K]`.

        Args:
            votes: `[B, S]`, -1 for a missing one.
        """
        table = self.log_matrices()
        number = torch.arange(len(self.names), device=votes.device)
        of_votes = table[number, :, votes.clamp(min=0)] + self.prior().unsqueeze(-1)  # [B, S, K]
        return of_votes.masked_fill((votes < 0).unsqueeze(-1), 0.0).sum(1)

    def prior(self) -> Tensor:
        """A vote's part of the log density of each confusion matrix, `[S]`."""
        return PSEUDO_COUNT * self.share * self.log_matrices().sum((1, 2))

    def log_matrices(self) -> Tensor:
        """log p(vote | y), `[S, K, K]`, without a gradient where a voter has one label."""
        is_learned = (self.only < 0)[:, None, None]
        return torch.where(is_learned, self.logits, self.logits.detach()).log_softmax(-1)

    def matrices(self) -> Tensor:
        """p(vote | y), `[S, K, K]`."""
        return self.logits.softmax(-1)

    @torch.no_grad()
    def assign(self, matrices: ArrayLike, num_votes: ArrayLike, only: ArrayLike) -> None:
        """Start from matrices without a zero, `[S, K, K]`, of so many votes, and `only`, `[S]`."""
        self.logits.copy_(torch.from_numpy(np.log(matrices)))
        self.only.copy_(torch.as_tensor(only))
        self.share.copy_(1 / torch.as_tensor(num_votes).clamp(min=1))


def log_evidence(votes: Voters | None, batch: Batch) -> Tensor | None:
    """log e(y) of each row, `[B, K]`; None if there is neither a soft label nor a vote.

    It is 0 for a label that is not possible.
    """
    terms = [] if batch.evidence is None else [batch.evidence]
    if votes is not None and batch.votes is not None:
        terms.append(votes(batch.votes))
    return sum(terms[1:], terms[0]) if terms else None


@torch.no_grad()
def evidence_table(votes: Voters | None, known: Evidence) -> NDArray[np.float32] | None:
    """e(y) of rows, `[n, K]`, its greatest value in a row 1; None if nothing is known."""
    total = None if known.soft is None else torch.from_numpy(known.soft).log()
    if votes is not None and known.votes is not None:
        of_votes = votes(torch.from_numpy(known.votes).to(votes.share.device, torch.int64)).cpu()
        total = of_votes if total is None else total + of_votes
    if total is None:
        return None
    table: NDArray[np.float32] = (total - total.amax(1, keepdim=True)).exp().float().numpy()
    return table


def observe_evidence(votes: Voters | None, batch: Batch, y: Tensor) -> None:
    """Observe soft labels and votes in a Pyro program: a site "vote_NAME" for each voter.

    Args:
        votes: The voters.
        batch: The rows; the program is in their plate.
        y: Their labels, `[*L, B]`.
    """
    if batch.evidence is not None:
        row = torch.arange(batch.num_rows, device=y.device)
        pyro.factor("soft_label", Vindex(batch.evidence)[row, y])
    if votes is None or batch.votes is None:
        return
    is_there = batch.votes >= 0
    for name, of_rows, there, logits in zip(
        votes.names, batch.votes.T, is_there.T, votes.log_matrices(), strict=True
    ):
        confusion = dist.Categorical(logits=logits[y]).mask(there)
        pyro.sample(f"vote_{name}", confusion, obs=of_rows.clamp(min=0))
    pyro.factor("confusion_prior", (is_there * votes.prior()).sum(-1))
