"""Every use of a model on every device that there is, and on one that is made up."""

import contextlib
import itertools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from seqssvae import devices, distributed
from seqssvae.cli import main
from seqssvae.compare.compare import ARMS
from seqssvae.compare.parts import fit_ssvae
from seqssvae.compare.same_encoder import fit_pretrained, fit_self_trained, fit_supervised
from seqssvae.config import EstimatorName
from seqssvae.data.batches import collate
from seqssvae.devices import _has_gpu, resolve  # before tests are kept on the CPU
from seqssvae.errors import InputError
from seqssvae.estimators.check import check
from seqssvae.export.sklearn import SeqSSVAEClassifier
from seqssvae.inference.classify import MODES
from seqssvae.inference.novelty import log_prob_per_symbol
from seqssvae.model.build import build
from seqssvae.runs.run import load_run
from seqssvae.show.explorer import open_run
from seqssvae.show.portrait import portray
from seqssvae.trained import TrainedModel, load
from seqssvae.training.fit import fit
from seqssvae.training.step import Stepper
from seqssvae.training.trainer import Trainer
from tests.support.commands import refusal
from tests.support.fake_device import FAKE, fake_device, without_float64
from tests.support.rows import write_two_classes
from tests.support.training import TEXTS, config, prepared, quick_config

FOUND = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
DEVICES = ["fake", *(name for name, is_there in FOUND.items() if is_there)]
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}  # float32


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a device, in float32."""
    with contextlib.ExitStack() as stack:
        if request.param == "fake":
            stack.enter_context(fake_device())
        yield "cuda" if request.param == "fake" else request.param


@pytest.fixture(autouse=True)
def _in_float32(_start: None) -> Iterator[None]:
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_two_classes(tmp_path_factory.mktemp("rows") / "rows.jsonl")


@pytest.fixture(scope="module")
def run(device: str, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained on the device for some steps, with a teacher and n-grams."""
    torch.set_default_dtype(torch.float32)
    out = tmp_path_factory.mktemp("run") / "run"
    fit(quick_config(training__device=device, data__max_length=30), rows, out)
    return out


def both(run: Path, device: str) -> tuple[TrainedModel, TrainedModel]:
    """A run on the CPU and on the device, which are not the same."""
    on_cpu, there = load(run, "cpu"), load(run, device)
    assert on_cpu.device.type == "cpu" != there.device.type
    return on_cpu, there


