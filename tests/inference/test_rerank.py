"""Scores by hand, and what no candidate but the others is."""

import math

import numpy as np
import pytest
import torch

from seqssvae.data.vocabulary import EOS
from seqssvae.inference.rerank import Like, choose_best, path_log_prob, variety
from tests.support.factories import make_model, stepwise_log_prob

PATHS = [[4, 5], [5], [], [6, 6, 6, 6, 6, 6], [4, 5, 6], [6, 5, 4, 4]]


def test_likelihoods_are_those_of_the_path_and_its_end() -> None:
    model, z, y = make_model(2), torch.randn(6, 2), torch.tensor([0, 1, 0, 1, 0, 1])
    found = path_log_prob(model, PATHS, z, y)
    for row, path in enumerate(PATHS):
        want = stepwise_log_prob(model, [*path, EOS], z[row], int(y[row]))
        assert found[row] == pytest.approx(float(want.detach()), abs=1e-10)
    weights = torch.nn.functional.one_hot(y, 2).to(z)
    np.testing.assert_allclose(path_log_prob(model, PATHS, z, weights), found, atol=1e-10)


@pytest.mark.parametrize("length", [2, 4, 5])
def test_the_best_has_the_highest_score(length: int) -> None:
    torch.manual_seed(0)
    model = make_model(2)
    z, y = torch.randn(1, 2).expand(6, 2), torch.ones(6, dtype=torch.int64)
    like = Like(np.array([float(length)]), np.array([0.0]), ())
    log_prob = path_log_prob(model, PATHS, z, y)
    scores = [
        value / (len(path) + 1) - abs(math.log((len(path) + 1) / length))
        for path, value in zip(PATHS, log_prob, strict=True)
    ]
    best = PATHS[int(np.argmax(scores))]
    assert choose_best(model, PATHS, z, y, 6, like) == [best]


def test_a_loop_is_taken_only_where_all_are_loops() -> None:
    model = make_model(2)
    with torch.no_grad():
        model.decoder.output.bias[6] += 9  # a loop is likeliest by far
    loops, z, y = [[6] * 6, [6] * 5], torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    like = Like.of_rows([np.array([4, 5, 4, 6, 5, 5, EOS], np.int32)])
    assert choose_best(model, [*loops, [4, 5, 5, 6, 4, 4]], z, y, 3, like) == [[4, 5, 5, 6, 4, 4]]
    assert choose_best(model, loops, z[:2], y[:2], 2, like)[0] in loops
    # without a wish, what is usual among the candidates is wanted
    usual = [[4, 5, 6, 5, 5, 4], [5, 4, 4, 6, 6, 5]]
    assert choose_best(model, [loops[0], *usual], z, y, 3)[0] in usual


def test_the_variety_of_short_sequences() -> None:
    assert [variety(path) for path in ([], [4], [4, 4], [4, 4, 4])] == [1.0, 1.0, 1.0, 0.5]


def test_rows_that_should_differ() -> None:
    model, z = make_model(2), torch.zeros(4, 2)
    like = Like.of_rows([np.array([4, 5, EOS], np.int32)]).line(2)
    y = torch.zeros(4, dtype=torch.int64)
    first, second = choose_best(model, [[4, 5], [5, 4]] * 2, z, y, 2, like)
    assert sorted([first, second]) == [[4, 5], [5, 4]]
    assert choose_best(model, [[4, 5]] * 4, z, y, 2, like) == [[4, 5]] * 2
