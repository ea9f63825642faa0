"""Estimators of the objective, one for each way to treat the discrete y, behind one switch.

Each is a `pyro.infer.ELBO` and takes `model.model` and `model.guide` of an `SSVAE`.
"""

from seqssvae.config import EstimatorConfig, ObjectiveConfig
from seqssvae.errors import InputError
from seqssvae.estimators.fused import FusedEnum
from seqssvae.estimators.relaxed import RelaxedLabels
from seqssvae.estimators.sampled import ScoreFunction, SumAndSample
from seqssvae.estimators.trace_enum import TraceEnum

__all__ = [
    "FusedEnum",
    "RelaxedLabels",
    "Estimator",
    "ScoreFunction",
    "SumAndSample",
    "TraceEnum",
    "build_estimator",
]

Estimator = TraceEnum | FusedEnum | RelaxedLabels | ScoreFunction | SumAndSample


def build_estimator(estimator: EstimatorConfig, objective: ObjectiveConfig) -> Estimator:
    """The estimator that a config names.

    Raises:
        InputError: no such estimator, or an option it does not have.
    """
    name, num_particles = estimator.name, estimator.num_particles
    analytic_kl, free_bits = objective.kl == "analytic", objective.free_bits
    match name:
        case "trace-enum" | "trace-enum-sequential":
            return TraceEnum(
                strategy="parallel" if name == "trace-enum" else "sequential",
                num_particles=num_particles,
                analytic_kl=analytic_kl,
                free_bits=free_bits,
            )
        case "fused-enum":
            return FusedEnum(
                num_particles=num_particles, analytic_kl=analytic_kl, free_bits=free_bits
            )
        case "sum-and-sample":
            return SumAndSample(
                k=estimator.k,
                num_samples=estimator.num_samples,
                num_particles=num_particles,
                analytic_kl=analytic_kl,
                free_bits=free_bits,
            )
        case "score-function":
            if estimator.baseline == "leave-one-out" and num_particles < 2:
                raise InputError(
                    "estimator.baseline: wanted estimator.num_particles >= 2 for leave-one-out, "
                    f"got {num_particles}"
                )
            return ScoreFunction(
                baseline=estimator.baseline,
                num_particles=num_particles,
                analytic_kl=analytic_kl,
                free_bits=free_bits,
            )
        case "gumbel-softmax" | "straight-through":
            return RelaxedLabels(
                hard=name == "straight-through",
                temperature=estimator.temperature,
                num_particles=num_particles,
                analytic_kl=analytic_kl,
                free_bits=free_bits,
            )
        case "auto":
            raise InputError("estimator.name: wanted a name, got auto, which is chosen by size")
