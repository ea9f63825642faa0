import dataclasses

import pytest

from seqssvae.config import Config, EstimatorConfig
from seqssvae.training.costs import (
    Cost,
    cheapest_exact_or_sampled,
    describe,
    estimate,
    flops_per_second,
)

DEFAULT = Config()


def costs(config: Config = DEFAULT, **changes: float) -> dict[str, Cost]:
    facts: dict[str, float] = {
        "num_classes": 4,
        "vocabulary_size": 8000,
        "mean_length": 40,
        "num_labelled": 100,
        "num_unlabelled": 10000,
        "speed": 1e11,
    }
    found = estimate(config, **{**facts, **changes})  # type: ignore[arg-type]
    return {cost.estimator: cost for cost in found}


def test_rows_of_the_expanded_batch() -> None:
    """32 labelled rows, and 64 unlabelled ones for each label that is looked at."""
    found = costs()
    assert found["fused-enum"].decoder_rows == 32 + 4 * 64
    assert found["sum-and-sample"].decoder_rows == 32 + 2 * 64
    assert found["score-function"].decoder_rows == 32 + 64
    assert costs(num_labelled=0)["fused-enum"].decoder_rows == 4 * 64
    assert costs(num_unlabelled=0)["fused-enum"].decoder_rows == 32


def test_cost_of_sampling_does_not_grow_with_the_labels() -> None:
    few, many = costs(num_classes=20), costs(num_classes=1000)
    assert few["sum-and-sample"].flops == many["sum-and-sample"].flops
    assert many["fused-enum"].flops > 20 * few["fused-enum"].flops


def test_sequential_enumeration_keeps_a_share_of_the_memory() -> None:
    found = costs(num_classes=20, vocabulary_size=50)
    assert found["trace-enum-sequential"].megabytes < 0.3 * found["trace-enum"].megabytes


def test_particles_multiply_the_rows() -> None:
    config = dataclasses.replace(Config(), estimator=EstimatorConfig(num_particles=3))
    assert costs(config)["fused-enum"].decoder_rows == 3 * (32 + 4 * 64)


@pytest.mark.parametrize(
    ("num_classes", "megabytes", "wanted"),
    [(4, 8000, "fused-enum"), (1000, 8000, "sum-and-sample"), (4, 20, "sum-and-sample")],
)
def test_auto_goes_by_time_and_memory(num_classes: int, megabytes: float, wanted: str) -> None:
    found = list(costs(num_classes=num_classes).values())
    assert cheapest_exact_or_sampled(found, megabytes) == wanted
    assert wanted in describe(found, wanted)


def test_the_machine_has_a_speed() -> None:
    assert 1e8 < flops_per_second() < 1e15
