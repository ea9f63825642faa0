import pytest
import torch

from seqssvae.nn.precision import Precision, autocast, products


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_products_are_as_before_afterwards(precision: Precision) -> None:
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.rnn)
    before = [getattr(backend, "fp32_precision") for backend in backends]  # noqa: B009
    with pytest.raises(RuntimeError), products(precision):
        within = {getattr(backend, "fp32_precision") for backend in backends}  # noqa: B009
        assert within == {"ieee" if precision == "float32" else "tf32"}
        raise RuntimeError
    assert [getattr(backend, "fp32_precision") for backend in backends] == before  # noqa: B009


def test_autocast_is_for_bfloat16_alone() -> None:
    a, device = torch.eye(2).float(), torch.device("cpu")
    for precision, dtype in (("tf32", torch.float32), ("bfloat16", torch.bfloat16)):
        with autocast(precision, device):  # type: ignore[arg-type]
            assert (a @ a).dtype == dtype
