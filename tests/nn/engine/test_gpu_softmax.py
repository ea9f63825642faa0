"""The softmax in Triton beside torch's in float64: on a GPU, or by Triton's interpreter."""

import pytest
import torch

from seqssvae.model.softmax import _log_softmax
from seqssvae.nn.ngram_lm import Mixture

pytest.importorskip("triton", reason="Triton is for Linux")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [5, 64, 2048, 5000])
@pytest.mark.parametrize("with_table", [False, True])
@pytest.mark.parametrize("with_mixture", [False, True])
def test_value_and_gradient_are_torchs(
    size: int, dtype: torch.dtype, with_table: bool, with_mixture: bool
) -> None:
    from seqssvae.nn.engine.gpu_softmax import log_softmax

    num_rows = 37
    logits = (3 * torch.randn(num_rows, size)).to(DEVICE, dtype)
    table = torch.randn(6, size).to(DEVICE, dtype) if with_table else None
    classes = torch.randint(6, (num_rows,), device=DEVICE) if with_table else None
    targets = torch.randint(size, (num_rows,), device=DEVICE)
    upstream, share, rest = torch.randn(3, num_rows).float().to(DEVICE)
    mixture = Mixture(share, rest - 4) if with_mixture else None
    want_gradient = logits.double()
    want = _log_softmax(
        want_gradient,
        None if table is None else table.double(),
        classes,
        targets,
        upstream.double(),
        None if mixture is None else Mixture(*(side.double() for side in mixture)),
    )
    unused = logits.clone()
    got = log_softmax(unused, table, classes, targets, None)
    torch.testing.assert_close(got.double(), want, rtol=0, atol=2e-5)
    got = log_softmax(logits, table, classes, targets, upstream, *(mixture or (None, None)))
    torch.testing.assert_close(got.double(), want, rtol=0, atol=2e-5)
    tolerance = 3e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(logits.double(), want_gradient, rtol=0, atol=tolerance)


def test_a_nan_stays_a_nan() -> None:
    from seqssvae.nn.engine.gpu_softmax import log_softmax

    logits = torch.zeros(2, 70, device=DEVICE).float()
    logits[1, 69] = torch.nan
    targets = torch.zeros(2, dtype=torch.int64, device=DEVICE)
    got = log_softmax(logits, None, None, targets, torch.ones(2, device=DEVICE).float())
    assert got.isfinite().tolist() == [True, False]
    assert logits.isfinite().all(1).tolist() == [True, False]
