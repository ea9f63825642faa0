"""Networks and estimators of a user's own, from training to what a run can do; docs/examples."""

import dataclasses
import json
import pkgutil
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import seqssvae
from seqssvae.cli import main
from seqssvae.compare.same_encoder import fit_pretrained
from seqssvae.config import EstimatorConfig, ImportPath, ModelConfig
from seqssvae.data.batches import Batch
from seqssvae.data.prepare import Prepared
from seqssvae.data.vocabulary import CharacterVocabulary
from seqssvae.errors import InputError
from seqssvae.estimators import Estimator, FusedEnum, build_estimator
from seqssvae.model.build import build, build_model
from seqssvae.model.grow import copy_weights
from seqssvae.model.ssvae import SSVAE
from seqssvae.runs.checkpoints import CHECKPOINTS
from seqssvae.training.costs import estimate
from seqssvae.training.fit import fit
from seqssvae.training.trainer import Trainer
from tests.support.factories import SMALL, count_random_rows
from tests.support.rows import write_two_classes
from tests.support.training import QUICK, assert_same_run, config, prepared

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
TRANSFORMER, CONVOLUTIONAL = "transformer_decoder:build", "convolutional_encoder:build"
FLAGS = [f"--{key}={value}" for key, value in QUICK.items()]


class Halved(Estimator):
    """Half of the exact objective."""

    kind = "exact"

    def __init__(self, **options: Any) -> None:
        super().__init__(max_plate_nesting=1)  # type: ignore[no-untyped-call]
        self.exact = FusedEnum(**options)

    def differentiable_loss(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        batch: Batch,
        kl_weight: float = 1.0,
    ) -> Tensor:
        return self.exact.differentiable_loss(model, guide, batch, kl_weight) / 2


@pytest.fixture(autouse=True)
def _examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_two_classes(tmp_path / "rows.jsonl")


def example(path: str, num_classes: int = 3, *, vocabulary_size: int = 7, **changes: Any) -> SSVAE:
    columns = {"a": 2, "b": 2} if num_classes == 4 else None
    settings = dataclasses.replace(SMALL, decoder_layers=2, **changes)
    sizes = {
        "vocabulary_size": vocabulary_size,
        "num_classes": num_classes,
        "label_columns": columns,
    }
    model: SSVAE = pkgutil.resolve_name(path)(settings, prior=None, **sizes)
    if model.decoder.ngrams is not None:
        count_random_rows(model.decoder.ngrams)
    return model


