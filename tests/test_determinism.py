"""The same seed gives the same bytes, and no row's result depends on its neighbours."""

import copy
import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import seqssvae
import seqssvae.inference.decode
from seqssvae.cli import main
from seqssvae.trained import TrainedModel
from tests.support.fixtures import SmallRun


@pytest.fixture(scope="module")
def model(small_run: SmallRun) -> TrainedModel:
    return seqssvae.load(small_run[0])


def test_two_processes_train_the_same_weights(small_run: SmallRun, tmp_path: Path) -> None:
    """Under any hash seed and with any cache; teacher, dropout and early stopping included."""
    words = (
        f"--data {small_run[1]} --model.encoder_size=8 --model.decoder_size=8 "
        "--model.embedding_size=8 --objective.kl_warmup_steps=3 --training.num_steps=8 "
        "--training.evaluate_every=4 --training.num_threads=1 --num-labels 12 "
        "--vocabulary sentencepiece --data.vocabulary_size=300"
    ).split()
    hash_seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = subprocess.run(
        [sys.executable, "-m", "seqssvae", "train", *words, "--out", tmp_path / "a"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "HF_HOME": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    torch.set_default_dtype(torch.float32)
    assert main(["train", *words, "--out", str(tmp_path / "b")]) == 0
    for name in ("weights.safetensors", "split.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.parametrize("strategy", ["sample", "greedy", "beam"])
def test_a_generated_sequence_depends_on_the_seed_and_its_number_alone(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """Not on how many are asked for or decoded at once; torch's own generator is not used."""
    model = dataclasses.replace(model, model=copy.deepcopy(model.model))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():  # z decides what is written
        for parameter in model.model.decoder.parameters():
            parameter.normal_(generator=generator)
        model.model.decoder.get_parameter("ngrams.gate.bias")[0] = 1e9
    random_state = torch.get_rng_state()
    expected = model.generate("left", 12, strategy=strategy, seed=3)
    for n in (0, 1, 5):
        assert model.generate("left", n, strategy=strategy, seed=3) == expected[:n]
    decode = functools.partial(getattr(seqssvae.inference.decode, strategy), num_rows=3)
    monkeypatch.setattr(f"seqssvae.inference.writing.options.{strategy}", decode)
    assert model.generate("left", 12, strategy=strategy, seed=3) == expected
    assert len(set(map(str, expected))) > 1
    assert model.generate("left", 12, strategy=strategy, seed=4) != expected
    assert torch.equal(torch.get_rng_state(), random_state)


def test_z_is_drawn_from_the_prior(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 2,000 sequences its mean, variance and correlation are those of N(0, I)."""
    seen = []

    def greedy(decoder: object, z: object, *_: object, **__: object) -> list[list[int]]:
        seen.append(np.asarray(z))
        return []

    monkeypatch.setattr("seqssvae.inference.writing.options.greedy", greedy)
    model.generate("left", 2000, strategy="greedy", seed=1)
    z = np.concatenate(seen)
    assert np.abs(z.mean(0)).max() < 4 / np.sqrt(2000)
    assert np.abs(np.cov(z.T) - np.eye(2)).max() < 4 * np.sqrt(2 / 2000)
