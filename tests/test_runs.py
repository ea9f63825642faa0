"""A run's folder: round trips, every kind of damage, and kills at every moment."""

import json
import math
import os
import stat
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqssvae import runs
from seqssvae.config import Config, InputError, override
from seqssvae.corpora import Labels
from seqssvae.runs import (
    RunContents,
    append_metrics,
    check_new_run,
    load_checkpoint,
    load_run,
    read_metrics,
    remove_checkpoint,
    save_checkpoint,
    save_run,
    write_atomically,
)
from seqssvae.vocabulary import build_vocabulary

TEXTS = ["the cat sat", "a dog\nran", "größe 東京", "the dog sat"]


def make_contents(kind: str = "characters", value: float = 1.0) -> RunContents:
    sequences = [text.split() for text in TEXTS] if kind == "tokens" else TEXTS
    weights = {
        "a.weight": torch.full((3, 2), value),
        "a.empty": torch.zeros(0, 4),
        "b.count": torch.tensor(7),
    }
    weights["b.tied"] = weights["a.weight"]
    weights["b.turned"] = weights["a.weight"].t()
    changes = {"model.cell": "gru", "model.prior": [0.25, 0.75], "data.text_column": "größe 🙂"}
    return RunContents(
        config=override(Config(), {**changes, "objective.w": 1e-5}),
        vocabulary=build_vocabulary(kind, sequences, size=300),
        labels=Labels(names=("chat", "größe", "\N{SLIGHTLY SMILING FACE}")),
        split={"labelled": ["1", "ü"], "dev": []},
        weights=weights,
        manifest={
            "source": Path("x.csv"),
            "value": value,
            "figures": {"nll": np.float32(1.5), "count": np.int64(3), "none": math.nan},
        },
    )


def is_equal(first: RunContents, second: RunContents) -> bool:
    """All but the manifests; vocabularies by what they do."""
    tokens = first.vocabulary.kind == "tokens"
    sequences = [text.split() if tokens else text for text in TEXTS]
    return (
        first.config == second.config
        and first.vocabulary.kind == second.vocabulary.kind
        and all(first.vocabulary.encode(s) == second.vocabulary.encode(s) for s in sequences)
        and first.labels.names == second.labels.names
        and first.split == second.split
        and first.weights.keys() == second.weights.keys()
        and all(torch.equal(first.weights[key], second.weights[key]) for key in first.weights)
        and all(first.weights[key].dtype == second.weights[key].dtype for key in first.weights)
    )


# whole runs


@pytest.mark.parametrize("kind", ["characters", "tokens", "sentencepiece"])
def test_round_trip(tmp_path: Path, kind: str) -> None:
    contents = make_contents(kind)
    save_run(tmp_path / "new" / "run", contents)
    found = load_run(tmp_path / "new" / "run")
    assert is_equal(found, contents)
    assert found.manifest["source"] == "x.csv"
    assert found.manifest["figures"] == {"nll": 1.5, "count": 3, "none": None}
    assert set(found.manifest["files"]) == {
        path.name for path in (tmp_path / "new" / "run").iterdir()
    } - {"manifest.json"}
    save_run(tmp_path / "again", found)  # what was loaded can be saved
    assert is_equal(load_run(tmp_path / "again"), contents)


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_run(tmp_path / "run", make_contents())
        save_checkpoint(tmp_path / "run", {})
        append_metrics(tmp_path / "run", {})
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").iterdir()}
    assert set(modes.values()) == {0o640}, modes


def test_saving_again_replaces(tmp_path: Path) -> None:
    save_run(tmp_path, make_contents("sentencepiece", 1.0))
    second = make_contents("tokens", 2.0)
    save_run(tmp_path, second)
    assert is_equal(load_run(tmp_path), second)


def one_byte_off(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "vocabulary.json",
        "sentencepiece.model",
        "labels.json",
        "split.json",
        "weights.safetensors",
    ],
)
def test_damage_is_told_with_the_file(tmp_path: Path, name: str) -> None:
    save_run(tmp_path, make_contents("sentencepiece"))
    path = tmp_path / name
    content = path.read_bytes()
    one_byte_off(path)
    with pytest.raises(InputError, match=rf"{name}: wanted the file that this run wrote, sha256 "):
        load_run(tmp_path)
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match=rf"{name}: wanted .* got a damaged or foreign one"):
        load_run(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=rf"{name}: wanted a readable file, got No such file"):
        load_run(tmp_path)
    path.write_bytes(content)
    load_run(tmp_path)


