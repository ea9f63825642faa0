import functools
import itertools
import json
import logging
import os
import pkgutil
import signal
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pandas
import pytest
import torch
from torch import Tensor

from seqssvae.config import Config
from seqssvae.data.batches import Batch
from seqssvae.errors import Diverged, InputError, Interrupted
from seqssvae.estimators import FusedEnum
from seqssvae.overrides import override, to_mapping
from seqssvae.runs.checkpoints import CHECKPOINTS, load_checkpoint, save_checkpoint
from seqssvae.runs.metrics import METRICS, read_metrics
from seqssvae.runs.run import load_run
from seqssvae.storage.checksums import SUMS
from seqssvae.storage.files import locked
from seqssvae.teacher.distil import distil
from seqssvae.trained import load
from seqssvae.training.fit import fit
from seqssvae.training.step import Stepper
from seqssvae.training.trainer import Trainer
from tests.support.rows import write_rows, write_two_classes
from tests.support.training import config as small_config

config = functools.partial(
    small_config,
    data__vocabulary="characters",
    training__teacher=True,
    training__num_steps=9,
    training__evaluate_every=2,
    training__labelled_batch_size=4,
    training__unlabelled_batch_size=6,
    training__num_threads=1,
)


class Killed(BaseException):
    """Raised in the middle of a run."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_two_classes(tmp_path / "rows.jsonl")


def fit_until(
    wanted: int, settings: Config, data: Path, out: Path, unlabelled: Path | None = None
) -> None:
    """Train a run that is killed before a step."""
    plain_step = Trainer.step

    def step(trainer: Trainer, number: int) -> float:
        if number == wanted:
            raise Killed
        return plain_step(trainer, number)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "step", step)
        fit(settings, data, out, unlabelled=unlabelled)


def assert_same_files(first: Path, second: Path) -> None:
    """All files of two runs bit for bit, but the manifest, which has the time, and its checksum."""
    names = {path.name for path in first.iterdir()}
    assert names == {path.name for path in second.iterdir()} and METRICS in names
    for name in names - {"manifest.json", SUMS}:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def assert_equal_weights(first: Path, second: Path) -> None:
    want, got = load_run(first).weights, load_run(second).weights
    assert want.keys() == got.keys()
    assert all(torch.equal(want[name], got[name]) for name in want)


def test_a_run_is_written_and_can_be_loaded(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "new" / "run"
    summary = fit(config(), data, out)
    assert summary["run"] == str(out) and summary["num_steps"] == 9
    assert summary["stopped_by"] == "steps"
    assert (summary["num_labelled"], summary["num_unlabelled"]) == (16, 30)
    contents = load_run(out)
    assert contents.config == config() and contents.labels.names == ("left", "right")
    assert {part: len(ids) for part, ids in contents.split.items()} == {
        "labelled": 16, "dev": 4, "dev_unlabelled": 0
    }  # fmt: skip
    assert contents.manifest["summary"] == json.loads(json.dumps(summary))
    assert contents.manifest["source"] == str(data)
    metrics = read_metrics(out)
    assert [record["step"] for record in metrics] == [0, 2, 4, 6, 8, 9]
    best = next(record for record in metrics if record["step"] == summary["best_step"])
    assert best["accuracy"] == summary["dev"]["accuracy"]
    assert summary["dev"]["elbo"] == pytest.approx(max(r["elbo"] for r in metrics), abs=2.0)
    assert not (out / CHECKPOINTS).exists()
    assert load(out).classify(["ab"])[0]["label"] in ("left", "right")


def test_a_mapping_is_a_config_and_a_table_a_source(tmp_path: Path, data: Path) -> None:
    """The same run as of a config and of a file, with columns in another order."""
    frame = pandas.read_json(data, lines=True)
    settings = to_mapping(config())
    fit(settings, frame[list(frame.columns)[::-1]], str(tmp_path / "table"))
    fit(config(), data, tmp_path / "file")
    assert_equal_weights(tmp_path / "file", tmp_path / "table")
    with pytest.raises(InputError, match=r"did you mean training\.num_steps\?"):
        fit({"training.num_step": 3}, data, tmp_path / "wrong")


@pytest.mark.parametrize(
    ("step", "estimator"), [(1, "fused-enum"), (5, "fused-enum"), (8, "score-function")]
)
def test_a_killed_run_is_resumed_to_the_same_weights(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, step: int, estimator: str
) -> None:
    """Just after the first evaluation, between two, and just after one."""
    settings = config(estimator__name=estimator)
    whole = fit(settings, data, tmp_path / "whole")
    fit_until(step, settings, data, tmp_path / "broken")
    assert (tmp_path / "broken" / CHECKPOINTS).exists()
    step_of = Mock(side_effect=Trainer.step)
    monkeypatch.setattr(Trainer, "step", lambda *arguments: step_of(*arguments))
    resumed = fit(settings, data, tmp_path / "broken", resume=True)
    assert [call.args[1] for call in step_of.call_args_list] == list(range(step - step % 2, 9))
    assert_equal_weights(tmp_path / "whole", tmp_path / "broken")
    assert not (tmp_path / "broken" / CHECKPOINTS).exists()
    for key in ("num_steps", "best_step", "stopped_by", "dev"):
        assert whole[key] == resumed[key]
    assert_same_files(tmp_path / "whole", tmp_path / "broken")


def test_a_kill_while_a_checkpoint_is_written_keeps_the_previous_one(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(config(), data, tmp_path / "whole")
    calls = itertools.count(1)

    def save(folder: Path, state: dict[str, Any]) -> None:
        if next(calls) == 3:
            raise Killed
        save_checkpoint(folder, state)

    monkeypatch.setattr("seqssvae.training.fit.save_checkpoint", save)
    with pytest.raises(Killed):
        fit(config(), data, tmp_path / "broken")
    assert [record["step"] for record in read_metrics(tmp_path / "broken")] == [0, 2, 4]
    fit(config(), data, tmp_path / "broken", resume=True)
    assert_same_files(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.parametrize(
    ("number", "status", "step"),
    [(signal.SIGTERM, 143, 5), (signal.SIGINT, 130, 3), (signal.SIGTERM, 143, 0)],
)
def test_a_signal_ends_a_run_after_its_step(
    tmp_path: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    status: int,
    step: int,
) -> None:
    """It arrives in the middle of a step, which is finished first."""
    fit(config(), data, tmp_path / "whole")
    plain_step = Stepper._differentiate

    def differentiate(stepper: Stepper, batch: Batch, here: int, *rest: Any) -> Any:
        if here == step and (tmp_path / "broken").exists():
            os.kill(os.getpid(), number)
        return plain_step(stepper, batch, here, *rest)

    monkeypatch.setattr(Stepper, "_differentiate", differentiate)
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(Interrupted, match=f"{number.name}; --resume continues from step") as caught:
        fit(config(), data, tmp_path / "broken")
    assert caught.value.status == status
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before
    state = load_checkpoint(tmp_path / "broken")
    assert state is not None and state["progress"]["step"] == step + 1
    monkeypatch.undo()
    fit(config(), data, tmp_path / "broken", resume=True)
    assert_same_files(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (1, "SIGTERM; the teacher was learning, --resume starts anew"),
        (2, "SIGTERM; --resume continues from the last evaluation"),
    ],
)
def test_a_signal_while_the_teacher_learns_ends_it(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, call: int, message: str
) -> None:
    """At once, before the first step or after the last one; the run is resumed to the same bits."""
    fit(config(), data, tmp_path / "whole")
    calls, plain_distil = itertools.count(1), distil

    def interrupted(*words: Any, **options: Any) -> object:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return plain_distil(*words, **options)

    monkeypatch.setattr("seqssvae.training.teach.distil", interrupted)
    with pytest.raises(Interrupted, match=f"^{message}$"):
        fit(config(), data, tmp_path / "broken")
    fit(config(), data, tmp_path / "broken", resume=True)
    assert_same_files(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.parametrize(
    ("name", "call", "message"),
    [
        ("evaluate", 1, "from step 0"),
        ("evaluate", 3, "from step 4"),
        ("Counting.count", 2, "from step 5"),
        ("evaluate", 7, "from the last evaluation"),
    ],
)
def test_a_signal_ends_an_evaluation(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int, message: str
) -> None:
    """At once, and a count of n-grams; the resumed run does it anew, to the same bits."""
    settings = config(model__decoder_ngrams=2)
    fit(settings, data, tmp_path / "whole")
    where = f"seqssvae.training.trainer.{name}"
    calls, plain = itertools.count(1), pkgutil.resolve_name(where)

    def interrupted(*words: Any, **options: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return plain(*words, **options)

    monkeypatch.setattr(where, interrupted)
    with pytest.raises(Interrupted, match=f"^SIGTERM; --resume continues {message}$"):
        fit(settings, data, tmp_path / "broken")
    fit(settings, data, tmp_path / "broken", resume=True)
    assert_same_files(tmp_path / "whole", tmp_path / "broken")


def test_a_finished_run_is_not_trained_again(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "run"
    first = fit(config(estimator__name="auto"), data, out)
    save_checkpoint(out, {"left": "by a kill"})
    before = {path: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert fit(config(estimator__name="auto"), data, out, resume=True) == first
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    refusal = "in it, got another training.seed; another folder starts a new run$"
    with pytest.raises(InputError, match=f"run: wanted the settings and rows of the run {refusal}"):
        fit(config(training__seed=5), data, out, resume=True)
    with pytest.raises(InputError, match="run: wanted a new or an empty folder, got one with"):
        fit(config(), data, out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_without_resume_a_checkpoint_is_kept(tmp_path: Path, data: Path) -> None:
    fit_until(5, config(), data, tmp_path / "run")
    with pytest.raises(InputError, match="--resume continues from its checkpoint"):
        fit(config(training__seed=4), data, tmp_path / "run")


def test_time_is_counted_over_all_parts_of_a_run(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock moves by a minute before step 5 only; the limit may change."""
    ticks = [0.0]
    plain_step = Trainer.step

    def step(trainer: Trainer, number: int) -> float:
        ticks[0] += 60.0 * (number == 5)
        return plain_step(trainer, number)

    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr("seqssvae.training.trainer.time.monotonic", lambda: ticks[0])
    fit_until(7, config(training__max_minutes=3.0), data, tmp_path / "run")
    state = load_checkpoint(tmp_path / "run")
    assert state is not None and state["progress"]["minutes"] == 1.0
    ticks[0] = 5000.0  # time between the parts is not counted
    summary = fit(config(training__max_minutes=0.9), data, tmp_path / "run", resume=True)
    assert (summary["stopped_by"], summary["num_steps"], summary["minutes"]) == ("time", 7, 1.0)


