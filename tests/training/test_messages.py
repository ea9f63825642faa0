"""Warnings at the end of a training, and whether their advice helps."""

import logging
import re
from typing import Any

import numpy as np
import pytest

from seqssvae.config import Config
from seqssvae.data.corpus import gather_corpus
from seqssvae.data.prepare import prepare
from seqssvae.overrides import override
from seqssvae.training.fit import train
from seqssvae.training.messages import ignored_variables
from tests.support.training import config


def test_ignored_variables_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    used, ignored = ({"mutual_information": mi, "y_gap": gap} for mi, gap in ((2, 1), (0, 0)))
    assert ignored_variables(used, Config(), num_classes=3) == []
    of_z, of_y = ignored_variables(ignored, Config(), num_classes=3)
    assert "z is ignored" in of_z and "y is ignored" in of_y
    assert ignored_variables(ignored, Config(), num_classes=1) == [of_z]
    assert ignored_variables(ignored, config(model__latent_size=0), num_classes=3) == [of_y]
    with caplog.at_level(logging.WARNING):
        warnings = end_warnings(80, **NO_NGRAMS, **NO_Y, **{"training.num_steps": 3})
    assert warnings == caplog.messages[-len(warnings) :] and "y is ignored" in caplog.text


def end_warnings(num_labels: int, *, letters: Any = ("abcd", "cdef"), **changes: Any) -> list[str]:
    """Of a training on rows of two labels, which share half of their letters."""
    random = np.random.default_rng(0)
    texts = [
        "".join(random.choice(list(letters[row % 2]), random.integers(3, 9))) for row in range(400)
    ]
    labels = ["lr"[row % 2] if row < num_labels else None for row in range(400)]
    settings = override(config(), {**ADVISED, **changes})
    rows = prepare(settings, gather_corpus(texts, labels, source="rows"))
    return train(settings, rows).warnings()


ADVISED: dict[str, Any] = {
    "data.vocabulary": "characters", "training.teacher": True, "training.num_threads": 1,
    "training.num_steps": 50, "training.evaluate_every": 50, "training.labelled_batch_size": 16,
    "training.unlabelled_batch_size": 32, "training.learning_rate": 0.01,
    "training.average_steps": 0,
    **dict.fromkeys(map("model.{}_size".format, ("embedding", "encoder", "decoder")), 12),
}  # fmt: skip
NO_NGRAMS, NO_Y = {"model.decoder_ngrams": 0}, {"model.class_bias": False, "model.feed_y": False}
IGNORED: dict[str, tuple[str, dict[str, Any]]] = {
    "n-grams do not read z": ("z", {"objective.recurrent_first": 0}),
    "no free bits": ("z", {**NO_NGRAMS, "objective.free_bits": 0}),
    "the KL is sampled": ("z", {**NO_NGRAMS, "objective.free_bits": 0, "objective.kl": "sampled"}),
    "too few steps": ("z", {**NO_NGRAMS, "training.num_steps": 20, "model.feed_z": False}),
    "y was hardly trained": (
        "y", {**NO_NGRAMS, **NO_Y, "training.learning_rate": 0.001, "training.num_steps": 20},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "changes"), IGNORED.values(), ids=list(IGNORED))
def test_the_advice_of_a_warning_helps(name: str, changes: dict[str, Any]) -> None:
    """The case is made, the settings that the warning names are set, and it is gone."""
    (warning,) = [one for one in end_warnings(80, **changes) if one.startswith(f"{name} is ign")]
    advice = dict(re.findall(r"--(\w+\.\w+) ([\w.]*\w)", warning))
    assert advice
    after = end_warnings(80, **{**changes, **advice})
    assert [one for one in after if one.startswith(f"{name} is ignored")] == []


def test_more_labels_help_where_rows_differ_little() -> None:
    """Each label has all letters, some of them twice as often as the other."""
    given: dict[str, Any] = {
        "letters": ("aaaabbcccddeeeff", "aabbbbccddddeeff"),
        "training.num_steps": 5,
    }
    (warning,) = [one for one in end_warnings(10, **given) if one.startswith("y is ignored")]
    assert "Try more labels" in warning
    assert [one for one in end_warnings(390, **given) if one.startswith("y is ignored")] == []
