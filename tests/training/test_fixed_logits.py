import dataclasses

import numpy as np
import pytest
import torch

from seqssvae.config import Config
from seqssvae.data.batches import collate
from seqssvae.model.build import build
from seqssvae.overrides import override
from seqssvae.storage.vectors import Vectors
from seqssvae.training.fixed_logits import FixedLogits
from seqssvae.training.step import Stepper
from tests.support.training import config, prepared


@pytest.mark.parametrize("has_vectors", [False, True])
def test_logits_are_those_of_the_model_and_computed_once(
    has_vectors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, settings = prepared(), config()
    if has_vectors:
        vectors = Vectors([np.random.default_rng(0).standard_normal((20, 3))])
        data = dataclasses.replace(data, unlabelled=data.unlabelled.with_vectors(vectors))
        settings = override(settings, {"model.vector_size": 3})
    model = build(settings, data).float()
    assert model.ngrams is not None
    torch.nn.init.normal_(model.ngrams.weight)
    if model.vectors is not None and model.vectors.linear is not None:
        torch.nn.init.normal_(model.vectors.linear.weight)
    assert not FixedLogits.are_possible(model, len(data.unlabelled))
    model.start_from_ngrams()
    assert FixedLogits.are_possible(model, len(data.unlabelled))
    fixed = FixedLogits(model, data.unlabelled)
    rows = np.array([3, 0, 3, 5])
    batch = collate(data.unlabelled, rows, num_classes=model.num_classes)
    with torch.no_grad():
        want = model.encode_batch(batch).ngrams
    got = fixed.of_rows(rows)
    assert want is not None and want.std() > 0.1
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(fixed, "_parts", None)
    np.testing.assert_array_equal(fixed.of_rows(np.array([5, 0])), got[[3, 1]])
    monkeypatch.setattr("seqssvae.training.fixed_logits.MAX_NUMBERS", 1)
    assert not FixedLogits.are_possible(model, len(data.unlabelled))


def test_steps_are_those_of_logits_that_the_model_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And n-grams are hashed for no row twice."""
    settings: Config = config(training__streams="both")
    losses = []
    for is_fixed in (True, False):
        if not is_fixed:
            monkeypatch.setattr(FixedLogits, "are_possible", lambda *_: False)
        data = prepared()
        model = build(settings, data)
        assert model.ngrams is not None
        torch.nn.init.normal_(model.ngrams.weight, generator=torch.Generator().manual_seed(0))
        model.start_from_ngrams()
        model.teacher_weight = 0.5
        stepper = Stepper(settings, model, data)
        losses.append([stepper.step(step)[0] for step in range(4)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
