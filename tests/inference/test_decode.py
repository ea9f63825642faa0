import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqssvae.data.vocabulary import BOS, EOS, NUM_SPECIAL, PAD, UNK
from seqssvae.errors import InputError
from seqssvae.inference.decode import beam, draw, greedy, sample
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.precision import evaluation_mode
from tests.support.factories import DECODERS, make_model, sharpen, stepwise_log_prob


def _sharp_model(num_classes: int, **changes: Any) -> SSVAE:
    """A model whose likeliest paths are not the shortest ones, some with EOS and some without."""
    model = sharpen(make_model(num_classes, **changes))
    with torch.no_grad():
        model.decoder.output.bias[EOS] -= 2
        if model.decoder.ngrams is not None:
            model.decoder.ngrams.gate.bias[0] += 2  # n-grams alone would end soon
    return model


def _log_prob(model: SSVAE, path: list[int], z: Tensor, y: Tensor | None, row: int) -> float:
    """log p(path | y, z) in nats, symbol by symbol."""
    label = None if y is None else int(y[row])
    return float(stepwise_log_prob(model, path, z[row], label).detach())


def _rows(model: SSVAE, num_rows: int) -> tuple[Tensor, Tensor | None]:
    """A z and a y for each row."""
    y = torch.randint(model.num_classes, (num_rows,)) if model.num_classes else None
    return torch.randn(num_rows, model.latent_size), y


def _all_paths(model: SSVAE, max_length: int, prefix: tuple[int, ...] = ()) -> list[list[int]]:
    """Every path that may be written: with EOS, or cut at `max_length`."""
    symbols = range(NUM_SPECIAL, model.vocabulary_size)
    free = max_length - len(prefix)
    finished = [
        [*prefix, *inner, EOS]
        for length in range(free)
        for inner in itertools.product(symbols, repeat=length)
    ]
    return finished + [[*prefix, *inner] for inner in itertools.product(symbols, repeat=free)]


def _without_eos(path: list[int]) -> list[int]:
    return path[:-1] if path and path[-1] == EOS else path


@pytest.mark.parametrize("prefix", [(), (5,), (4, 6)])
@pytest.mark.parametrize("kind", DECODERS)
def test_a_beam_of_full_width_finds_the_best_of_all_paths(
    kind: str, prefix: tuple[int, ...]
) -> None:
    model = _sharp_model(2, **DECODERS[kind])
    z, y = _rows(model, 6)
    found = beam(model.decoder, z, y, max_length=4, width=500, prefix=prefix)
    for row in range(6):
        scores = {
            tuple(path): _log_prob(model, path, z, y, row) for path in _all_paths(model, 4, prefix)
        }
        best = max(scores, key=lambda path: scores[path])
        assert found.sequences[row] == _without_eos(list(best))
        assert bool(found.finished[row]) == (best[-1] == EOS)
        assert float(found.log_prob[row]) == pytest.approx(scores[best], abs=1e-10)


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_score_is_the_log_probability_of_its_path(width: int, num_classes: int) -> None:
    """Of finished paths and of paths that were cut."""
    model = _sharp_model(num_classes)
    z, y = _rows(model, 60)
    z = 5 * z
    found = beam(model.decoder, z, y, max_length=6, width=width)
    assert 0 < int(found.finished.sum()) < 60
    assert len({tuple(path) for path in found.sequences}) > 2
    for row, path in enumerate(found.sequences):
        ended = [*path, EOS] if found.finished[row] else path
        assert len(ended) <= 6 and (found.finished[row] or len(ended) == 6)
        want = _log_prob(model, ended, z, y, row)
        assert float(found.log_prob[row]) == pytest.approx(want, abs=1e-10)


def test_a_beam_of_width_one_is_greedy() -> None:
    model = _sharp_model(3, vocabulary_size=6)
    z, y = _rows(model, 40)
    narrow = beam(model.decoder, z, y, max_length=6, width=1)
    assert narrow.sequences == greedy(model.decoder, z, y, max_length=6)


def test_beams_do_not_depend_on_their_neighbours() -> None:
    model = _sharp_model(3)
    z, y = _rows(model, 12)
    together = beam(model.decoder, z, y, max_length=6, width=4)
    apart = beam(model.decoder, z, y, max_length=6, width=4, num_rows=8)  # two rows at once
    assert together.sequences == apart.sequences
    torch.testing.assert_close(together.log_prob, apart.log_prob, rtol=0, atol=1e-12)


