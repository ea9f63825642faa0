"""Estimators of the objective, one for each way to treat the discrete y, behind one switch.

Each is a `pyro.infer.ELBO` and takes `model.model` and `model.guide` of an `SSVAE`.
"""

from typing import Any

from seqssvae.config import EstimatorConfig, ObjectiveConfig
from seqssvae.errors import InputError
from seqssvae.estimators.fused import FusedEnum
from seqssvae.estimators.relaxed import RelaxedLabels
from seqssvae.estimators.score_function import ScoreFunction
from seqssvae.estimators.sum_and_sample import SumAndSample
from seqssvae.estimators.terms import Estimator
from seqssvae.estimators.trace_enum import TraceEnum
from seqssvae.extensions import call

__all__ = [
    "FusedEnum",
    "RelaxedLabels",
    "Estimator",
    "ScoreFunction",
    "SumAndSample",
    "TraceEnum",
    "build_estimator",
]


def build_estimator(estimator: EstimatorConfig, objective: ObjectiveConfig) -> Estimator:
    """The estimator that a config names.

    One of the user's own, by its import path, is called with `num_particles`, `analytic_kl` and
    `free_bits`.

    Raises:
        InputError: no such estimator, or an option it does not have.
    """
    name, num_particles = estimator.name, estimator.num_particles
    common: dict[str, Any] = {
        "num_particles": num_particles,
        "analytic_kl": objective.kl == "analytic",
        "free_bits": objective.free_bits,
    }
    match name:
        case "trace-enum" | "trace-enum-sequential":
            strategy = "parallel" if name == "trace-enum" else "sequential"
            return TraceEnum(strategy=strategy, **common)
        case "fused-enum":
            return FusedEnum(**common)
        case "sum-and-sample":
            return SumAndSample(k=estimator.k, num_samples=estimator.num_samples, **common)
        case "score-function":
            return ScoreFunction(baseline=estimator.baseline, **common)
        case "gumbel-softmax" | "straight-through":
            return RelaxedLabels(
                hard=name == "straight-through",
                temperature=estimator.temperature,
                final_temperature=estimator.final_temperature,
                temperature_steps=estimator.temperature_steps,
                **common,
            )
        case "auto":
            raise InputError("estimator.name: wanted a name, got auto, which is chosen by size")
        case path:
            made = call(path, "estimator.name", **common)
            if not isinstance(made, Estimator):
                raise InputError(
                    f"estimator.name: wanted an Estimator of {path}, got {made!r:.100}"
                )
            return made
