"""The SS-VAE, and its parts alone: the model of the papers (M2), and the teacher.

Each chooses on labelled dev rows, and then learns their labels too.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqssvae.config import Config
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared
from seqssvae.inference.predict import classify_table
from seqssvae.model.ssvae import SSVAE
from seqssvae.overrides import override
from seqssvae.teacher.distil import fit_prepared, vectors_of
from seqssvae.teacher.features import Sequences
from seqssvae.training.fit import train
from seqssvae.training.teach import teacher_seconds
from seqssvae.training.trainer import Mode

Probabilities = NDArray[np.float64]

M2 = {"training.teacher": False, "model.ngram_buckets": 0, "model.decoder_ngrams": 0}


def predict_by_ssvae(config: Config, prepared: Prepared, rows: EncodedRows) -> Probabilities:
    """p(y | x) of encoded rows, `[n, K]`, in the mode that `classify` takes by default.

    With `M2` among the settings it is the model of Kingma et al. (2014): recurrent encoders and
    decoder, the bound, and no n-grams.
    """
    model, default = fit_ssvae(config, prepared)
    return classify_table(model, rows, mode=default.mode, weights=default.weights)


def fit_ssvae(config: Config, prepared: Prepared) -> tuple[SSVAE, Mode]:
    """The SS-VAE as `train` trains it, with the labels of dev rows in the end.

    Where `train` does not learn these itself, the number of steps with the best score on dev rows
    is chosen, and a new model takes as many, with all labels, the same schedules, and no more
    minutes than the first; its last weights are kept.

    Args:
        config: The settings.
        prepared: The rows.

    Returns:
        The model, and how `classify` uses it by default, chosen on dev rows.
    """
    trainer = train(config, prepared)
    progress, everything = trainer.progress, prepared.with_dev_labels()
    if progress.dev_labels_learned or everything is prepared or not progress.step:
        return trainer.model, progress.default_mode
    # random weights are not a choice
    num_steps = progress.best_step or min(config.training.evaluate_every, progress.step)
    rows = dataclasses.replace(everything, dev=prepared.dev.take(prepared.dev.y < 0))
    is_over = False

    def on_evaluation(record: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        nonlocal is_over
        is_over = record["step"] == num_steps

    again = train(
        override(config, {"training.evaluate_every": num_steps}),
        rows,
        on_evaluation=on_evaluation,
        should_stop=lambda: is_over,
    )
    again.average.assign()
    return again.model, progress.default_mode


def predict_by_teacher(
    config: Config, prepared: Prepared, sequences: Sequences, rows: EncodedRows
) -> Probabilities:
    """p(y | x) of the teacher alone, fitted to the labels of train and dev and the unlabelled rows.

    The weights of its pool are chosen by cross-validation over all of these labels.

    Args:
        config: The settings.
        prepared: The rows.
        sequences: n rows to predict, texts or lists of tokens.
        rows: The same, encoded, with their vectors.

    Returns:
        `[n, K]`.
    """
    teacher, _ = fit_prepared(
        prepared.with_dev_labels(), config.training.seed, max_seconds=teacher_seconds(config)
    )
    return teacher.predict(sequences, vectors_of(rows)).astype(np.float64)
