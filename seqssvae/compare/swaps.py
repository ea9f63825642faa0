"""Label swaps: does y determine the class, by another classifier, and how much of x does z keep?"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqssvae import progress
from seqssvae.compare.baselines import BASELINES, Task
from seqssvae.config import Config
from seqssvae.data.corpus import Files
from seqssvae.data.encode import encode_corpus
from seqssvae.data.sources import read_corpus_like
from seqssvae.errors import InputError
from seqssvae.inference.writing.rerank import kept_share
from seqssvae.overrides import override
from seqssvae.storage.vectors import with_vectors
from seqssvae.trained import TrainedModel

JUDGE = "tfidf-lr-characters"  # shares neither weights nor vocabulary with the model


def measure_swaps(
    model: TrainedModel,
    data: Files,
    judge_data: Files,
    *,
    num_rows: int = 500,
    seed: int = 0,
) -> dict[str, Any]:
    """Rewrite rows under a wrong label, and classify them with another classifier, the judge.

    Args:
        model: A model with at least two classes.
        data: A file or `hub:NAME` with labelled rows.
        judge_data: Other labelled rows, to train the judge: logistic regression on TF-IDF of up to
            5 characters (or tokens).
        num_rows: Maximum number of labelled rows of `data` to rewrite, chosen at random.
        seed: Seed of the choice of rows and of their new labels.

    Returns:
        `num_swaps`; `swap_success`, the share of rewritten rows for which the judge predicts the
        new label; `judge_accuracy`, its accuracy on the same rows before; `swap_kept`, the mean
        `kept_share` of a row and its rewriting; and `swap_kept_by_chance`, of a row and the
        rewriting of another row.

    Raises:
        InputError: bad input, fewer than two classes, or no labelled row in either file.
    """
    names = model.labels.names
    if len(names) < 2:
        raise InputError(f"label swaps: wanted a model with at least two classes, got {len(names)}")
    sequences, y, vectors = _labelled(model, data, model.config)
    of_judge = override(model.config, {"data.vectors_column": None})
    judge_rows = _labelled(model, judge_data, of_judge)[:2]
    judge = BASELINES[JUDGE].fit(Task(*judge_rows, len(names)), seed)
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(y))[:num_rows]  # neighbours in a file may be alike
    originals, own = [sequences[row] for row in chosen], y[chosen]
    new = (own + random.integers(1, len(names), len(own))) % len(names)
    rewritten: list[Any] = [None] * len(own)
    with progress.task("rows rewritten", len(own)) as task:
        for label in np.unique(new):
            rows = np.flatnonzero(new == label)
            some: Any = [originals[row] for row in rows]
            if vectors is not None:
                some = with_vectors(some, vectors[chosen[rows]])
            texts = model.transfer(some, to=names[label])
            for row, text in zip(rows, texts, strict=True):
                rewritten[row] = text
            task.advance(len(rows))
    others = [*rewritten[1:], *rewritten[:1]]
    return {
        "num_swaps": len(own),
        "swap_success": float(np.mean(judge(rewritten).argmax(1) == new)),
        "judge_accuracy": float(np.mean(judge(originals).argmax(1) == own)),
        "swap_kept": float(np.mean(list(map(kept_share, originals, rewritten)))),
        "swap_kept_by_chance": float(np.mean(list(map(kept_share, originals, others)))),
    }


def _labelled(
    model: TrainedModel, data: Files, config: Config
) -> tuple[list[Any], NDArray[np.int64], NDArray[np.float32] | None]:
    """The sequences of a file that have one label, their classes, and their vectors, if any."""
    corpus = read_corpus_like(data, config, model.vocabulary, read_labels=True)
    length = model.config.data.max_length
    y = encode_corpus(corpus, model.vocabulary, model.labels, max_length=length).y
    known = np.flatnonzero(y >= 0)
    if not len(known):
        raise InputError(f"{corpus.source}: wanted labelled rows, got none")
    vectors = None if corpus.vectors is None else corpus.vectors[known]
    return [corpus.sequence(int(row)) for row in known], y[known], vectors