def test_the_time_of_each_phase_is_recorded(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Over all parts of a run: 100 s to read, 1 s a step, 10 s an evaluation."""
    ticks = [0.0]
    monkeypatch.setattr("seqssvae.progress.clock", lambda: ticks[0])

    def slow(name: str, seconds: float) -> None:
        plain: Any = pkgutil.resolve_name(name)

        def call(*arguments: Any, **options: Any) -> Any:
            ticks[0] += seconds
            return plain(*arguments, **options)

        monkeypatch.setattr(name, call)

    slow("seqssvae.training.fit.prepare", 100.0)
    slow("seqssvae.training.trainer.evaluate", 10.0)
    slow("seqssvae.training.trainer.Trainer.step", 1.0)
    fit_until(7, config(), data, tmp_path / "run")  # after evaluations at 0, 2, 4 and 6
    caplog.set_level(logging.INFO, "seqssvae.training.fit")
    summary = fit(config(), data, tmp_path / "run", resume=True)
    wanted = {"reading": 200.0, "teacher": 0.0, "steps": 9.0, "evaluation": 70.0, "saving": 0.0}
    assert summary["seconds"] == wanted
    assert load(tmp_path / "run").manifest["summary"]["seconds"] == wanted
    line = next(one for one in caplog.messages if one.startswith("time: "))
    assert line.split(", ")[0] == "time: reading 200.0 s" and "steps 9.0 s" in line


def test_a_resumed_run_keeps_its_estimator(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine with less memory would choose another one."""
    fit_until(5, config(estimator__name="auto"), data, tmp_path / "run")
    monkeypatch.setattr("seqssvae.training.costs.available_megabytes", lambda _: 1e-6)
    fit(config(estimator__name="auto"), data, tmp_path / "run", resume=True)
    assert load_run(tmp_path / "run").config == config(estimator__name="fused-enum")


def test_a_corrupt_newest_checkpoint_changes_no_bit(
    tmp_path: Path, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(config(), data, tmp_path / "whole")
    fit_until(7, config(), data, tmp_path / "broken")
    newest = max((tmp_path / "broken" / CHECKPOINTS).iterdir(), key=lambda path: int(path.name))
    content = bytearray((newest / "tensors.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "tensors.safetensors").write_bytes(content)
    fit(config(), data, tmp_path / "broken", resume=True)
    assert "tensors.safetensors: wanted the file that SHA256SUMS lists" in caplog.text
    assert_same_files(tmp_path / "whole", tmp_path / "broken")


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path, data: Path) -> None:
    save_checkpoint(tmp_path / "run", {"step": 1})
    with pytest.raises(InputError, match="run: wanted a checkpoint of format 3, got None"):
        fit(config(), data, tmp_path / "run", resume=True)


def test_losses_that_are_never_finite_end_a_run_that_is_saved(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = FusedEnum.differentiable_loss

    def differentiable_loss(elbo: FusedEnum, model: Any, guide: Any, *args: Any) -> Tensor:
        return plain(elbo, model, guide, *args) * torch.nan

    monkeypatch.setattr(FusedEnum, "differentiable_loss", differentiable_loss)
    settings = config(training__max_bad_steps=3)
    for resume in (False, True):  # the second time the summary is read
        with pytest.raises(Diverged, match="run: wanted finite numbers, got 3 steps without"):
            fit(settings, data, tmp_path / "run", resume=resume)
    contents = load_run(tmp_path / "run")
    assert all(bool(value.isfinite().all()) for value in contents.weights.values())
    assert contents.manifest["summary"]["stopped_by"] == "bad-numbers"
    assert contents.manifest["summary"]["skipped_steps"] == 3
    assert load(tmp_path / "run").classify(["ab"])


@pytest.mark.parametrize("other", ["settings", "rows", "unlabelled", "more"])
def test_a_checkpoint_of_other_settings_or_rows_is_refused(
    tmp_path: Path, data: Path, other: str
) -> None:
    """The other rows have the same labels and ids, and as many symbols as those before."""
    more = write_two_classes(tmp_path / "more.jsonl", 3)
    fit_until(5, config(), data, tmp_path / "run", unlabelled=more)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")}
    settings = config(objective__w=0.5) if other == "settings" else config()
    if other == "rows":
        write_two_classes(data, symbols="badc")
    elif other == "unlabelled":
        write_two_classes(data, 33)
    elif other == "more":
        write_two_classes(more, 2)
    found = "got another objective.w;" if other == "settings" else "got other rows;"
    with pytest.raises(InputError, match=f"run: wanted the settings and rows of the.*{found}"):
        fit(settings, data, tmp_path / "run", unlabelled=more, resume=True)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")} == before


@pytest.mark.parametrize(("megabytes", "wanted"), [(1e6, "fused-enum"), (1e-6, "sum-and-sample")])
def test_the_chosen_estimator_is_saved(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, megabytes: float, wanted: str
) -> None:
    monkeypatch.setattr("seqssvae.training.costs.available_megabytes", lambda _: megabytes)
    fit(config(estimator__name="auto"), data, tmp_path / "auto")
    assert load_run(tmp_path / "auto").config == config(estimator__name=wanted)
    fit(config(estimator__name=wanted), data, tmp_path / "named")
    assert_equal_weights(tmp_path / "named", tmp_path / "auto")


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (7, {}),
        ("", {}),
        ("ab", {"data.text_column": "word"}),
        ("ab", {"data.vocabulary": "tokens"}),
        ("ab", {"model.prior": [0.2, 0.3, 0.5]}),
        ("ab", {"estimator.name": "score-function", "estimator.baseline": "leave-one-out"}),
    ],
)
def test_invalid_input_writes_nothing(
    tmp_path: Path, text: object, changes: dict[str, Any]
) -> None:
    rows: list[dict[str, Any]] = [{"text": "ab", "label": "right"}, {"text": text, "label": "left"}]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InputError):
        fit(override(config(), changes), source, tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_the_same_seed_gives_the_same_run(tmp_path: Path, data: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        fit(config(training__seed=seed), data, tmp_path / name)
    assert_equal_weights(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError):
        assert_equal_weights(tmp_path / "a", tmp_path / "c")


def test_metrics_are_on_the_disk_before_the_run_ends(tmp_path: Path, data: Path) -> None:
    fit_until(4, config(), data, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [CHECKPOINTS, METRICS]
    with pytest.raises(InputError, match="an unfinished one"):
        load(tmp_path / "run")


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_in_use_is_refused_and_left_alone(tmp_path: Path, resume: bool) -> None:
    listed = [{"text": f"a{i}", "label": "xy"[i % 2]} for i in range(9)]
    rows = write_rows(tmp_path / "rows.jsonl", listed)
    out = tmp_path / "run"
    with locked(out):
        (out / ".unfinished").mkdir()  # of the other's save
        if not resume:
            (out / ".unfinished").rmdir()
        with pytest.raises(InputError, match="got one in use"):
            fit(small_config(), rows, out, resume=resume)
        assert (out / ".unfinished").exists() == resume
    assert fit(small_config(), rows, out, resume=resume)["num_steps"] > 0


def test_a_package_without_metadata_is_saved_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a source tree that is not installed: the run is saved all the same."""
    monkeypatch.setattr("seqssvae.training.fit.RECORDED_PACKAGES", ("torch", "not-installed"))
    rows = [{"text": f"a{i}", "label": "xy"[i % 2]} for i in range(9)]
    fit(small_config(), write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "run")
    versions = load(tmp_path / "run").manifest["versions"]
    assert versions["torch"] and versions["not-installed"] is None


def test_paths_may_be_strings(tmp_path: Path, data: Path) -> None:
    out = str(tmp_path / "run")
    assert fit(config(), str(data), out=out)["run"] == out
    assert len(load(out).interpolate("ab", "", 3)) == 3  # an empty sequence is one, too
