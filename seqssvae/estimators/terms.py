"""What the estimators share: the hooks of a training loop, z's noise, the KL, parts of a batch."""

import abc
import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from pyro.infer import ELBO
from pyro.infer.util import torch_item
from pyro.poutine.messenger import Messenger
from torch import Tensor

from seqssvae.data.batches import Batch
from seqssvae.errors import InputError
from seqssvae.model.ssvae import SSVAE

_noise: contextvars.ContextVar[Tensor | None] = contextvars.ContextVar("noise", default=None)


class Estimator(ELBO, abc.ABC):
    """A `pyro.infer.ELBO` of an `SSVAE`, with the hooks that a training loop calls.

    By default an estimator follows no schedule and has no state.

    Attributes:
        kind: What `seqssvae check` expects of value and gradient: "exact", "unbiased" (in the mean)
            or "biased".

    Example:
        >>> isinstance(seqssvae.FusedEnum(), seqssvae.Estimator)
        True
    """

    kind: str = "unbiased"

    @abc.abstractmethod
    def differentiable_loss(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        batch: Batch,
        kl_weight: float = 1.0,
    ) -> Tensor:
        """Minus the objective, summed over the rows: a scalar in nats.

        Args:
            model: `ssvae.model`.
            guide: `ssvae.guide`.
            batch: Rows with, without and with partial labels.
            kl_weight: Weight of the KL of z.

        Raises:
            TypeError: `model` and `guide` are not the bound methods of one SSVAE.
        """

    def _get_trace(self, *_: Any) -> Any:
        raise NotImplementedError("this estimator is in closed form and runs no trace")

    def loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], batch: Batch, *args: Any
    ) -> float:
        """As `differentiable_loss`, without a gradient."""
        with torch.no_grad():
            value: float = torch_item(self.differentiable_loss(model, guide, batch, *args))
        return value

    def loss_and_grads(
        self, model: Callable[..., Any], guide: Callable[..., Any], batch: Batch, *args: Any
    ) -> float:
        """As `differentiable_loss`; gradients are added to the parameters' `grad`."""
        loss = self.differentiable_loss(model, guide, batch, *args)
        loss.backward()
        value: float = torch_item(loss)
        return value

    def at_step(self, step: int) -> None:
        """Set what depends on the step.

        Args:
            step: Steps done before this one; the first step is 0.
        """

    def after_step(self, add: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
        """Update the state from all batches since `at_step`.

        Args:
            add: Sums named tensors over the processes.
        """

    def state(self) -> dict[str, Tensor | None]:
        """State that later steps depend on; `restore` takes it."""
        return {}

    def restore(self, state: Mapping[str, Tensor | None]) -> None:
        """Set the state to one that `state` returned."""


def owner(model: Callable[..., Any], guide: Callable[..., Any]) -> SSVAE:
    """The `SSVAE` whose bound methods `model` and `guide` are.

    Raises:
        TypeError: they are not, or are of two different models.
    """
    ssvae: Any = getattr(model, "__self__", None)
    if not isinstance(ssvae, SSVAE) or getattr(guide, "__self__", None) is not ssvae:
        raise TypeError(
            "wanted the bound methods `ssvae.model` and `ssvae.guide` of one SSVAE, "
            f"got {model!r} and {guide!r}"
        )
    return cast(SSVAE, ssvae)


def has_closed_kl(ssvae: SSVAE) -> bool:
    """Whether E_q(y,z|x)[log q(z|x,y) - log p(z|y)] is a sum over y of KLs in closed form."""
    return not (ssvae.y_reads_z and ssvae.z_prior.reads_y)


def check_kl(ssvae: SSVAE, analytic_kl: bool) -> None:
    """Make sure that the KL of z has the closed form that is wanted.

    Raises:
        InputError: the prior of z reads y, and y is read from z.
    """
    if analytic_kl and not has_closed_kl(ssvae):
        raise InputError("KL: wanted sampled for y-given-z with p(z | y), got analytic")


def parts(batch: Batch) -> list[Batch]:
    """The rows with an observed label, which need no enumeration, and the others."""
    observed = batch.host.is_labelled
    if batch.candidates is None and bool(observed.all()) or not bool(observed.any()):
        return [batch]
    return [
        batch.select(index)
        for index in (observed.nonzero().squeeze(1), (~observed).nonzero().squeeze(1))
        if len(index)
    ]


def scaled(value: Tensor, batch: Batch) -> Tensor:
    """Each row's value `[*L, B]` times its w."""
    return value if batch.w is None else value * batch.w.to(value.dtype)


def standard_normal(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Noise of z, `[S, B, Z]`; that of `fixed_noise` inside it."""
    fixed = _noise.get()
    if fixed is None:
        return torch.randn(shape, dtype=like.dtype, device=like.device)
    return fixed.unsqueeze(1).to(like).expand(shape)


def pair_normal(particle: Tensor, like: Tensor) -> Tensor:
    """Noise of z for pairs that each have their own, `[P, Z]`; that of `fixed_noise` inside it.

    Args:
        particle: Particle of each pair, `[P]`.
        like: Tensor that gives dtype and device, `[..., Z]`.
    """
    fixed = _noise.get()
    if fixed is None:
        return torch.randn(len(particle), like.shape[-1], dtype=like.dtype, device=like.device)
    return fixed.to(like)[particle % len(fixed)]


def gumbel_like(value: Tensor) -> Tensor:
    """Standard Gumbel noise of the same shape."""
    uniform = torch.rand_like(value).clamp_(min=torch.finfo(value.dtype).tiny)
    return -(-uniform.log()).clamp_(min=torch.finfo(value.dtype).tiny).log()


class _FixedNoise(Messenger):
    """Sets Pyro's site "z" to loc + scale * noise."""

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
    """Set z = loc + scale * noise for every example and label, in Pyro's traces and outside.

    Estimators can then be compared under the same z.

    Args:
        noise: `[S, Z]` for S particles.
    """
    token = _noise.set(noise)
    try:
        with _FixedNoise(noise):
            yield
    finally:
        _noise.reset(token)
