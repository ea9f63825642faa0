import pytest
import torch

from seqssvae.model.softmax import Softmax
from seqssvae.nn.engine import kernels_for
from seqssvae.nn.ngram_lm import Mixture
from tests.support.compiler import needs_compiler
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


@pytest.mark.parametrize("kind", [pytest.param("C", marks=needs_compiler), "torch", "float64"])
@pytest.mark.parametrize("chunk_elements", [7 * 64, 2**20])
def test_the_gradient_of_a_mixture_is_autograds(
    kind: str, chunk_elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of both sides too, where one of them is far above the other; by kernels and without them."""
    if kind == "torch":
        monkeypatch.setattr("seqssvae.model.softmax.kernels_for", lambda *_: None)
    dtype, atol = (torch.float64, 1e-10) if kind == "float64" else (torch.float32, 2e-4)
    shapes = ((200, 3), (7, 3), (7,), (4, 7), (200,), (200,), (200,))
    hidden, weight, bias, table, weights, log_share, log_rest = inputs = [
        torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes
    ]
    assert kind != "C" or kernels_for(hidden, weight) is not None
    with torch.no_grad():
        log_share[:10], log_rest[10:20], log_share[20:30] = -80.0, -80.0, -1e4
    classes, targets = torch.randint(4, (5,)), torch.randint(7, (200,))
    row = torch.randint(5, (200,))
    softmax = Softmax(weight, bias, table, classes, row, targets, chunk_elements=chunk_elements)
    logits = hidden @ weight.t() + bias + table[classes][row]
    plain = logits.log_softmax(-1)[torch.arange(200), targets]
    want = torch.logaddexp(log_share + plain, log_rest)
    total, log_prob = softmax.weighted_log_prob(hidden, weights, Mixture(log_share, log_rest))
    torch.testing.assert_close(log_prob, want, rtol=0, atol=atol)
    torch.testing.assert_close(total, (weights * want).sum(), rtol=1e-5, atol=atol)
    assert_same_gradients(3 * total, 3 * (weights * want).sum(), inputs, atol=atol)
    unmixed = softmax.weighted_log_prob(hidden, weights)[1]
    assert (log_prob - unmixed).abs().max() > 1 and not torch.equal(unmixed[:10], log_prob[:10])


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
