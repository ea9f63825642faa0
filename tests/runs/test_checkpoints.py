"""Checkpoints: round trips, corruption, full disks and kills at every moment."""

import math
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqssvae.errors import InputError
from seqssvae.runs.checkpoints import load_checkpoint, remove_checkpoints, save_checkpoint
from seqssvae.storage.checksums import seal
from seqssvae.storage.tensors import to_bytes
from tests.support.faults import Full, assert_corruption_is_refused


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {
        "model": layer.state_dict(),
        "optimizer": optimizer.state_dict(),
        "score": (-math.inf, np.float64(2.5)),
        "best": OrderedDict(a=None, b=[True, "x"]),
    }
    assert load_checkpoint(tmp_path / "run") is None
    save_checkpoint(tmp_path / "run", state)
    found = load_checkpoint(tmp_path / "run")
    assert found is not None
    assert torch.equal(found["model"]["weight"], layer.weight)
    assert found["score"] == (-math.inf, 2.5) and found["best"] == {"a": None, "b": [True, "x"]}
    torch.optim.AdamW(layer.parameters()).load_state_dict(found["optimizer"])
    remove_checkpoints(tmp_path / "run")
    remove_checkpoints(tmp_path / "run")
    assert load_checkpoint(tmp_path / "run") is None


def test_a_checkpoint_that_could_not_be_loaded_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\['a'\]\[1\]: wanted a tensor or .* got Path|Posix"):
        save_checkpoint(tmp_path, {"a": [0, Path("x")]})
    assert list(tmp_path.iterdir()) == []


def test_values_are_loaded_unchanged(tmp_path: Path) -> None:
    """Bit for bit: floats, keys that are numbers, tuples, and values that JSON does not have."""
    state: dict[str, Any] = {
        "floats": [0.1, 1e-320, -0.0, math.inf, -math.inf, 2.0**70],
        "keys": {1: {"1": "one"}, "": None, "ü\ud800": True},
        "tuples": ((), (1, [2, (3,)])),
        "like a mark": {"tensor": "x", "dict": [], "tuple": {}},
        "tensors": {"a": torch.tensor([math.nan, -0.0]), 7: torch.tensor(3), "b": torch.zeros(0)},
    }
    save_checkpoint(tmp_path, state)
    found = load_checkpoint(tmp_path)
    assert found is not None
    tensors, wanted = found.pop("tensors"), state.pop("tensors")
    assert repr(found) == repr(state)
    assert list(tensors) == list(wanted)
    for key, value in wanted.items():
        assert tensors[key].dtype == value.dtype and tensors[key].shape == value.shape
        assert tensors[key].numpy().tobytes() == value.numpy().tobytes()


def test_the_newest_checkpoint_is_loaded_and_the_previous_one_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in range(12):
        save_checkpoint(tmp_path, {"step": step})
    folder = tmp_path / "checkpoints"
    assert load_checkpoint(tmp_path) == {"step": 11}
    assert sorted(path.name for path in folder.iterdir()) == ["11", "12"]
    (folder / "12" / "state.json").write_text("{}")
    assert load_checkpoint(tmp_path) == {"step": 10}
    assert "12/state.json: wanted the file that SHA256SUMS lists" in caplog.text
    (folder / "11" / "SHA256SUMS").unlink()
    with pytest.raises(InputError, match="12/state.json: wanted the file that SHA256SUMS lists"):
        load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, {"step": 12})
    assert load_checkpoint(tmp_path) == {"step": 12}


@pytest.mark.parametrize("num_flips", [20, pytest.param(200, marks=pytest.mark.faults)])
def test_corruption_is_refused(tmp_path: Path, num_flips: int) -> None:
    save_checkpoint(tmp_path, {"a": torch.arange(40.0), "b": {"c": torch.ones(3), "d": 1.5}})
    num_refused = assert_corruption_is_refused(
        tmp_path / "checkpoints" / "1", lambda: load_checkpoint(tmp_path), num_flips=num_flips
    )
    assert num_refused >= 3 * (num_flips + 5)


