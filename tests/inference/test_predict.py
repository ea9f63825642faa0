"""Tables over many rows do not depend on the batches."""

import numpy as np
import pytest
import torch

from seqssvae.errors import InputError
from seqssvae.inference import predict
from tests.support.factories import make_model
from tests.support.rows import random_rows


def test_tables_do_not_depend_on_the_batches() -> None:
    model, rows = make_model(2), random_rows([-1] * 11, 0)
    whole = predict.encode_table(model, rows)
    written = predict.transfer_rows(model, rows, to=1, max_length=5)
    labels = predict.classify_table(model, rows)
    for name, column in predict.encode_table(model, rows, batch_size=3).items():
        np.testing.assert_allclose(column, whole[name], atol=1e-12)
    np.testing.assert_allclose(whole["probabilities"], labels, atol=1e-12)
    np.testing.assert_allclose(
        predict.classify_table(model, rows, batch_size=2), labels, atol=1e-12
    )
    assert predict.transfer_rows(model, rows, to=1, max_length=5, batch_size=3) == written


def test_sequence_i_depends_on_the_seed_and_on_i_alone() -> None:
    model = make_model(2)
    few, many = (
        predict.generate(
            model, n, torch.ones(n, dtype=torch.int64), strategy="greedy", temperature=1.0,
            top_k=0, top_p=1.0, width=1, prefix=[], max_length=6, seed=4,
        )
        for n in (2, 5)
    )  # fmt: skip
    assert many[:2] == few and len(many) == 5
    with pytest.raises(InputError, match="strategy: wanted sample, greedy or beam, got best"):
        predict.generate(
            model, 1, None, strategy="best", temperature=1.0, top_k=0, top_p=1.0, width=1,
            prefix=[], max_length=6, seed=4,
        )  # fmt: skip
