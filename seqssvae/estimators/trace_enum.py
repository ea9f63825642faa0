"""`trace-enum` and `trace-enum-sequential`: Pyro's own enumeration of y."""

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.ops import packed
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from seqssvae.data.batches import Batch
from seqssvae.estimators.terms import Estimator, check_kl, owner, parts


class TraceEnum(Estimator, TraceEnum_ELBO):
    """`TraceEnum_ELBO` in which rows with an observed label are not enumerated.

    With the analytic KL the model's term of "z" becomes -KL(q(z|x,y) || p(z|y)) and the guide's
    becomes 0; scales, masks and the sum over y are Pyro's. "sequential" runs the guide again for
    each label, each time with the same noise, so that all labels have the same q(y | x) under
    dropout.

    Args:
        strategy: "parallel", or "sequential": K decoder calls and a K-th of the memory.
        expand: Give enumerated values the full shape `[K, B]` instead of `[K, 1]`.
        num_particles: Samples of z, in a vectorised plate when y is enumerated in parallel.
        analytic_kl: Use the closed form of KL(q(z|x,y) || p(z)).
        free_bits: Least nats that each dim of z counts with; analytic KL only.

    Example:
        >>> trained = seqssvae.load(run, "cpu")
        >>> batch = seqssvae.collate(trained.read(data), range(4), num_classes=2)
        >>> elbo = seqssvae.TraceEnum(strategy="sequential")
        >>> elbo.loss(trained.model.model, trained.model.guide, batch) > 0
        True
    """

    def __init__(
        self,
        *,
        strategy: str = "parallel",
        expand: bool = False,
        num_particles: int = 1,
        analytic_kl: bool = True,
        free_bits: float = 0.0,
    ) -> None:
        in_parallel = strategy == "parallel"
        super().__init__(  # type: ignore[no-untyped-call]
            num_particles=num_particles if in_parallel else 1,
            max_plate_nesting=1,
            vectorize_particles=in_parallel and num_particles > 1,
            strict_enumeration_warning=False,
        )
        self.num_rounds = 1 if in_parallel else num_particles
        self.strategy, self.expand = strategy, expand
        self.analytic_kl, self.free_bits = analytic_kl, free_bits

    def differentiable_loss(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        batch: Batch,
        kl_weight: float = 1.0,
    ) -> Tensor:
        """As `Estimator.differentiable_loss`; enumeration of the guide is configured here."""
        loss: Tensor = self._total(
            TraceEnum_ELBO.differentiable_loss, model, guide, batch, kl_weight
        )
        return loss

    def loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], batch: Batch, *args: Any
    ) -> float:
        """As `differentiable_loss`, without a gradient."""
        with torch.no_grad():
            return float(self._total(TraceEnum_ELBO.loss, model, guide, batch, *args))

    def _total(
        self, loss: Any, model: Any, guide: Callable[..., Any], batch: Batch, *args: Any
    ) -> Any:
        """A loss of observed and unobserved rows, the mean over particles that run in turn."""
        check_kl(owner(model, guide), self.analytic_kl)
        losses = [
            loss(self, model, self._enumerated(guide), part, *args)
            for part in parts(batch)
            for _ in range(self.num_rounds)
        ]
        return sum(losses) / self.num_rounds

    def _enumerated(self, guide: Callable[..., Any]) -> Callable[..., Any]:
        """The guide with y enumerated; if sequentially, each call begins with the same noise."""
        enumerated: Callable[..., Any] = config_enumerate(guide, self.strategy, expand=self.expand)
        if self.strategy == "parallel":
            return enumerated
        state = torch.get_rng_state()
        on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

        def with_the_same_noise(*args: Any, **kwargs: Any) -> Any:
            torch.set_rng_state(state)
            torch.cuda.set_rng_state_all(on_gpus)
            return enumerated(*args, **kwargs)

        return with_the_same_noise

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
        run: Any = TraceEnum_ELBO._get_trace  # not that of `Estimator`, which has no trace
        model_trace, guide_trace = run(self, model, guide, args, kwargs)
        if self.analytic_kl:
            self._put_analytic_kl(model_trace, guide_trace)
        return model_trace, guide_trace

    def _put_analytic_kl(self, model_trace: Trace, guide_trace: Trace) -> None:
        site: Any = model_trace.nodes["z"]
        posterior: Any = guide_trace.nodes["z"]
        kl = kl_divergence(_normal(posterior["fn"]), _normal(site["fn"]))
        kl = (kl.clamp(min=self.free_bits) if self.free_bits else kl).sum(-1)
        shape = torch.broadcast_shapes(site["fn"].batch_shape, posterior["fn"].batch_shape)
        kl = scale_and_mask(kl.expand(shape), site["scale"], site["mask"])
        site["packed"]["log_prob"] = packed.pack(-kl, site["infer"]["_dim_to_symbol"])
        terms: Any = posterior["packed"]
        zero = torch.zeros_like(terms["log_prob"])
        zero._pyro_dims = terms["log_prob"]._pyro_dims  # type: ignore[attr-defined]
        terms["log_prob"] = zero


def _normal(site: Any) -> Normal:
    """The normal of each dim of a site, out of to_event, expand and mask."""
    while not isinstance(site, Normal):
        site = site.base_dist
    return site
