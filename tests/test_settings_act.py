"""Settings change what `classify` says, also of a model that starts from a teacher."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seqssvae.data.prepare import Prepared
from seqssvae.inference.predict import classify_table
from seqssvae.nn.ngram_logits import NGramLogits
from seqssvae.training.fit import train
from tests.support.rows import random_rows
from tests.support.training import config, prepared

CHANGES: dict[str, Any] = {
    "objective__w": 2.0,
    "objective__alpha": 9.0,
    "objective__teacher_weight": 0.0,
    "training__balanced": True,
    "training__average_steps": 9,
    "training__early_stopping": "elbo",
    "model__cell": "gru",
    "model__prior": "labelled",
    "model__z_prior": "by-class",
    "model__decoder_ngrams": 0,
    "model__shared_encoder": True,
    "estimator__name": "score-function",
}


@pytest.fixture(autouse=True)
def _random_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    def distil(ngrams: NGramLogits, data: Prepared, seed: int, **_: object) -> None:
        torch.nn.init.normal_(ngrams.weight, generator=torch.Generator().manual_seed(0))

    monkeypatch.setattr("seqssvae.training.teach.distil", distil)


def answers(mode: str, **changes: Any) -> NDArray[np.float64]:
    """What a small model says of 20 rows; three of four labels are of one class."""
    data = dataclasses.replace(prepared(), labelled=random_rows([0, 0, 1, 0], 0))
    settings = {
        "training__teacher": True, "training__num_steps": 12, "training__learning_rate": 0.1,
        "training__average_steps": 0,
    } | changes  # fmt: skip
    model = train(config(**settings), data).model
    return classify_table(model, data.unlabelled, mode=mode, weights=(1.0, 0.5))


@pytest.mark.parametrize("setting", CHANGES)
@pytest.mark.parametrize("mode", ["q", "mix"])
def test_a_setting_changes_what_is_said(setting: str, mode: str) -> None:
    """By more than rounding; the same settings say the same."""
    torch.set_default_dtype(torch.float32)
    plain = answers(mode)
    assert np.array_equal(plain, answers(mode))
    assert np.abs(answers(mode, **{setting: CHANGES[setting]}) - plain).max() > 1e-3
