import numpy as np
import pytest
from scipy.sparse import csr_matrix

from seqssvae.teacher.sparse import Product, sum_rows
from tests.support.counts import make_counts


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("is_dense", [False, True])
def test_a_product_is_numpys_in_the_dtype_of_the_features(dtype: type, is_dense: bool) -> None:
    features = make_counts().astype(dtype)
    for num_columns in (1, 3, 40):
        table = np.random.default_rng(0).normal(size=(8, num_columns))
        result = Product(features.toarray() if is_dense else features)(table)
        assert result.dtype == dtype
        np.testing.assert_allclose(result, features.toarray() @ table, rtol=1e-5, atol=1e-5)


def test_a_product_takes_tables_in_any_order_and_features_without_entries() -> None:
    features, table = make_counts().astype(np.float64), np.arange(24.0).reshape(3, 8)
    np.testing.assert_allclose(Product(features)(table.T), features.toarray() @ table.T)
    assert Product(csr_matrix((2, 3)))(np.ones((3, 4))).tolist() == [[0.0] * 4] * 2
    assert Product(csr_matrix((0, 3)))(np.ones((3, 4))).shape == (0, 4)


def test_sums_of_rows_are_those_of_a_plain_loop() -> None:
    table, columns = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([2, 0, 1, 2])
    ends = np.array([0, 2, 2, 4])
    assert sum_rows(table, columns, ends).tolist() == [[4, 6], [0, 0], [6, 8]]
    factors = np.array([1, 10, 2, 0], np.float32)
    assert sum_rows(table, columns, ends, factors).tolist() == [[4, 15], [0, 0], [4, 6]]
