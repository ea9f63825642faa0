import pytest
import torch

from seqssvae.model.softmax import Softmax
from tests.support.gradients import assert_same_gradients


@pytest.mark.parametrize("kind", ["no table", "classes", "relaxed"])
@pytest.mark.parametrize("chunk_elements", [7 * 64, 2**20])
def test_value_and_gradient_are_torchs(kind: str, chunk_elements: int) -> None:
    """Both ways, of 200 positions of 5 rows, in several chunks and in one."""
    num_positions, row = 200, torch.randint(5, (200,))
    hidden, weight, bias, table = (
        torch.randn(shape, requires_grad=True) for shape in ((200, 3), (7, 3), (7,), (4, 7))
    )
    relaxed = torch.rand(5, 4, requires_grad=True)
    classes = torch.randint(4, (5,))
    targets, weights = torch.randint(7, (200,)), torch.randn(200, requires_grad=True)
    y = {"no table": None, "classes": classes, "relaxed": relaxed}[kind]
    softmax = Softmax(
        weight, bias, None if y is None else table, y, row, targets, chunk_elements=chunk_elements
    )
    logits = hidden @ weight.t() + bias
    if kind != "no table":
        logits = logits + (table[classes] if kind == "classes" else relaxed @ table)[row]
    want = logits.log_softmax(-1)[torch.arange(num_positions), targets]
    inputs = [hidden, weight, bias, weights]
    inputs += [] if y is None else [table]
    inputs += [relaxed] if kind == "relaxed" else []
    plain = softmax.log_prob(hidden)
    total, log_prob = softmax.weighted_log_prob(hidden, weights)
    for got in (plain, log_prob):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    for value in ((weights * plain).sum(), total):
        torch.testing.assert_close(value, (weights * want).sum(), rtol=0, atol=1e-10)
        assert_same_gradients(value, (weights * want).sum(), inputs)


def test_no_positions() -> None:
    hidden, weight = torch.zeros(0, 3, requires_grad=True), torch.randn(7, 3, requires_grad=True)
    none = torch.zeros(0, dtype=torch.long)
    softmax = Softmax(weight, torch.zeros(7), None, None, none, none)
    total, log_prob = softmax.weighted_log_prob(hidden, torch.zeros(0))
    assert total == 0 and log_prob.shape == (0,)
    (gradient,) = torch.autograd.grad(total + softmax.log_prob(hidden).sum(), [weight])
    assert not gradient.any()


@pytest.mark.parametrize(
    ("target", "y", "name"), [(7, 0, "targets"), (-1, 0, "targets"), (0, 4, "y")]
)
def test_ids_out_of_range_are_refused(target: int, y: int, name: str) -> None:
    weight, bias, table = torch.randn(7, 3), torch.randn(7), torch.randn(4, 7)
    row = torch.tensor([0])
    with pytest.raises(ValueError, match=f"{name}: wanted 0 to "):
        Softmax(weight, bias, table, torch.tensor([y]), row, torch.tensor([target]))
