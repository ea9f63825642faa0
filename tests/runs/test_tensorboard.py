import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest

from seqssvae.config import Config
from seqssvae.errors import InputError
from seqssvae.overrides import override
from seqssvae.runs.tensorboard import FOLDER, write_scalars
from seqssvae.training.fit import fit
from tests.support.training import QUICK


def events(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run / FOLDER))
    found.Reload()
    return {
        name: [(event.step, event.value) for event in found.Scalars(name)]
        for name in found.Tags()["scalars"]
    }


def test_numbers_are_written_and_written_anew_after_a_resume(tmp_path: Path) -> None:
    for record in (
        {"step": 0, "elbo": -3.5, "accuracy": None, "note": "text", "kl": math.nan},
        {"step": 10, "elbo": -2.0, "accuracy": 0.5, "active_units": 3},
        {"step": 20, "elbo": -9.0},
        {"step": 20, "elbo": -1.0},  # measured again
    ):
        write_scalars(tmp_path, record)
    assert events(tmp_path) == {
        "dev/elbo": [(0, -3.5), (10, -2.0), (20, -1.0)],
        "dev/accuracy": [(10, 0.5)],
        "dev/active_units": [(10, 3.0)],
    }


def test_a_run_has_the_figures_of_metrics_jsonl(
    small_run: tuple[Path, Path], tmp_path: Path
) -> None:
    changes = {**QUICK, "training.evaluate_every": 2, "training.tensorboard": True}
    fit(override(Config(), changes), small_run[1], tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    found = events(tmp_path / "run")["dev/elbo"]
    assert [step for step, _ in found] == [record["step"] for record in records] == [0, 2, 4]
    assert [value for _, value in found] == pytest.approx([r["elbo"] for r in records])


def test_without_the_package_nothing_begins(
    small_run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str, *rest: Any) -> Any:
        return None if name == "tensorboard" else real(name, *rest)

    monkeypatch.setattr("importlib.util.find_spec", find_spec)
    config = override(Config(), {**QUICK, "training.tensorboard": True})
    with pytest.raises(InputError, match=r"^training\.tensorboard: .*pip install tensorboard"):
        fit(config, small_run[1], tmp_path / "run")
    assert not (tmp_path / "run").exists()
