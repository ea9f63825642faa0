"""`fused-enum`: the sum over y in closed form, value and gradient of the softmax in one pass."""

from torch import Tensor

from seqssvae.estimators.pairs import PairELBO, Pairs

__all__ = ["FusedEnum"]


class FusedEnum(PairELBO):
    """The sum over y in closed form: one decoder row for each possible label of each example."""

    def choose(self, log_prob: Tensor, possible: Tensor) -> Pairs:
        """Every possible pair, weighted with q(y | x)."""
        index = possible.expand(log_prob.shape).nonzero(as_tuple=True)
        particle, example, label = index
        return Pairs(particle, example, label, log_prob[index].exp())
