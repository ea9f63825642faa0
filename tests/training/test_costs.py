import dataclasses
import logging
from typing import Any

import pytest
import torch

from seqssvae.config import Config, EstimatorConfig
from seqssvae.data.labels import Labels
from seqssvae.training import costs
from seqssvae.training.costs import Cost, choose_estimator, estimate
from tests.support.rows import random_rows
from tests.support.training import config, prepared


def cost(num_classes: int, settings: Config | None = None, **changes: Any) -> Cost:
    labels = Labels(tuple(map(str, range(num_classes))))
    data = dataclasses.replace(prepared(), labels=labels, **changes)
    return estimate(settings or Config(), data)


def test_rows_of_the_expanded_batch() -> None:
    """32 labelled rows, and 64 unlabelled ones for each label."""
    none = random_rows([], 0)
    assert cost(4).decoder_rows == 32 + 4 * 64
    assert cost(4, labelled=none).decoder_rows == 4 * 64
    assert cost(4, unlabelled=none).decoder_rows == 32
    three = dataclasses.replace(Config(), estimator=EstimatorConfig(num_particles=3))
    assert cost(4, three).decoder_rows == 3 * (32 + 4 * 64)


def test_operations_grow_with_the_number_of_labels() -> None:
    assert cost(1000).operations > 20 * cost(20).operations
    assert cost(20).megabytes > cost(2).megabytes


@pytest.mark.parametrize(
    ("speed", "megabytes", "wanted"),
    [
        (1e11, 8000.0, "fused-enum"),
        (1e3, 8000.0, "sum-and-sample"),
        (1e11, 0.01, "sum-and-sample"),
    ],
)
def test_auto_depends_on_time_and_memory(
    speed: float,
    megabytes: float,
    wanted: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(costs, "flops_per_second", lambda _: speed)
    monkeypatch.setattr(costs, "available_megabytes", lambda _: megabytes)
    with caplog.at_level(logging.DEBUG):
        for asked, name in (("auto", wanted), ("trace-enum", "trace-enum")):
            assert choose_estimator(config(estimator__name=asked), prepared()) == name
    (line,) = caplog.messages
    assert line.startswith(f"estimator {wanted}: an exact step has 13 decoder rows, takes at least")


def test_speed_and_memory_of_this_machine() -> None:
    cpu = torch.device("cpu")
    assert 1e8 < costs.flops_per_second(cpu) < 1e15
    assert costs.available_megabytes(cpu) > 10
