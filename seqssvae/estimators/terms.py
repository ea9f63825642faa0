"""What the estimators share: the parts of a batch, the KL of z, and the model behind a guide."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.distributions import Normal

from seqssvae.batches import Batch
from seqssvae.model import SSVAE

__all__ = ["normal_kl", "owner", "parts", "sampled_kl", "scaled"]


def owner(model: Callable[..., Any], guide: Callable[..., Any]) -> SSVAE:
    """The `SSVAE` whose bound methods `model` and `guide` are.

    Raises:
        TypeError: they are something else, or of two different models.
    """
    found = getattr(model, "__self__", None)
    if not isinstance(found, SSVAE) or getattr(guide, "__self__", None) is not found:
        raise TypeError(
            "wanted the bound methods `ssvae.model` and `ssvae.guide` of one SSVAE, "
            f"got {model!r} and {guide!r}"
        )
    return found


def parts(batch: Batch) -> list[Batch]:
    """The rows whose label is observed, which need no enumeration, and the others."""
    observed = batch.y >= 0
    if batch.candidates is None and bool(observed.all()) or not bool(observed.any()):
        return [batch]
    return [
        batch.select(index)
        for index in (observed.nonzero().squeeze(1), (~observed).nonzero().squeeze(1))
        if len(index)
    ]


def normal_kl(loc: Tensor, scale: Tensor, free_bits: float = 0.0) -> Tensor:
    """KL(N(loc, scale^2) || N(0, I)) in nats, `[...]` from `[..., Z]`.

    Each dim counts with at least `free_bits` nats (Kingma et al. 2016), which stops its gradient
    below that; what is reported is computed without.
    """
    kl = 0.5 * (loc.square() + scale.square() - 1) - scale.log()
    return (kl.clamp(min=free_bits) if free_bits else kl).sum(-1)


def sampled_kl(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """log q(z) - log p(z) at samples z `[..., Z]`, `[...]`: the KL in the mean."""
    difference = Normal(loc, scale).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    return difference.sum(-1)


def scaled(value: Tensor, batch: Batch) -> Tensor:
    """Each row's value `[*L, B]` times its w."""
    return value if batch.w is None else value * batch.w.to(value.dtype)