def test_a_sealed_state_that_is_none(tmp_path: Path) -> None:
    for content in (b"{}", b'{"other": 1}', b'{"tensor": "x"}', b'{"dict": 7}', b"[" * 10**5):
        folder = tmp_path / str(len(content))
        place = folder / "checkpoints" / "1"
        place.mkdir(parents=True)
        (place / "state.json").write_bytes(content)
        (place / "tensors.safetensors").write_bytes(to_bytes({}))
        seal(place)
        with pytest.raises(InputError, match="state.json: wanted"):
            load_checkpoint(folder)


@pytest.mark.parametrize("function", ["fsync", "rename", "mkdir"])
def test_a_checkpoint_that_fails_leaves_the_old_one(tmp_path: Path, function: str) -> None:
    save_checkpoint(tmp_path, {"step": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, function, Full(function, 0))
        with pytest.raises(InputError, match="checkpoints: wanted to write it, got No space"):
            save_checkpoint(tmp_path, {"step": 2})
    assert load_checkpoint(tmp_path) == {"step": 1}
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]


FULL = """
import resource, sys
from pathlib import Path
import torch
from seqssvae.runs.checkpoints import save_checkpoint
from seqssvae.config import InputError
folder = Path(sys.argv[1])
save_checkpoint(folder, {"step": 1, "weights": torch.ones(1000)})
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
try:
    save_checkpoint(folder, {"step": 2, "weights": torch.ones(100_000)})
except InputError as error:
    print(error)
"""


def run_python(code: str, *words: object) -> str:
    """Run a program; returns what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_file_that_may_not_grow_leaves_the_old_one(tmp_path: Path) -> None:
    """The operating system's error in the middle of a file."""
    message = run_python(FULL, tmp_path)
    assert message == f"{tmp_path / 'checkpoints'}: wanted to write it, got File too large\n"
    found = load_checkpoint(tmp_path)
    assert found is not None and found["step"] == 1
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from seqssvae.runs.checkpoints import load_checkpoint, remove_leftovers, save_checkpoint
from seqssvae.runs.metrics import append_metrics, cut_metrics, measure_metrics, read_metrics
folder, kills = Path(sys.argv[1]), int(sys.argv[2])
random.seed(0)
reached = leftover = torn = 0
for number in range(kills):
    ready, written = os.pipe()
    child = os.fork()
    if child == 0:
        step = reached
        while True:
            step += 1
            append_metrics(folder, {"step": step})
            weights = torch.full((20000,), float(step))
            facts = measure_metrics(folder)
            save_checkpoint(folder, {"step": step, "weights": weights, "metrics": facts})
            os.write(written, b".")
    os.read(ready, 1)  # one is saved in any case; the next one is under way
    time.sleep(random.uniform(0.0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    place = folder / "checkpoints"
    whole = {path.name for path in place.iterdir() if path.name.isdecimal()}
    leftover += any(path.name not in whole for path in place.iterdir())
    torn += any(len(list((place / name).iterdir())) != 3 for name in whole)
    remove_leftovers(folder)
    assert {path.name for path in place.iterdir()} == whole
    assert 1 <= len(whole) <= 3, whole
    state = load_checkpoint(folder)
    assert state["step"] > reached and (state["weights"] == state["step"]).all()
    reached = state["step"]
    cut_metrics(folder, state["metrics"])
    steps = [record["step"] for record in read_metrics(folder)]
    assert steps == list(range(1, reached + 1)), steps
print(reached, leftover, torn)
"""


@pytest.mark.parametrize("num_kills", [6, pytest.param(50, marks=pytest.mark.faults)])
def test_kills_leave_the_newest_checkpoint_whole(tmp_path: Path, num_kills: int) -> None:
    reached, leftover, torn = map(int, run_python(KILLED, tmp_path, num_kills).split())
    assert reached >= num_kills and torn == 0
    assert leftover > 10 or num_kills < 50  # that often a save was in progress