def test_greedy_takes_the_likeliest_symbol_that_is_allowed() -> None:
    model = _sharp_model(3)
    z, y = _rows(model, 20)
    for row, path in enumerate(greedy(model.decoder, z, y, max_length=5, prefix=[5])):
        assert path[0] == 5
        for length in range(1, 5):
            choices = [EOS, *range(NUM_SPECIAL, 7)]
            scores = [_log_prob(model, [*path[:length], symbol], z, y, row) for symbol in choices]
            best = choices[scores.index(max(scores))]
            assert path[length : length + 1] == ([] if best == EOS else [best])
            if best == EOS:
                break


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_sampled_frequencies_equal_the_exact_probabilities(temperature: float) -> None:
    """Each path's share within 5 standard errors of its product of tempered probabilities."""
    model, num_rows = make_model(2, vocabulary_size=6), 20000
    z, y = torch.randn(1, 2), torch.tensor([1])
    found = sample(
        model.decoder,
        z.expand(num_rows, 2),
        y.expand(num_rows),
        max_length=3,
        temperature=temperature,
        generator=torch.Generator().manual_seed(1),
    )
    counts: dict[tuple[int, ...], int] = {}
    for path in found:
        counts[tuple(path)] = counts.get(tuple(path), 0) + 1
    total = 0.0
    for path in _all_paths(model, 3):
        probability, state = 1.0, model.decoder.start(z, y)
        for before, symbol in zip([BOS, *path], path, strict=False):
            logits, state = model.decoder.step(torch.tensor([before]), state)
            logits = logits.index_fill(1, torch.tensor([PAD, BOS, UNK]), -torch.inf)
            probability *= float((logits.detach() / temperature).softmax(-1)[0, symbol])
        total += probability
        share = counts.get(tuple(_without_eos(path)), 0) / num_rows
        error = (probability * (1 - probability) / num_rows) ** 0.5
        assert abs(share - probability) < 5 * error + 1e-9, path
    assert total == pytest.approx(1)


def test_the_seed_decides_and_the_neighbours_do_not() -> None:
    """Nor does the number of rows, nor how many run at once."""
    model = make_model(3)
    z, y = _rows(model, 12)
    assert y is not None

    def run(number: int, seed: int, num_rows: int = 1024) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return sample(
            model.decoder, z[:number], y[:number], max_length=150, generator=generator,
            num_rows=num_rows,
        )  # fmt: skip

    paths = run(12, 7)
    assert paths == run(12, 7)
    assert paths != run(12, 8)
    assert paths[:5] == run(5, 7)
    assert len({tuple(path) for path in paths}) > 6
    assert paths == run(12, 7, num_rows=4)


def test_a_long_row_draws_new_numbers() -> None:
    """Two pieces of NOISE_STEPS symbols of one path are not the same."""
    model = make_model(0, vocabulary_size=9, latent_size=0, decoder_size=1, decoder_ngrams=0)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.zero_()  # uniform over the symbols, whatever came before
        model.decoder.output.bias[EOS] = -1e8
    (path,) = sample(model.decoder, torch.zeros(1, 0), None, max_length=192)
    assert len(path) == 192
    assert len({tuple(path[start : start + 64]) for start in (0, 64, 128)}) == 3


@pytest.mark.parametrize(
    "options", [{}, {"top_k": 3}, {"top_p": 0.9}, {"temperature": 50.0}, {"temperature": 1e-308}]
)
def test_pad_bos_and_unk_are_never_decoded(options: dict[str, Any]) -> None:
    """Even where UNK is all but certain."""
    model = make_model(2)
    with torch.no_grad():
        model.decoder.output.bias[UNK] = 30.0
    z, y = _rows(model, 50)
    found = sample(model.decoder, z, y, max_length=8, **options)
    found += greedy(model.decoder, z, y, max_length=8)
    found += beam(model.decoder, z, y, max_length=8, width=4).sequences
    symbols = set(itertools.chain.from_iterable(found))
    assert symbols and symbols <= set(range(NUM_SPECIAL, 7))


