import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from seqssvae.config import Config
from seqssvae.data.prepare import prepare
from seqssvae.errors import InputError
from seqssvae.model.build import build, build_model
from seqssvae.overrides import override
from tests.support.rows import random_rows
from tests.support.training import config, prepared

SIZE = {"model.latent_size": 3}


@pytest.mark.parametrize(
    "settings",
    [{"model.latent_size": 3}, {"model": {"latent_size": 3}}, config(model__latent_size=3)],
)
def test_a_mapping_of_settings_will_do(settings: Any) -> None:
    model = build_model(settings, vocabulary_size=7, num_classes=2)
    assert (model.latent_size, model.num_classes) == (3, 2)
    with pytest.raises(InputError, match="latent_sise, did you mean model.latent_size"):
        build_model({"model.latent_sise": 3}, vocabulary_size=7, num_classes=2)


@pytest.mark.parametrize("prior", ["labelled", "learned"])  # at first
def test_a_prior_from_the_labelled_rows(prior: str) -> None:
    data = dataclasses.replace(prepared(), labelled=random_rows([0, 0, 0, 1], 0))
    model = build(config(model__prior=prior), data)
    torch.testing.assert_close(model.prior_logits.exp(), torch.tensor([4 / 6, 2 / 6]))


@pytest.mark.parametrize("prior", [(0.5, 0.3, 0.2), (1.0, 0.0)])
def test_a_prior_that_does_not_fit_is_refused(prior: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="model.prior: wanted 2 numbers above 0"):
        build(config(model__prior=prior), prepared())


def test_a_given_prior_is_normalised() -> None:
    model = build(config(model__prior=(3.0, 1.0)), prepared())
    torch.testing.assert_close(model.prior_logits.exp(), torch.tensor([0.75, 0.25]))


@pytest.mark.parametrize(
    ("words", "expected"), [(["the", "oil", "of", "rice"], True), (["rice"], False)]
)
def test_words_are_read_where_rows_have_several(
    tmp_path: Path, words: list[str], expected: bool
) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"text": " ".join(words), "label": label}) for label in "abab"]
    path.write_text("\n".join(lines), encoding="utf-8")
    settings = {"data.dev_fraction": 0.0, "training.teacher": False}
    data = prepare(override(Config(), settings), path)
    model = build(override(Config(), settings), data)
    assert model.ngrams is not None and model.ngrams.words is not None
    assert len(model.ngrams.words) == len(data.vocabulary)
    assert bool(model.ngrams.words.any()) is expected
    without = build(override(Config(), {**settings, "model.ngram_words": False}), data)
    assert without.ngrams is not None and without.ngrams.words is None
