"""Estimators of the objective, one for each way to treat the discrete y, behind one switch.

Each is a `pyro.infer.ELBO` and takes `model.model` and `model.guide` of an `SSVAE`.
"""

from pyro.infer import ELBO

from seqssvae.config import EstimatorConfig, InputError, ObjectiveConfig
from seqssvae.estimators.enumeration import TraceEnum
from seqssvae.estimators.fused import FusedEnum

__all__ = ["FusedEnum", "TraceEnum", "build_estimator"]


def build_estimator(estimator: EstimatorConfig, objective: ObjectiveConfig) -> ELBO:
    """The estimator that a config names.

    Raises:
        InputError: no such estimator, or an option it does not have.
    """
    name = estimator.name
    analytic_kl, free_bits = objective.kl == "analytic", objective.free_bits
    if name in ("trace-enum", "trace-enum-sequential"):
        return TraceEnum(
            strategy="parallel" if name == "trace-enum" else "sequential",
            num_particles=estimator.num_particles,
            analytic_kl=analytic_kl,
            free_bits=free_bits,
        )
    if name in ("fused-enum", "auto"):
        return FusedEnum(
            num_particles=estimator.num_particles, analytic_kl=analytic_kl, free_bits=free_bits
        )
    raise InputError(f"estimator.name: wanted an estimator, got {name}")
