import dataclasses

import pytest
import torch

from seqssvae.building import build
from seqssvae.config import InputError
from tests.test_training import config, prepared, rows


def test_a_prior_from_the_labelled_rows() -> None:
    data = dataclasses.replace(prepared(), labelled=rows([0, 0, 0, 1], 0))
    model = build(config(model__prior="labelled"), data)
    torch.testing.assert_close(model.prior_logits.exp(), torch.tensor([4 / 6, 2 / 6]))


def test_with_one_labelled_class_there_is_no_teacher() -> None:
    data = dataclasses.replace(prepared(), labelled=rows([1, 1], 0))
    model = build(config(training__teacher=True), data)
    assert model.ngrams is not None and model.ngrams.weight.requires_grad


@pytest.mark.parametrize("prior", [(0.5, 0.3, 0.2), (1.0, 0.0)])
def test_a_prior_that_does_not_fit_is_refused(prior: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="model.prior: wanted 2 numbers above 0"):
        build(config(model__prior=prior), prepared())


def test_a_given_prior_is_normalised() -> None:
    model = build(config(model__prior=(3.0, 1.0)), prepared())
    torch.testing.assert_close(model.prior_logits.exp(), torch.tensor([0.75, 0.25]))
