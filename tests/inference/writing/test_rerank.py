"""Scores by hand, and what no candidate but the others is."""

import math

import numpy as np
import pytest
import torch

from seqssvae.data.batches import collate
from seqssvae.data.vocabulary import EOS
from seqssvae.inference.writing.rerank import (
    MAX_TRIES,
    Like,
    choose_best,
    guided,
    label_log_prob,
    path_log_prob,
    rows_of,
    variety,
)
from tests.support.factories import make_model, sharpen, stepwise_log_prob

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
        value / min(len(path) + 1, length) - abs(math.log((len(path) + 1) / length))
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


def test_label_probabilities_are_those_of_the_classifier() -> None:
    model, y = sharpen(make_model(3)), np.array([0, 1, 2, 0, 1, 2])
    rows = rows_of(PATHS)
    q = model(collate(rows, range(len(rows)), num_classes=3)).detach().numpy()
    np.testing.assert_allclose(label_log_prob(model, PATHS, y), np.log(q[range(6), y]), atol=1e-6)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
def test_guided_samples_have_the_product_s_shares(guidance: float) -> None:
    """p(x | y) q(y | x)^guidance / Z, from a p(x | y) of four paths."""
    model, paths = sharpen(make_model(2)), [[4], [5], [6, 4], [5, 5, 6]]
    p, num_rows, random = np.array([0.4, 0.3, 0.2, 0.1]), 20_000, np.random.default_rng(0)

    def write(rows: np.ndarray, number: int) -> list[list[int]]:
        return [paths[i] for i in random.choice(4, size=len(rows), p=p)]

    found = guided(
        model, write, np.ones(num_rows, np.int64), guidance, lambda row, number: random.random()
    )
    q = np.exp(label_log_prob(model, paths, np.ones(4, np.int64)))
    want = p * q**guidance
    never = (1 - want.sum()) ** MAX_TRIES  # a row that every try is refused of
    assert q.max() - q.min() > 0.02 and never < 1e-3
    want /= want.sum()
    got = np.array([found.count(path) for path in paths]) / num_rows
    assert (abs(got - want) < 5 * (want * (1 - want) / num_rows) ** 0.5 + never).all()


def test_a_row_that_is_never_accepted_gets_its_likeliest_try() -> None:
    model, y = sharpen(make_model(2)), np.array([1, 0])
    tries = [PATHS[number % len(PATHS)] for number in range(MAX_TRIES)]
    found = guided(model, lambda rows, number: [tries[number]] * len(rows), y, 1.0, lambda *_: 1.0)
    for row, k in enumerate(y):
        best = int(label_log_prob(model, PATHS, np.full(len(PATHS), k)).argmax())
        assert found[row] == PATHS[best]


def test_the_classifier_and_the_source_have_a_say_in_what_is_best() -> None:
    torch.manual_seed(0)
    model, z, y = sharpen(make_model(2)), torch.zeros(6, 2), torch.ones(6, dtype=torch.int64)
    likeliest = PATHS[int(label_log_prob(model, PATHS, y.numpy()).argmax())]
    assert choose_best(model, PATHS, z, y, 6, guidance=1e4) == [likeliest]
    for source in ([6, 5, 4, 4], [5]):
        like = Like.of_rows([np.array([*source, EOS], np.int32)], keep=1e4)
        assert choose_best(model, PATHS, z, y, 6, like) == [source]
    blend = torch.full((6, 2), 0.5, dtype=z.dtype)
    want = choose_best(model, PATHS, z, blend, 6)
    assert choose_best(model, PATHS, z, blend, 6, guidance=1e4) == want
