"""Tables over many rows do not depend on the batches."""

import numpy as np

from seqssvae.inference import predict
from tests.support.factories import make_model
from tests.support.rows import random_rows


def test_tables_do_not_depend_on_the_batches() -> None:
    model, rows = make_model(2), random_rows([-1] * 11, 0)
    whole = predict.encode_table(model, rows)
    labels = predict.classify_table(model, rows)
    for name, column in predict.encode_table(model, rows, batch_size=3).items():
        np.testing.assert_allclose(column, whole[name], atol=1e-12)
    np.testing.assert_allclose(whole["probabilities"], labels, atol=1e-12)
    np.testing.assert_allclose(
        predict.classify_table(model, rows, batch_size=2), labels, atol=1e-12
    )
