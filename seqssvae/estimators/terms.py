"""What the estimators share: the parts of a batch, z's noise and KL, the model behind a guide."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Normal

from seqssvae.data.batches import Batch
from seqssvae.model.ssvae import SSVAE

__all__ = [
    "fixed_noise",
    "normal_kl",
    "owner",
    "pair_normal",
    "parts",
    "sampled_kl",
    "scaled",
    "standard_normal",
]

_noise: contextvars.ContextVar[Tensor | None] = contextvars.ContextVar("noise", default=None)


def owner(model: Callable[..., Any], guide: Callable[..., Any]) -> SSVAE:
    """The `SSVAE` whose bound methods `model` and `guide` are.

    Raises:
        TypeError: they are something else, or of two different models.
    """
    found: Any = getattr(model, "__self__", None)
    if not isinstance(found, SSVAE) or getattr(guide, "__self__", None) is not found:
        raise TypeError(
            "wanted the bound methods `ssvae.model` and `ssvae.guide` of one SSVAE, "
            f"got {model!r} and {guide!r}"
        )
    return cast(SSVAE, found)


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
    difference: Tensor = Normal(loc, scale).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    return difference.sum(-1)


def scaled(value: Tensor, batch: Batch) -> Tensor:
    """Each row's value `[*L, B]` times its w."""
    return value if batch.w is None else value * batch.w.to(value.dtype)


def standard_normal(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Noise `[S, B, Z]` for z, or what `fixed_noise` says."""
    fixed = _noise.get()
    if fixed is None:
        return torch.randn(shape, dtype=like.dtype, device=like.device)
    return fixed.unsqueeze(1).to(like).expand(shape)


def pair_normal(particle: Tensor, like: Tensor) -> Tensor:
    """Noise `[P, Z]` for pairs of which each has its own z, or what `fixed_noise` says.

    Args:
        particle: The particle of each pair, `[P]`.
        like: `[..., Z]`.
    """
    fixed = _noise.get()
    if fixed is None:
        return torch.randn(len(particle), like.shape[-1], dtype=like.dtype, device=like.device)
    return fixed.to(like)[particle % len(fixed)]


class _FixedNoise(Messenger):
    """Makes Pyro's site "z" loc + scale * noise."""

    def __init__(self, noise: Tensor) -> None:
        super().__init__()
        self.noise = noise.unsqueeze(1)  # [S, 1, Z]

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] != "z" or msg["done"] or msg["value"] is not None:
            return
        normal = msg["fn"].base_dist
        noise = self.noise if len(self.noise) > 1 else self.noise[0]
        msg["value"] = normal.loc + normal.scale * noise.to(normal.loc)
        msg["done"] = True


@contextlib.contextmanager
def fixed_noise(noise: Tensor) -> Iterator[None]:
    """Let z = loc + scale * noise for every example and label, in Pyro's traces and outside.

    Estimators can then be compared in one realisation of z.

    Args:
        noise: `[S, Z]` for S particles.
    """
    token = _noise.set(noise)
    try:
        with _FixedNoise(noise):
            yield
    finally:
        _noise.reset(token)