def test_auto_is_a_gpu_for_each_process_or_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_gpu", _has_gpu)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    for is_there, count, processes, wanted in [
        (False, 0, None, "cpu"),
        (True, 1, None, "cuda"),
        (True, 2, "2", "cuda"),
        (True, 1, "2", "cpu"),
        (True, 1, "?", "cuda"),
    ]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda is_there=is_there: is_there)
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        if processes is not None:
            monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        assert resolve("auto") == resolve() == torch.device(wanted)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", "device: wanted a GPU that torch can use, got no cuda"),
        ("cuda:1", "device: wanted a GPU that torch can use, got no cuda:1"),
        ("mps", "device: wanted a GPU of Apple that torch can use, got no mps"),
        ("tpu", "device: wanted auto, cpu, cuda, mps, got 'tpu'"),
        ("meta", "device: wanted auto, cpu, cuda, mps, got 'meta'"),
        (None, "device: wanted auto, cpu, cuda, mps, got None"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    name: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"^{message}$"):
        resolve(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve("cuda") == torch.device("cuda") and resolve("cpu") == torch.device("cpu")


@pytest.mark.parametrize("kind", [kind for kind, is_there in FOUND.items() if not is_there])
def test_commands_refuse_it_in_a_line(
    kind: str, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = f"that torch can use, got no {kind}\n"
    data = ["--data", str(rows), "--out", str(tmp_path / "new")]
    assert refusal(main, ["train", *data, "--device", kind], capsys).endswith(message)
    assert not (tmp_path / "new").exists()
    compare = ["compare", *data, "--test", str(rows), "--device", kind]
    assert refusal(main, compare, capsys).endswith(message)
    golden = Path(__file__).parent / "golden" / "format-3-characters"
    command = ["classify", str(golden), "abab", "--device", kind]
    assert refusal(main, command, capsys).endswith(message)
    assert "invalid choice: 'tpu'" in refusal(main, [*command[:-1], "tpu"], capsys)


def test_a_run_knows_no_device(run: Path, device: str) -> None:
    """Weights that were trained on it are read without it."""
    contents = load_run(run)
    assert {weight.device.type for weight in contents.weights.values()} == {"cpu"}
    assert contents.manifest["summary"]["dev_labels_learned"] and contents.config.training.teacher


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_samples", [0, 3])
def test_probabilities_are_those_of_the_cpu(
    run: Path, device: str, mode: str, num_samples: int
) -> None:
    tables = [
        one.classify_table(one.read_sequences(TEXTS), mode=mode, num_samples=num_samples)
        for one in both(run, device)
    ]
    np.testing.assert_allclose(tables[1], tables[0], **CLOSE)


def test_figures_are_those_of_the_cpu(run: Path, device: str, rows: Path) -> None:
    want, got = (one.evaluate(rows, num_samples=2) for one in both(run, device))
    for name in ("mode", "classes", "confusion"):  # exact: of so few rows none is near a border
        assert want.pop(name) == got.pop(name)
    assert want == pytest.approx(got, rel=1e-4, abs=1e-4)


def test_z_and_novelty_are_those_of_the_cpu(run: Path, device: str) -> None:
    want, got = both(run, device)
    tables = [one.encode(TEXTS) for one in (want, got)]
    for name in ("loc", "scale", "probabilities"):
        np.testing.assert_allclose(tables[1][name], tables[0][name], **CLOSE)
    read = want.read_sequences(TEXTS)
    log_probs = [log_prob_per_symbol(one.model, read, num_samples=2) for one in (want, got)]
    np.testing.assert_allclose(log_probs[1], log_probs[0], **CLOSE)


@pytest.mark.parametrize(
    "write",
    [
        lambda model: model.generate("left", 20, seed=3, temperature=2.0),
        lambda model: model.generate("right", 20, seed=4, top_k=3, top_p=0.9, prefix="a"),
        lambda model: model.generate("left", 3, strategy="greedy"),
        lambda model: model.generate("left", 3, strategy="beam", width=4),
        lambda model: model.transfer(TEXTS, to="right"),
        lambda model: model.interpolate("ab", "cdcd", steps=4),
    ],
)
def test_what_is_written_is_a_function_of_the_seed_on_every_device(
    run: Path, device: str, write: Callable[[TrainedModel], Any]
) -> None:
    want, got = map(write, both(run, device))
    assert want == got


def test_nothing_but_check_needs_float64(
    run: Path, device: str, rows: Path, tmp_path: Path
) -> None:
    if device != "cuda":
        pytest.skip("a device without")
    with without_float64() if devices.resolve(device) == FAKE else contextlib.nullcontext():
        fit(quick_config(training__device=device), rows, tmp_path / "run")
        model = load(run, device)
        assert model.evaluate(rows, num_samples=2)["num_likelihood_rows"]
        for mode in MODES:
            assert len(model.classify(TEXTS, mode=mode, num_samples=2)) == len(TEXTS)
        log_prob_per_symbol(model.model, model.read_sequences(TEXTS), num_samples=2)
        for strategy in ("sample", "greedy", "beam"):
            assert len(model.generate("left", 2, strategy=strategy, prefix="a")) == 2
        assert len(model.encode(TEXTS)["loc"]) == len(model.transfer(TEXTS, to="left"))
        assert portray(run, rows, device=device).kl_nats.dtype == np.float64


@pytest.mark.parametrize("name", [name for name in get_args(EstimatorName) if name != "auto"])
def test_every_estimator_takes_steps_and_restores(device: str, name: str) -> None:
    """The state after two steps is on the device, whether it was reached or restored."""
    settings, data = config(estimator__name=name, model__decoder_ngrams=2), prepared()
    there = devices.resolve(device)
    first, second = (Stepper(settings, build(settings, data).to(there), data) for _ in range(2))
    assert all(np.isfinite(first.step(number)[0]) for number in range(2))
    state = first.state()
    second.restore({**state, "model": {n: w.cpu() for n, w in state["model"].items()}})
    assert np.isfinite(second.step(2)[0])
    assert {weight.device.type for weight in second.model.state_dict().values()} == {there.type}


def test_processes_exchange_the_sums_of_baselines_on_the_cpu(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has none of them gets them on its device."""
    monkeypatch.setattr(distributed, "size", lambda: 2)
    monkeypatch.setattr(distributed, "add_named", lambda sums: {**sums, "more": torch.ones(2)})
    there = devices.resolve(device)
    stepper = Stepper(config(), build(config(), prepared()).to(there), prepared())
    sums = stepper._add({"count": torch.ones((), device=there)})
    assert {name: value.device.type for name, value in sums.items()} == dict.fromkeys(
        ("count", "more"), there.type
    )


def test_a_run_is_resumed_on_another_device(
    device: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the CPU to the device and back, with checkpoints between."""
    plain_step = Trainer.step
    stops = itertools.chain((1, 3), itertools.repeat(None))

    def step(trainer: Trainer, number: int) -> float:
        if number == stop:
            raise KeyboardInterrupt
        return plain_step(trainer, number)

    monkeypatch.setattr(Trainer, "step", step)
    changes: dict[str, Any] = {"training__evaluate_every": 1, "training__num_steps": 5}
    for name in ("cpu", device, "cpu"):
        settings, stop = quick_config(training__device=name, **changes), next(stops)
        if stop is None:
            summary = fit(settings, rows, tmp_path / "run", resume=True)
        else:
            with pytest.raises(KeyboardInterrupt):
                fit(settings, rows, tmp_path / "run", resume=stop > 1)
    assert summary["num_steps"] == 5 and summary["skipped_steps"] == 0
    again = quick_config(training__device=device, **changes)
    assert fit(again, rows, tmp_path / "run", resume=True) == summary  # finished


@pytest.mark.parametrize(
    "arm",
    [
        fit_supervised,
        fit_self_trained,
        fit_pretrained,
        lambda config, prepared: fit_ssvae(config, prepared)[0],
    ],
)
def test_networks_that_are_compared_are_trained_on_the_device(device: str, arm: Any) -> None:
    model = arm(config(training__device=device), prepared())
    assert model.prior_logits.device.type == devices.resolve(device).type


def test_check_agrees_with_the_sum_on_the_cpu(run: Path, device: str) -> None:
    if device == "mps":
        pytest.skip("no float64")
    want, got = both(run, device)
    batch = collate(want.read_sequences(TEXTS[:4]), range(4), num_classes=2)
    tables = [check(one.model, batch, num_draws=2) for one in (want, got)]
    for one, other in zip(*tables, strict=True):
        if one.kind == "exact":
            assert other.agrees() and other.value == pytest.approx(one.value)


def test_scikit_learn(device: str) -> None:
    """A pickle is that of a model on the CPU."""
    options: dict[str, Any] = {"num_steps": 3, "vocabulary": "characters", "config": quick_config()}
    fitted = SeqSSVAEClassifier(device=device, **options).fit(TEXTS, [0, 1, 0, 1, -1, 0, 0, 1])
    there = fitted.model_.device.type
    assert there == devices.resolve(device).type
    again = pickle.loads(pickle.dumps(fitted))
    assert (fitted.model_.device.type, again.model_.device.type) == (there, "cpu")
    np.testing.assert_allclose(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS), **CLOSE)


def test_every_command_has_a_device(
    run: Path, device: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is where the model is; without the flag that is the CPU here."""
    seen: list[str] = []
    plain = TrainedModel.__init__

    def init(self: TrainedModel, **options: Any) -> None:
        plain(self, **options)
        seen.append(self.device.type)

    monkeypatch.setattr(TrainedModel, "__init__", init)
    data = ["--data", str(rows)]
    commands = [
        ["evaluate", *data, "--num-samples", "1"],
        ["classify", "abab"],
        ["explain", "abab"],
        ["generate", "--label", "left"],
        ["transfer", "abab", "--to", "right"],
        ["interpolate", "ab", "cd"],
        ["encode", *data, "--out", str(tmp_path / "z.jsonl")],
        *([["check", *data, "--draws", "2"]] if device != "mps" else []),
    ]
    for name, *options in commands:
        for flag, wanted in (([], "cpu"), (["--device", device], devices.resolve(device).type)):
            seen.clear()
            assert main([name, str(run), *options, *flag]) == 0
            assert set(seen) == {wanted}, name


def test_pictures_and_the_explorer(run: Path, device: str, rows: Path) -> None:
    want, got = (portray(run, rows, device=name) for name in ("cpu", device))
    np.testing.assert_allclose(got.probabilities, want.probabilities, **CLOSE)
    np.testing.assert_allclose(got.kl_nats, want.kl_nats, **CLOSE)
    assert got.samples == want.samples and got.walks == want.walks
    assert open_run(run, rows, device=device).classify("abab")[0][0][0] == "left"


def test_comparisons_know_no_device(
    device: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results of one are not computed again on another."""
    monkeypatch.setitem(ARMS, "teacher", lambda config, prepared, test: np.eye(2)[test[1].y])
    options = ["--data", str(rows), "--test", str(rows), "--arms", "teacher", "--budgets", "20"]
    out = tmp_path / "results.jsonl"
    for name in ("cpu", device):
        more = ["--draws", "1", "--out", str(out), "--device", name]
        assert main(["compare", *options, *more]) == 0
    assert len(out.read_text().splitlines()) == 1