def test_top_k_of_one_and_a_low_temperature_are_greedy() -> None:
    model = make_model(3)
    z, y = _rows(model, 20)
    want = greedy(model.decoder, z, y, max_length=6)
    assert sample(model.decoder, z, y, max_length=6, top_k=1) == want
    assert sample(model.decoder, z, y, max_length=6, top_p=1e-9) == want
    assert sample(model.decoder, z, y, max_length=6, temperature=1e-9) == want
    assert sample(model.decoder, z, y, max_length=6) != want


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_k": 2}, [0, 0.4, 0, 0.3]),
        ({"top_k": 99}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_p": 0.65}, [0, 0.4, 0, 0.3]),
        ({"top_p": 0.75}, [0, 0.4, 0.2, 0.3]),
        ({"top_p": 0.55, "top_k": 2}, [0, 0.4, 0, 0]),
    ],
)
def test_draw_inverts_the_distribution_of_what_is_kept(
    options: dict[str, Any], kept: list[float]
) -> None:
    """A fine grid of uniform numbers gives each symbol its share."""
    uniform = (torch.arange(10000) + 0.5) / 10000
    probability = torch.tensor([0.1, 0.4, 0.2, 0.3]).expand(10000, 4)
    drawn = draw(probability, uniform, **options)
    want = torch.tensor(kept) / sum(kept)
    got = torch.bincount(drawn, minlength=4) / 10000
    torch.testing.assert_close(got, want, rtol=0, atol=2e-4)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1e-300, 1e-12, 0.3, 1.0]), min_size=2, max_size=8),
    st.sampled_from([0.0, 0.5, 1 - 2**-53]),
    st.integers(0, 9),
    st.sampled_from([1e-12, 0.5, 1.0]),
)
def test_draw_never_takes_what_has_no_probability(
    weights: list[float], uniform: float, top_k: int, top_p: float
) -> None:
    probability = torch.tensor([[*weights, 0.5, 0.0]])
    probability = probability / probability.sum()
    drawn = draw(probability, torch.tensor([uniform]), top_k=top_k, top_p=top_p)
    assert float(probability[0, drawn]) > 0


def test_lengths_and_prefixes_at_their_limits() -> None:
    model = make_model(2)
    z, y = _rows(model, 3)
    for prefix in ([], [4], [4, 5]):
        for paths in (
            sample(model.decoder, z, y, max_length=2, prefix=prefix),
            greedy(model.decoder, z, y, max_length=2, prefix=prefix),
            beam(model.decoder, z, y, max_length=2, prefix=prefix).sequences,
        ):
            assert all(len(path) <= 2 and path[: len(prefix)] == prefix for path in paths)
    no_rows = z[:0], torch.zeros(0, dtype=torch.int64)
    assert greedy(model.decoder, *no_rows, max_length=3) == []
    assert beam(model.decoder, *no_rows, max_length=3).sequences == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 0}, "max_length: wanted at least 1, got 0"),
        ({"prefix": [4] * 6}, "prefix: wanted at most max_length = 5 symbols, got 6"),
        ({"prefix": [4, UNK]}, "got an unknown one at position 2"),
        ({"prefix": [EOS]}, "got the special symbol 3 at position 1"),
        ({"temperature": 0.0}, "temperature: wanted a number above 0, got 0"),
        ({"top_k": -1}, "top_k: wanted 0 or more, got -1"),
        ({"top_p": 0.0}, "top_p: wanted a number above 0 and at most 1, got 0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    model = make_model(2)
    z, y = _rows(model, 2)
    with pytest.raises(InputError, match=message):
        sample(model.decoder, z, y, **{"max_length": 5, **options})
    with pytest.raises(InputError, match="width: wanted at least 1, got 0"):
        beam(model.decoder, z, y, max_length=5, width=0)


def test_dropout_is_off_and_every_mode_comes_back() -> None:
    model = make_model(2, dropout=0.5, word_dropout=0.5)
    z, y = _rows(model, 10)
    want = greedy(model.decoder, z, y, max_length=6)
    model.train()
    model.decoder.get_submodule("embedding").eval()  # frozen by someone
    before = [part.training for part in model.modules()]
    assert greedy(model.decoder, z, y, max_length=6) == want
    beam(model.decoder, z, y, max_length=6)
    assert [part.training for part in model.modules()] == before
    with pytest.raises(KeyError), evaluation_mode(model):
        assert not model.training and not torch.is_grad_enabled()
        assert torch.backends.cudnn.rnn.fp32_precision == "ieee"  # type: ignore[attr-defined]
        raise KeyError
    assert [part.training for part in model.modules()] == before
