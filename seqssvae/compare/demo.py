"""The main job on words: a few labels, many unlabelled rows, and what came out of them."""

import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqssvae.compare.compare import ARMS, TestRows, classification_metrics
from seqssvae.compare.wordlists import LANGUAGES, read_lists, read_small_lists, write_words
from seqssvae.config import Config
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared, prepare, warn_of_test_rows_seen
from seqssvae.data.sources import read_like, read_sequences
from seqssvae.errors import InputError, Interrupted
from seqssvae.overrides import override
from seqssvae.trained import TrainedModel, load
from seqssvae.training.fit import fit

TITLES = {
    "tfidf-lr-characters": "TF-IDF of characters, logistic regression",
    "nb-em-characters": "naive Bayes of characters, with EM",
    "m2": "M2 alone: no teacher, no n-grams",
    "teacher": "the teacher alone",
    "ssvae": "the whole SS-VAE",
}
MINUTES = 2.0  # of training, also of M2's two trainings
LARGE, SMALL = (4000, 500), (150, 30)  # words of each language for training, and for test
MODES = {"q": "q(y|x)", "posterior": "Bayes' rule", "mix": "both"}


def demo(
    out: str | Path = "runs/demo",
    *,
    train: str | Path | None = None,
    test: str | Path | None = None,
    labels_per_class: int = 20,
    steps: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Train on words of eight languages with few labels, and print how good the model is.

    Trains the SS-VAE and, on the same labels, TF-IDF with logistic regression, naive Bayes with EM,
    and the parts of the SS-VAE alone: the model of the papers without teacher and n-grams, M2, and
    the teacher. Prints their accuracy on held-out words, new words of each language, and words
    transferred to another language. It takes some minutes.

    The words are 4,500 of each language with the package wordfreq, which
    `pip install wordfreq` installs, else 180 that come with seqssvae. They are written to
    a folder beside `out`.

    Args:
        out: The run's folder; an unfinished demo in it is continued.
        train: Rows to train on instead, with `test`.
        test: Rows to measure on.
        labels_per_class: Labels that are read; the other rows are unlabelled.
        steps: Steps of a training; as of `Config` when None.
        seed: Seed of the training.

    Returns:
        The folder `run`, `accuracy` and `seconds` by arm, and the SS-VAE's accuracy by `mode`.

    Raises:
        InputError: bad input, or a folder with other files.

    Example:
        >>> result = seqssvae.demo("runs/demo")  # doctest: +SKIP
        >>> result["accuracy"]["ssvae"] > 0.7  # doctest: +SKIP
        True
    """
    out = Path(out)
    if (train is None) != (test is None):
        raise InputError("wanted train and test, or neither, got one of them")
    if train is None or test is None:
        train, test = _write_words(out.with_name(f"{out.name}-words"))
    config = _settings(labels_per_class, steps, seed)
    warn_of_test_rows_seen(config, str(train), str(test))
    summary = _fit(config, str(train), out)
    trained, prepared = load(out), prepare(config, str(train))
    rows = read_like(str(test), config, prepared.vocabulary, prepared.labels)
    words = read_sequences(str(test), config)
    found = _measure(config, prepared, trained, (words, rows))
    found["seconds"]["ssvae"] = sum(summary["seconds"].values())

    num_classes, num_labelled = len(prepared.labels.names), len(prepared.with_dev_labels().labelled)
    print(f"\n{len(rows)} held-out words, {num_classes} languages,", end=" ")
    print(f"{num_labelled // num_classes} labelled and", end=" ")
    print(f"{len(prepared.unlabelled) // num_classes} unlabelled words each\n")
    _print_table(**found)
    _print_words(trained, rows, words, seed)
    return {"run": str(out), **found}


def _fit(config: Config, train: str, out: Path) -> dict[str, Any]:
    """Train, or go on with it: the demo has no flag --resume."""
    try:
        return fit(config, train, out, resume=True, show_bar=True)
    except Interrupted as stop:
        stop.args = (str(stop).replace("--resume", "the same command"),)
        raise


def _settings(labels_per_class: int, steps: int | None, seed: int) -> Config:
    limits = {} if steps is None else {"training.num_steps": steps}
    return override(
        Config(),
        {"data.labels_per_class": labels_per_class, "training.seed": seed}
        | {"training.max_minutes": MINUTES, **limits},
    )


def _measure(
    config: Config, prepared: Prepared, trained: TrainedModel, test: TestRows
) -> dict[str, dict[str, float]]:
    """Train the other arms; returns `accuracy` and `seconds` by arm, and `mode`, see `demo`."""
    _, rows = test

    def measure(probabilities: NDArray[np.float64]) -> float:
        return classification_metrics(probabilities, rows.y)["accuracy"]

    by_mode = {mode: measure(trained.classify_table(rows, mode=mode)) for mode in MODES}
    accuracy = {"ssvae": by_mode[trained.default_mode]}
    seconds: dict[str, float] = {}
    halved = override(config, {"training.max_minutes": MINUTES / 2})
    for arm in TITLES:
        if arm != "ssvae":
            start = time.perf_counter()
            settings = halved if arm == "m2" else config
            accuracy[arm] = measure(ARMS[arm](settings, prepared, test))
            seconds[arm] = time.perf_counter() - start
    return {"accuracy": accuracy, "seconds": seconds, "mode": by_mode}


def _write_words(folder: Path) -> tuple[Path, Path]:
    """Write the words of wordfreq, or those of the package, to files for training and test."""
    if importlib.util.find_spec("wordfreq"):
        lists, (num_train, num_test) = read_lists(LANGUAGES), LARGE
    else:
        lists, (num_train, num_test) = read_small_lists(), SMALL
        print("a small demo: pip install wordfreq brings 25 times as many words")
    return write_words(folder, lists, num_train=num_train, num_test=num_test, seed=0)


def _print_table(
    accuracy: Mapping[str, float], seconds: Mapping[str, float], mode: Mapping[str, float]
) -> None:
    print(f"{'':44s} {'accuracy':>8s} {'seconds':>8s}")
    for arm, title in TITLES.items():
        print(f"{title:44s} {100 * accuracy[arm]:7.1f}% {seconds[arm]:8.0f}")
    print("\nthe whole SS-VAE by", end=" ")
    print(", ".join(f"{MODES[name]} {100 * share:.1f}%" for name, share in mode.items()))


def _print_words(trained: TrainedModel, rows: EncodedRows, words: list[Any], seed: int) -> None:
    """Print new words of each language, and test words transferred to another one."""
    names = trained.labels.names
    print("\nnew words")
    for label in names:
        new = trained.generate(label, 10, seed=seed, temperature=0.7)
        print(f"  {label}  {'  '.join(map(str, new))}")
    print("\nwords transferred to another language")
    for number in range(5):
        at = number * len(words) // 5
        own = names[int(rows.y[at])]
        to = names[(names.index(own) + 1 + number) % len(names)]
        to = to if to != own else names[(names.index(own) + 1) % len(names)]
        print(f"  {own} {words[at]}  ->  {to} {trained.transfer([words[at]], to=to)[0]}")
