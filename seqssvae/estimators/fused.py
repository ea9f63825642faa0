"""`fused-enum`: the sum over y in closed form, value and gradient of the softmax in one pass."""

from torch import Tensor

from seqssvae.estimators.pairs import PairELBO
from seqssvae.model.likelihood import Pairs


class FusedEnum(PairELBO):
    """The sum over y in closed form: one decoder row for each possible label of each example.

    Example:
        >>> trained = seqssvae.load(run, "cpu")
        >>> batch = seqssvae.collate(trained.read(data), range(4), num_classes=2)
        >>> loss = seqssvae.FusedEnum().loss(trained.model.model, trained.model.guide, batch)
        >>> loss > 0
        True
    """

    def choose(self, log_prob: Tensor, possible: Tensor) -> Pairs:
        """Every possible pair, weighted with q(y | x)."""
        return Pairs.select(possible.expand(log_prob.shape), None, log_prob.exp())