@pytest.mark.parametrize("num_classes", [0, 1, 3, 4])
@pytest.mark.parametrize("changes", [{}, {"latent_size": 0, "decoder_ngrams": 0}], ids=str)
def test_the_examples_keep_to_the_interface(num_classes: int, changes: dict[str, Any]) -> None:
    """Also with n-grams mixed in, without z, and with several columns of labels."""
    seqssvae.check_decoder(example(TRANSFORMER, num_classes, **changes).decoder)
    model = example(CONVOLUTIONAL, num_classes, **changes)
    seqssvae.check_encoder(model.encoder_y, 7)
    seqssvae.check_encoder(model.encoder_z, 7)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 100
    assert path.name in (EXAMPLES.parent / "extending.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [TRANSFORMER, CONVOLUTIONAL])
def test_a_run_of_the_command_line_does_what_any_run_does(
    path: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_default_dtype(torch.float32)
    run, words = str(tmp_path / "run"), ["--data", str(data)]
    assert main(["train", *words, "--model.class", path, "--out", run, *FLAGS]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["class"] == path
    for command in (
        ["evaluate", run, *words],
        ["classify", run, "abab", "--mode", "mix"],
        ["generate", run, "--label", "left", "--strategy", "beam", "--prefix", "a"],
        ["transfer", run, "--to", "right", "ab"],
        ["interpolate", run, "ab", "abab"],
        ["encode", run, *words, "--out", str(tmp_path / "z.parquet")],
        ["explain", run, "abab"],
        ["check", run, *words, "--rows", "2", "--draws", "2"],
        ["report", run],
    ):
        assert main(command) == 0, (command, capsys.readouterr().err)
    resumed = ["train", *words, "--model.class", path, "--out", run, "--resume", *FLAGS]
    assert main(resumed) == 0
    further = ["train", *words, "--from", run, "--out", f"{run}2", "--training.num_steps", "2"]
    assert main(further) == 0, capsys.readouterr().err
    capsys.readouterr()
    status = main(["export", run, "--to", "onnx", "--out", str(tmp_path / "onnx")])
    wanted = "wanted recurrent encoders, got ConvolutionalEncoder"
    assert (status, wanted in capsys.readouterr().err) == (
        (2, True) if "conv" in path else (0, False)
    )


def test_python_takes_the_function(data: Path, tmp_path: Path) -> None:
    """As an argument and as a setting."""
    mine = pkgutil.resolve_name(TRANSFORMER)
    fit(QUICK, data, tmp_path / "a", build=mine)
    fit({**QUICK, "model.class": mine}, data, tmp_path / "b")
    models = [seqssvae.load(tmp_path / name, "cpu") for name in "ab"]
    assert type(models[0].model.decoder).__name__ == "TransformerDecoder"
    for name, weight in models[0].model.state_dict().items():
        assert torch.equal(weight, models[1].model.state_dict()[name]), name
    assert models[0].generate("left", 3, seed=1) == models[1].generate("left", 3, seed=1)


@pytest.mark.parametrize("path", [TRANSFORMER, CONVOLUTIONAL])
def test_a_run_that_is_killed_is_resumed_to_the_same_bits(
    path: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two evaluations, by `--model.class` and by `fit(build=)`, with dropout."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    changes = {"training.num_steps": 6, "training.evaluate_every": 2, "model.dropout": 0.3}
    settings = QUICK | changes | {"training.teacher": False}
    mine = pkgutil.resolve_name(path)
    fit(settings, data, whole, build=mine)
    plain_step = Trainer.step

    def step(trainer: Trainer, number: int) -> float:
        if number == 3:
            raise KeyboardInterrupt
        return plain_step(trainer, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", step)
        fit(settings, data, broken, build=mine)
    assert (broken / CHECKPOINTS).exists()
    flags = [f"--{key}={value}" for key, value in settings.items()]
    words = ["--data", str(data), "--model.class", path, "--out", str(broken), "--resume"]
    assert main(["train", *words, *flags]) == 0
    assert_same_run(whole, broken)


def test_a_run_is_refused_without_its_module_or_with_others_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    module = tmp_path / "my_networks_d.py"
    shutil.copy(EXAMPLES / "transformer_decoder.py", module)
    assert main(["train", "--data", str(data), "--model.class", "my_networks_d:build",
                 "--out", "run", *FLAGS]) == 0  # fmt: skip
    capsys.readouterr()

    def refusal() -> str:
        sys.modules.pop("my_networks_d")
        assert main(["classify", "run", "ab"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    text = module.read_text(encoding="utf-8")
    module.write_text(text.replace("nn.LayerNorm(size)\n", "nn.Identity()\n"), encoding="utf-8")
    assert "run: wanted the weights of my_networks_d:build, got " in refusal()
    module.write_text("build = lambda config, **sizes: None", encoding="utf-8")
    assert "run: model.class: wanted a function that returns an SSVAE, got None" in refusal()
    module.unlink()
    wanted = "wanted my_networks_d:build in the working directory, on PYTHONPATH or installed"
    assert f"run: model.class: {wanted}, got ModuleNotFoundError: No module named" in refusal()


def test_inputs_by_symbol_cannot_grow() -> None:
    """Rows of weights can, for `train --from`; the order of columns is not known."""
    small, large = (example(TRANSFORMER, vocabulary_size=size) for size in (7, 9))
    copy_weights(large, small, CharacterVocabulary("abcde"))
    embeddings = [m.get_parameter("decoder.embedding.weight") for m in (large, small)]
    assert torch.equal(embeddings[0][:7], embeddings[1])
    for model in (small, large):
        model.decoder.add_module("more", torch.nn.Linear(model.vocabulary_size, 2))
    with pytest.raises(InputError, match=r"^start: wanted decoder.more.weight with a row for each"):
        copy_weights(large, small, CharacterVocabulary("abcde"))


def wrong_size(settings: ModelConfig, *, num_classes: int, **sizes: Any) -> SSVAE:
    return build_model(settings, num_classes=num_classes + 1, **sizes)


def test_networks_of_another_size_are_refused() -> None:
    data = prepared()
    num_symbols = len(data.vocabulary)
    with pytest.raises(InputError) as caught:
        build(config(model__class=f"{__name__}:wrong_size"), data)
    wanted = f"wanted {num_symbols} symbols and 2 classes, got {num_symbols} symbols and 3 classes"
    assert str(caught.value) == f"model.class: {wanted}"
    with pytest.raises(InputError, match="^model.class: wanted math:pi to take ModelConfig, vocab"):
        build(config(model__class="math:pi"), data)
    with pytest.raises(InputError, match="model.class: wanted null with training.classifier_only"):
        config(model__class="a:b", training__classifier_only=True, training__teacher=True)


def test_the_cost_of_own_networks_is_by_their_weights() -> None:
    """Of a step with the networks of the settings, in the same order of magnitude."""
    sizes = dict.fromkeys(map("model__{}_size".format, ("embedding", "encoder", "decoder")), 64)

    def cost(path: str | None, **changes: Any) -> float:
        data: Prepared = prepared()
        return estimate(config(**sizes, **changes, model__class=path), data).operations

    own, ours = cost(TRANSFORMER), cost(None)
    assert 0.5 * ours < own < 2 * ours
    assert 1.5 * own < cost(TRANSFORMER, model__decoder_layers=3) < 4 * own


def test_an_estimator_of_ones_own(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its class or its path, in training and in `check`."""
    torch.set_default_dtype(torch.float32)
    path = f"{__name__}:Halved"
    fit({**QUICK, "estimator.name": Halved}, data, tmp_path / "a")
    words = ["train", "--data", str(data), "--estimator", path, "--out", str(tmp_path / "b")]
    assert main([*words, *FLAGS]) == 0
    one, other = (seqssvae.load(tmp_path / name, "cpu") for name in "ab")
    assert one.config == other.config and one.config.estimator.name == path
    for name, weight in one.model.state_dict().items():
        assert torch.equal(weight, other.model.state_dict()[name]), name
    capsys.readouterr()
    check = ["check", str(tmp_path / "a"), "--data", str(data), "--rows", "2", "--draws", "2"]
    assert main([*check, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["estimators"]
    (row,) = (row for row in rows if row["estimator"] == path)
    exact = next(row for row in rows if row["estimator"] == "fused-enum")
    assert row["value"] == pytest.approx(exact["value"] / 2) and not row["agrees"]


def test_only_ours_is_pretrained() -> None:
    """The arm of `compare` that trains states of the encoder as a language model."""
    with pytest.raises(InputError, match="^arm pretrained: wanted the recurrent encoder of"):
        fit_pretrained(config(model__class=CONVOLUTIONAL), prepared())


@pytest.mark.parametrize("name", ["Prepared", "wrong_size"])
def test_what_is_no_estimator_is_refused(name: str) -> None:
    settings = config(estimator__name=f"{__name__}:{name}", objective__free_bits=0.0)
    wanted = "to take num_particles, analytic_kl, free_bits, got: "
    with pytest.raises(InputError, match=f"^estimator.name: wanted .*:{name} {wanted}"):
        build_estimator(settings.estimator, settings.objective)
    with pytest.raises(
        InputError, match="^estimator.name: wanted an Estimator of collections:User"
    ):
        build_estimator(
            EstimatorConfig(name=ImportPath("collections:UserDict")), settings.objective
        )
