import numpy as np
import pytest
import torch

from seqssvae.data.encoded import EncodedRows
from seqssvae.data.vocabulary import EOS
from seqssvae.inference.evaluate import evaluate
from seqssvae.inference.novelty import log_prob_per_symbol, novelty
from tests.support.factories import make_model, stepwise_log_prob
from tests.support.rows import make_rows


def random_rows(lengths: list[int]) -> EncodedRows:
    generator = np.random.default_rng(0)
    return make_rows([[*generator.integers(4, 7, length), EOS] for length in lengths])


@pytest.mark.parametrize("num_classes", [0, 3])
def test_without_z_it_is_the_exact_log_prob(num_classes: int) -> None:
    """A plain sum over y, symbol by symbol."""
    model = make_model(num_classes, latent_size=0)
    rows = random_rows([3, 0, 5])
    found = log_prob_per_symbol(model, rows)
    for number in range(3):
        symbols, z = rows.row(number).tolist(), torch.zeros(0)
        ys = range(num_classes) if num_classes else [None]
        with torch.no_grad():
            terms = [
                stepwise_log_prob(model, symbols, z, y)
                + (0.0 if y is None else model.prior_logits[y])
                for y in ys
            ]
        want = torch.stack(terms).logsumexp(0) / len(symbols)
        np.testing.assert_allclose(found[number], float(want), atol=1e-9)


def test_with_z_it_is_what_evaluate_estimates() -> None:
    model, rows = make_model(2), random_rows([4, 2, 6, 1])
    for parameter in model.head_z.parameters():  # q is the prior: few samples are enough
        torch.nn.init.zeros_(parameter)
    found = log_prob_per_symbol(model, rows, num_samples=16000) * rows.lengths
    nll = evaluate(model, rows, num_samples=16000)["nll"]
    assert found.mean() == pytest.approx(-nll, abs=0.005)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    model, rows = make_model(2), random_rows([4, 2, 6, 1])
    found = log_prob_per_symbol(model, rows, num_samples=3)
    for number in range(4):
        alone = log_prob_per_symbol(model, rows.take([number]), num_samples=3)
        np.testing.assert_allclose(alone[0], found[number], atol=1e-9)
    assert np.abs(found - log_prob_per_symbol(model, rows, num_samples=3, seed=1)).max() > 1e-6


def test_ordinary_rows_are_rarely_new() -> None:
    """For a row drawn as the held-out ones, p is at most a with probability a at most."""
    generator = np.random.default_rng(0)
    p_values = np.array(
        [1 - novelty(generator.normal(size=1), generator.normal(size=19))[0] for _ in range(4000)]
    )
    for a in (0.05, 0.25, 0.5):
        assert np.mean(p_values <= a + 1e-9) == pytest.approx(
            a, abs=4 * np.sqrt(a * (1 - a) / 4000)
        )


def test_ties_and_no_reference() -> None:
    reference = np.array([-1.0, -1.0, -2.0])
    np.testing.assert_allclose(novelty(np.array([-1.0, -1.5, -3.0]), reference), [0, 0.5, 0.75])
    assert novelty(np.array([-1.0]), np.zeros(0))[0] == 0.0
