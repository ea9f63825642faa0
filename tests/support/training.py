"""Small trainings: their settings and rows, and how two of them are compared."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from seqssvae.config import Config
from seqssvae.data.corpus import gather_corpus
from seqssvae.data.labels import Labels
from seqssvae.data.prepare import Prepared
from seqssvae.data.vocabulary import CharacterVocabulary
from seqssvae.overrides import override
from seqssvae.runs.metrics import METRICS
from seqssvae.runs.run import WEIGHTS
from seqssvae.training.fit import fit
from tests.support.rows import random_rows, write_rows

SIZES = dict.fromkeys(map("model.{}_size".format, ("embedding", "encoder", "decoder")), 4)
SMALL: dict[str, Any] = {
    **SIZES,
    "model.latent_size": 2,
    "model.ngram_buckets": 64,
    "objective.kl_warmup_steps": 3,
    "training.teacher": False,
    "training.num_steps": 8,
    "training.evaluate_every": 4,
    "training.labelled_batch_size": 3,
    "training.unlabelled_batch_size": 5,
}
QUICK: dict[str, Any] = {  # for `fit`, with a teacher
    **SIZES,
    "data.max_length": 12,
    "model.latent_size": 2,
    "objective.kl_warmup_steps": 2,
    "training.num_steps": 4,
    "training.num_threads": 1,
}
TEXTS = ["abab", "cd", "ab", "cdcdcdcd", "acbd", "a", "abababababab", "dcba"]
SETTINGS = (  # for the command line
    "--model.embedding_size=4 --model.encoder_size=4 --model.decoder_size=4 --model.latent_size=2 "
    "--model.ngram_buckets=64 --objective.kl_warmup_steps=3 --objective.kl_schedule=cyclical "
    "--training.num_steps=30 --training.evaluate_every=7 --training.labelled_batch_size=4 "
    "--training.unlabelled_batch_size=6 --training.num_threads=1 --training.teacher=false "
    "--data.vocabulary=characters --estimator.name=score-function"
).split()


def config(**changes: Any) -> Config:
    """Settings of a small training; `training__seed=1` changes `training.seed`."""
    return override(Config(), {**SMALL, **{k.replace("__", "."): v for k, v in changes.items()}})


def quick_config(**changes: Any) -> Config:
    """Settings of a short training with a teacher; arguments as of `config`."""
    return override(Config(), {**QUICK, **{k.replace("__", "."): v for k, v in changes.items()}})


def train(folder: Path, rows: Sequence[Mapping[str, Any]], **changes: Any) -> Path:
    """Train on these rows for a few steps; returns the run."""
    folder.mkdir(exist_ok=True)
    data = write_rows(folder / "rows.jsonl", rows)
    fit(override(Config(), {**QUICK, **changes}), data, folder / "run")
    return folder / "run"


def prepared() -> Prepared:
    """4 labelled rows of two classes, 20 unlabelled ones, and 4 of the dev part."""
    return Prepared(
        vocabulary=CharacterVocabulary("abc"),
        labels=Labels(("a", "b")),
        labelled=random_rows([0, 1, 0, 1], 0),
        unlabelled=random_rows([-1] * 20, 1),
        dev=random_rows([0, 1, -1, -1], 2),
        corpus=gather_corpus(["a"], source="rows"),  # not read in training
    )


def assert_same_bits(first: Any, second: Any, where: str = "") -> None:
    """Equal types, structure and bits of tensors; `where` names the entry in a message."""
    assert type(first) is type(second), where
    if isinstance(first, Tensor):
        assert first.dtype == second.dtype and first.shape == second.shape, where
        assert first.numpy().tobytes() == second.numpy().tobytes(), where
    elif isinstance(first, dict):
        assert list(first) == list(second), where
        for key in first:
            assert_same_bits(first[key], second[key], f"{where}[{key!r}]")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same_bits(one, other, f"{where}[{number}]")
    else:
        assert repr(first) == repr(second), where


def assert_same_run(first: Path, second: Path) -> None:
    """Equal bytes of the weights and of the metrics."""
    for name in (WEIGHTS, METRICS):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