def test_weights_of_another_run(tmp_path: Path) -> None:
    save_run(tmp_path / "a", make_contents(value=1.0))
    save_run(tmp_path / "b", make_contents(value=2.0))
    os.replace(tmp_path / "b" / "weights.safetensors", tmp_path / "a" / "weights.safetensors")
    with pytest.raises(InputError, match=r"weights.safetensors: .*got a damaged or foreign one"):
        load_run(tmp_path / "a")


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: wanted the folder of a run, got no such folder"):
        load_run(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: wanted the folder of a run, got a file"):
        load_run(tmp_path / "file")
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(InputError, match="got a folder without manifest.json"):
        load_run(folder)
    append_metrics(folder, {"step": 1})
    with pytest.raises(InputError, match="a finished run, got an unfinished one"):
        load_run(folder)
    for content, message in (
        (b"", "manifest.json: wanted JSON, got"),
        (b"\xff", "manifest.json: wanted JSON, got"),
        (b"[]", "manifest.json: wanted a JSON dict, got list"),
        (b"{}", "manifest.json: wanted format 1, got None"),
        (b'{"format": 1}', "manifest.json: wanted a sha256 for each file, got None"),
        (b'{"format": 1, "files": {}}', "manifest.json: wanted an entry for config.json, got none"),
    ):
        (folder / "manifest.json").write_bytes(content)
        with pytest.raises(InputError, match=message):
            load_run(folder)
    save_run(folder, make_contents())
    change_manifest(folder, lambda m: m["files"].update({"../x": {"sha256": ""}}))
    with pytest.raises(InputError, match="wanted a sha256 for each file"):
        load_run(folder)


def test_files_that_fit_their_sum_but_say_nonsense(tmp_path: Path) -> None:
    for name, content, message in (
        ("weights.safetensors", b"abc", "weights.safetensors: wanted safetensors, got"),
        ("labels.json", b"{}", "labels.json: wanted a list of labels, got"),
        ("split.json", b"[]", "split.json: wanted a JSON dict, got list"),
        ("config.json", b'{"model": {"cel": "gru"}}', "config.json: unknown setting model.cel"),
    ):
        save_run(tmp_path, make_contents())
        (tmp_path / name).write_bytes(content)
        digest = {"sha256": runs._sha256(content)}
        change_manifest(tmp_path, lambda m, n=name, d=digest: m["files"].update({n: d}))  # type: ignore[misc]
        with pytest.raises(InputError, match=message):
            load_run(tmp_path)


# the place of a new run


def test_check_new_run(tmp_path: Path) -> None:
    check_new_run(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()  # nothing is made
    check_new_run(tmp_path)  # empty
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="wanted a new or an empty folder, got one with files$"):
        check_new_run(tmp_path)
    with pytest.raises(InputError, match="wanted a folder, got the file .*file$"):
        check_new_run(tmp_path / "file")
    with pytest.raises(InputError, match=r"wanted a folder, got the file .*file$|Not a directory"):
        check_new_run(tmp_path / "file" / "run")
    save_checkpoint(tmp_path, {})
    with pytest.raises(InputError, match="one with files; --resume goes on from its checkpoint"):
        check_new_run(tmp_path)


def test_check_new_run_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(InputError, match="wanted leave to write in .*, got none"):
        check_new_run(tmp_path / "run")


# metrics


def test_metrics(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "run") == []
    records: list[dict[str, Any]] = [
        {"step": 1, "elbo": -3.5, "accuracy": None},
        {"step": 2, "elbo": np.float64(-2)},
    ]
    for record in records:
        append_metrics(tmp_path / "run", record)
    append_metrics(tmp_path / "run", {"step": 3, "elbo": math.inf, "text": "größe"})
    assert read_metrics(tmp_path / "run") == [
        {"step": 1, "elbo": -3.5, "accuracy": None},
        {"step": 2, "elbo": -2.0},
        {"step": 3, "elbo": None, "text": "größe"},
    ]


def test_every_torn_last_line_is_left_out_and_then_replaced(tmp_path: Path) -> None:
    append_metrics(tmp_path, {"step": 1})
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    append_metrics(tmp_path, {"step": 2, "elbo": -1.0})
    both = (tmp_path / "metrics.jsonl").read_bytes()
    for size in range(len(both)):
        (tmp_path / "metrics.jsonl").write_bytes(both[:size])
        expected = [{"step": 1}] if size >= len(whole) else []
        assert read_metrics(tmp_path) == expected
        append_metrics(tmp_path, {"step": 3})
        assert read_metrics(tmp_path) == [*expected, {"step": 3}]


def test_metrics_after_a_resumed_run(tmp_path: Path) -> None:
    for step, number in ((1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (4, 1)):
        append_metrics(tmp_path, {"step": step, "number": number})
    found = [(record["step"], record["number"]) for record in read_metrics(tmp_path)]
    assert found == [(1, 0), (2, 1), (3, 1), (4, 1)]


def test_a_damaged_line_of_metrics_is_told(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(InputError, match="metrics.jsonl:2: wanted JSON, got"):
        read_metrics(tmp_path)


# checkpoints


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
    remove_checkpoint(tmp_path / "run")
    remove_checkpoint(tmp_path / "run")
    assert load_checkpoint(tmp_path / "run") is None


def test_a_checkpoint_that_could_not_be_loaded_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\['a'\]\[1\]: wanted a tensor or .* got Path|Posix"):
        save_checkpoint(tmp_path, {"a": [0, Path("x")]})
    assert list(tmp_path.iterdir()) == []


def test_every_flipped_byte_of_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"a": torch.arange(4.0)})
    content = (tmp_path / "checkpoint.pt").read_bytes()
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 4
        (tmp_path / "checkpoint.pt").write_bytes(damaged)
        with pytest.raises(InputError, match="checkpoint.pt: wanted a whole checkpoint"):
            load_checkpoint(tmp_path)
    for size in (0, 5, 32, len(content) // 2, len(content) - 1):
        (tmp_path / "checkpoint.pt").write_bytes(content[:size])
        with pytest.raises(InputError, match="checkpoint.pt: wanted a whole checkpoint"):
            load_checkpoint(tmp_path)


# single files, failing disks, kills


def test_write_atomically(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    (tmp_path / "link").symlink_to(path)
    write_atomically(tmp_path / "link", b"three")
    assert path.read_bytes() == b"three" and (tmp_path / "link").is_symlink()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.txt", "link"]
    long_name = tmp_path / ("ü" * 120)
    write_atomically(long_name, b"five")
    assert long_name.read_bytes() == b"five"
    with pytest.raises(InputError, match="none/a.txt: wanted to write it, got No such file"):
        write_atomically(tmp_path / "none" / "a.txt", b"")
    with pytest.raises(InputError, match="wanted to write it, got Is a directory"):
        write_atomically(tmp_path, b"")
    with pytest.raises(InputError, match="wanted to write it, got Not a directory"):
        write_atomically(path / "b.txt", b"")


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"  # never a file of /dev: a mistake would replace it for everyone
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(pipe, b"four")
        assert os.read(reader, 100) == b"four"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


class Full:
    """A disk that is full from the n-th call of an `os` function on."""

    def __init__(self, name: str, calls_before: int) -> None:
        self.real, self.calls_left = getattr(os, name), calls_before

    def __call__(self, *arguments: Any) -> Any:
        self.calls_left -= 1
        if self.calls_left < 0:
            raise OSError(28, "No space left on device")
        return self.real(*arguments)


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("old", [False, True])
def test_a_save_that_fails_at_any_call(tmp_path: Path, function: str, old: bool) -> None:
    first, second = make_contents("tokens", 1.0), make_contents("tokens", 2.0)
    num_failed, done = 0, False
    while not done:
        folder = tmp_path / str(num_failed)
        if old:
            save_run(folder, first)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, function, Full(function, num_failed))
            try:
                save_run(folder, second)
                done = True
            except InputError as error:
                assert "No space left on device" in str(error)
                num_failed += 1
        assert not (folder / ".unfinished").exists()
        try:
            found = load_run(folder)
        except InputError:
            assert not done
            # only between the first rename and the last one is an older run lost
            assert not old or (function == "replace" and num_failed > 1)
        else:
            assert is_equal(found, second) or (old and not done and is_equal(found, first))
        save_run(folder, second)  # all can be mended
        assert is_equal(load_run(folder), second)
    assert num_failed > 5


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_checkpoint_that_fails_leaves_the_old_one(tmp_path: Path, function: str) -> None:
    save_checkpoint(tmp_path, {"step": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, function, Full(function, 0))
        with pytest.raises(InputError, match="checkpoint.pt: wanted to write it, got No space"):
            save_checkpoint(tmp_path, {"step": 2})
    assert load_checkpoint(tmp_path) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from seqssvae.runs import append_metrics, load_checkpoint, read_metrics, save_checkpoint
folder = Path(sys.argv[1])
random.seed(0)
reached = 0
for number in range(15):
    child = os.fork()
    if child == 0:
        step = reached
        while True:
            step += 1
            append_metrics(folder, {"step": step})
            save_checkpoint(folder, {"step": step, "weights": torch.full((20000,), float(step))})
    time.sleep(random.uniform(0.01, 0.08))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    state = load_checkpoint(folder)
    if state is not None:
        assert state["step"] >= reached and (state["weights"] == state["step"]).all()
        reached = state["step"]
    steps = [record["step"] for record in read_metrics(folder)]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) - reached in (0, 1), steps
print("reached", reached)
"""


def test_kills_leave_the_checkpoint_and_the_metrics_whole(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[1]) > 15
