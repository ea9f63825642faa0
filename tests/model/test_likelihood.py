import itertools

import pytest
import torch
from torch import Tensor

from seqssvae.data.vocabulary import BOS, EOS, NUM_SPECIAL, PAD, UNK
from seqssvae.model.likelihood import ExpandedBatch, Pairs, SequenceLikelihood
from seqssvae.model.ssvae import SSVAE
from tests.support.factories import DECODERS, make_batch, make_model, stepwise_log_prob
from tests.support.gradients import assert_same_gradients


def _pairs(
    model: SSVAE, num_rows: int, num_examples: int, *, relaxed: bool
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Random example, z and y for each decoder row, and what has a gradient."""
    example = torch.randint(num_examples, (num_rows,))
    z = torch.randn(num_rows, model.latent_size, requires_grad=True)
    inputs = [z, *model.decoder.parameters()]
    if not relaxed:
        return example, z, torch.randint(model.num_classes, (num_rows,)), inputs
    y = torch.randn(num_rows, model.num_classes).softmax(-1).requires_grad_()
    return example, z, y, [*inputs, y]


@pytest.mark.parametrize("kind", DECODERS)
def test_all_sequences_and_the_unfinished_mass_sum_to_one(kind: str) -> None:
    """Over every sequence of at most 3 symbols; UNK is a symbol as any, PAD and BOS are not."""
    model = make_model(2, vocabulary_size=6, **DECODERS[kind])
    symbols = [UNK, *range(NUM_SPECIAL, 6)]
    rows = [
        [*inner, EOS] for length in range(3) for inner in itertools.product(symbols, repeat=length)
    ]
    unfinished = [list(inner) for inner in itertools.product(symbols, repeat=3)]
    everything = rows + unfinished  # an unfinished one is cut, with no EOS
    x = torch.full((len(everything), 3), PAD)
    for index, row in enumerate(everything):
        x[index, : len(row)] = torch.tensor(row)
    lengths = torch.tensor([len(row) for row in everything])
    z = torch.randn(2, 1, model.latent_size).expand(2, len(everything), model.latent_size)
    y = torch.tensor([[0], [1]])
    log_prob = SequenceLikelihood(model.decoder, z, y, lengths).log_prob(x)
    torch.testing.assert_close(log_prob.exp().sum(-1), torch.ones(2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.parametrize("kind", DECODERS)
def test_values_and_gradients_equal_the_decoder_step_by_step(kind: str, relaxed: bool) -> None:
    """`Decoder.step` knows no padding, no other rows and no later symbols."""
    model = make_model(3, **DECODERS[kind])
    batch = make_batch([0, 0, 0, 0])
    example, z, y, inputs = _pairs(model, 9, 4, relaxed=relaxed)
    got = ExpandedBatch(model.decoder, batch.x, batch.lengths, example, z, y).log_prob()
    steps = [
        stepwise_log_prob(model, batch.x[b, : int(batch.lengths[b])].tolist(), z[row], y[row])
        for row, b in enumerate(example.tolist())
    ]
    torch.testing.assert_close(got, torch.stack(steps), rtol=0, atol=1e-12)
    assert_same_gradients(got.sum(), torch.stack(steps).sum(), inputs)


@pytest.mark.parametrize("kind", DECODERS)
def test_symbols_have_the_log_probabilities_of_single_steps(kind: str) -> None:
    model, batch = make_model(3, **DECODERS[kind]), make_batch([0, 0, 0, 0], extra_padding=1)
    z, y = torch.randn(2, 4, model.latent_size), torch.randint(3, (2, 4))
    distribution = SequenceLikelihood(model.decoder, z, y, batch.lengths)
    got = distribution.symbol_log_prob(batch.x)
    assert got.shape == (2, *batch.x.shape)
    for particle, row in itertools.product(range(2), range(4)):
        symbols = batch.x[row, : int(batch.lengths[row])].tolist()
        for time in range(batch.x.shape[1]):
            before, after = (
                stepwise_log_prob(model, symbols[:end], z[particle, row], y[particle, row])
                for end in (time, time + 1)
            )
            torch.testing.assert_close(got[particle, row, time], after - before)


@pytest.mark.parametrize("chunk_elements", [7 * 64, 2**21])
@pytest.mark.parametrize("relaxed", [False, True])
def test_weighted_sum_and_its_gradient_equal_autograd(relaxed: bool, chunk_elements: int) -> None:
    """Against the unfused path, which is compared with plain autograd above; one chunk and more."""
    model = make_model(3)
    batch = make_batch([0] * 40, max_length=6)
    example, z, y, inputs = _pairs(model, 120, 40, relaxed=relaxed)
    weights = torch.randn(120, requires_grad=True)
    arguments = (model.decoder, batch.x, batch.lengths, example, z, y)
    fused, plain = (ExpandedBatch(*arguments, chunk_elements=chunk_elements) for _ in range(2))
    total, rows = fused.weighted_log_prob(weights)
    reference = plain.log_prob()
    want = (weights * reference).sum()
    torch.testing.assert_close(total, want, rtol=0, atol=1e-9)
    torch.testing.assert_close(rows, reference.detach(), rtol=0, atol=1e-9)
    assert_same_gradients(3 * total, 3 * want, [*inputs, weights], atol=1e-9)


@pytest.mark.parametrize("relaxed", [False, True])
def test_threads_change_nothing(relaxed: bool) -> None:
    """One thread and three, which share chunks of the softmax and blocks of the loop."""
    model = make_model(3, vocabulary_size=80, decoder_size=96)
    batch = make_batch([0] * 70, max_length=12)
    assert 3 * int(batch.lengths.sum()) * 80 * 96 > 2**22  # fewer products need one thread
    example, z, y, inputs = _pairs(model, 210, 70, relaxed=relaxed)
    weights = torch.randn(210)
    arguments, results = (model.decoder, batch.x, batch.lengths, example, z, y), []
    before = torch.get_num_threads()
    try:
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            expanded = ExpandedBatch(*arguments, chunk_elements=2**15)
            total, rows = expanded.weighted_log_prob(weights)
            plain = expanded.log_prob()
            loss = total + (weights * plain).sum()
            results.append((total, rows, plain, *torch.autograd.grad(loss, inputs)))
    finally:
        torch.set_num_threads(before)
    for one, three in zip(*results, strict=True):
        torch.testing.assert_close(one, three, rtol=0, atol=1e-10)
    assert any(not torch.equal(*pair) for pair in zip(*results, strict=True)), "nothing was shared"


def test_leading_dims_equal_a_loop() -> None:
    """Particles and labels in front, B = K, each broadcast in its own way."""
    model = make_model(3)
    batch = make_batch([0, 0, 0])
    z = torch.randn(4, 1, 3, 2)  # [S, 1, B, Z]
    y = torch.arange(3).reshape(3, 1)  # [K, 1]
    got = model.log_likelihood(batch.x, batch.lengths, z, y)
    assert got.shape == (4, 3, 3)
    for s, k, b in itertools.product(range(4), range(3), range(3)):
        symbols = batch.x[b, : int(batch.lengths[b])].tolist()
        want = stepwise_log_prob(model, symbols, z[s, 0, b], k)
        torch.testing.assert_close(got[s, k, b], want, rtol=0, atol=1e-12)


def test_pairs_are_selected_in_the_order_of_particles_and_examples() -> None:
    mask = torch.rand(3, 4, 2) < 0.5
    label, weight = torch.randint(5, (3, 4, 2)), torch.randn(3, 4, 2)
    pairs, row = Pairs.select(mask, label, weight), 0
    value = torch.randn(3, 4, 6)
    gathered = pairs.gather(value)
    assert pairs.label is not None
    for s, b, slot in itertools.product(range(3), range(4), range(2)):
        if not mask[s, b, slot]:
            continue
        assert (int(pairs.particle[row]), int(pairs.example[row])) == (s, b)
        assert pairs.label[row] == label[s, b, slot] and pairs.weight[row] == weight[s, b, slot]
        torch.testing.assert_close(gathered[row], value[s, b], rtol=0, atol=0)
        row += 1
    assert row == len(pairs.weight) > 0


def test_expand_keeps_the_values() -> None:
    model = make_model(3)
    batch = make_batch([0, 0])
    plain = model.likelihood(batch.lengths, torch.randn(2, 2), torch.tensor([0, 1]))
    expanded = plain.expand(torch.Size([5, 2]))
    want = plain.log_prob(batch.x).expand(5, 2)
    torch.testing.assert_close(expanded.log_prob(batch.x), want)


def test_more_padding_changes_nothing() -> None:
    model = make_model(3)
    batch = make_batch([0, 0, 0], extra_padding=4)
    z, y = torch.randn(3, 2), torch.tensor([0, 1, 2])
    padded = model.log_likelihood(batch.x, batch.lengths, z, y)
    garbage = batch.x.masked_fill(batch.x == PAD, NUM_SPECIAL)
    plain = model.log_likelihood(batch.x[:, :5], batch.lengths, z, y)
    torch.testing.assert_close(padded, plain, rtol=0, atol=1e-12)
    other = model.log_likelihood(garbage, batch.lengths, z, y)
    torch.testing.assert_close(other, plain, rtol=0, atol=1e-12)


def test_an_empty_row_has_log_probability_zero() -> None:
    model = make_model(2)
    x = torch.tensor([[4, EOS], [PAD, PAD]])
    got = model.log_likelihood(x, torch.tensor([2, 0]), torch.randn(2, 2), torch.tensor([0, 1]))
    assert got[1] == 0 and got[0] < 0


def test_word_dropout_and_dropout_are_off_in_evaluation() -> None:
    model = make_model(2, word_dropout=0.9, dropout=0.5)
    batch = make_batch([0, 1])
    z, y = torch.randn(2, 2), torch.tensor([0, 1])
    first = model.log_likelihood(batch.x, batch.lengths, z, y)
    torch.testing.assert_close(first, model.log_likelihood(batch.x, batch.lengths, z, y))
    model.train()
    assert (model.log_likelihood(batch.x, batch.lengths, z, y) - first).abs().max() > 1e-6


def test_samples_come_as_often_as_log_prob_says() -> None:
    """Every sequence of at most 2 symbols, for two labels; a cut one has no EOS."""
    model = make_model(2, vocabulary_size=6, decoder_ngrams=0)
    with torch.no_grad():
        model.decoder.output.bias[[PAD, UNK, BOS]] = -1e9  # these are never drawn
    z, y = torch.randn(2, 2), torch.tensor([0, 1])
    every = [[EOS, PAD], *([a, b] for a in (4, 5) for b in (EOS, 4, 5))]
    num_draws = 4000
    drawn = SequenceLikelihood(model.decoder, z, y, torch.tensor([2, 2])).sample((num_draws,))
    assert drawn.shape == (num_draws, 2, 2)
    total = torch.zeros(2)
    for sequence in every:
        x = torch.tensor([sequence, sequence])
        lengths = torch.full((2,), 2 - sequence.count(PAD))
        probability = SequenceLikelihood(model.decoder, z, y, lengths).log_prob(x).detach().exp()
        share = (drawn == x).all(-1).double().mean(0)
        assert ((share - probability).abs() < 4 * (probability / num_draws).sqrt()).all()
        total += probability
    torch.testing.assert_close(total, torch.ones(2))
