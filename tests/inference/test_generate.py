"""Sequences of a class, near another, under another label, between two; what options mean."""

import re
from typing import Any

import numpy as np
import pytest
import torch

from seqssvae.data.batches import collate
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.vocabulary import EOS, CharacterVocabulary
from seqssvae.errors import InputError
from seqssvae.inference.decode import beam, greedy, sample
from seqssvae.inference.generate import generate, interpolate, place_of, transfer
from seqssvae.inference.latent import encode_z
from seqssvae.inference.writing.noise import standard_normal
from seqssvae.inference.writing.options import Decoding
from seqssvae.inference.writing.rerank import kept_share, label_log_prob
from seqssvae.model.ssvae import SSVAE
from tests.support.factories import (
    FACTORISATIONS,
    make_model,
    prior_of,
    sharpen,
    stepwise_log_prob,
)
from tests.support.rows import make_rows, random_rows

VOCABULARY = CharacterVocabulary(list("abc"))  # the symbols 4 to 6


def _decoding(longest: int = 6, **options: Any) -> Decoding:
    return Decoding.of_options(VOCABULARY, longest, **options)


def _generate(model: SSVAE, n: int, y: Any, decoding: Decoding, **options: Any) -> list[str]:
    found = [one for one, _ in generate(model, VOCABULARY, n, y, decoding, **options)]
    assert all(isinstance(text, str) for text in found)
    return list(map(str, found))


def _encode(model: SSVAE, rows: EncodedRows) -> tuple[torch.Tensor, torch.Tensor]:
    """z of rows, and their likeliest classes."""
    batch = collate(rows, range(len(rows)), num_classes=model.num_classes)
    return encode_z(model, batch)[0], model(batch).argmax(-1)


@pytest.mark.parametrize("strategy", ["sample", "greedy", "beam"])
def test_all_strategies_keep_to_the_limits(strategy: str) -> None:
    model = sharpen(make_model(2))
    for pattern, least, prefix in (("(ab|c)+", 3, ""), ("a.*b", 0, "a"), (None, 5, "b")):
        options: dict[str, Any] = {"constraint": pattern, "min_length": least, "prefix": prefix}
        found = _generate(model, 40, 0, _decoding(strategy=strategy, **options))
        assert len(found) == 40
        for text in found:
            assert least <= len(text) <= 6 and text.startswith(prefix)
            assert pattern is None or re.fullmatch(pattern, text)


def test_samples_within_limits_have_their_probabilities_renormalised() -> None:
    """Of `a|b` each text's share is p of its symbols over that of what is allowed."""
    model, num_rows = make_model(2), 20_000
    decoding = _decoding(constraint="a|b")
    found = sample(
        model.decoder,
        torch.zeros(1, 2).expand(num_rows, 2),
        torch.ones(num_rows, dtype=torch.int64),
        max_length=6,
        limits=decoding.limits,
        generator=torch.Generator().manual_seed(0),
    )
    logits, _ = model.decoder.step(
        torch.tensor([2]), model.decoder.start(torch.zeros(1, 2), torch.tensor([1]))
    )
    share = float(logits[0, 4:6].softmax(-1)[0].detach())
    assert {tuple(path) for path in found} == {(4,), (5,)}
    got = np.mean([path == [4] for path in found])
    assert abs(got - share) < 5 * (share * (1 - share) / num_rows) ** 0.5


def test_a_wide_beam_finds_the_best_path_within_limits() -> None:
    model = sharpen(make_model(2))
    z, y = torch.randn(5, 2), torch.zeros(5, dtype=torch.int64)
    limits = _decoding(4, constraint="[ab]*c", min_length=2).limits
    found = beam(model.decoder, z, y, max_length=4, width=200, limits=limits)
    texts = [text for text in _all_texts(3) if re.fullmatch("[ab]*c", text) and len(text) > 1]
    for row, path in enumerate(found.sequences):
        paths = [[*VOCABULARY.encode(text), EOS] for text in texts]
        paths += [path[:-1] for path in paths if len(path) == 5]
        scores = [float(stepwise_log_prob(model, one, z[row], 0).detach()) for one in paths]
        cut = [[*VOCABULARY.encode(text)] for text in _all_texts(4) if len(text) == 4]
        cut = [one for one in cut if re.fullmatch("[ab]*c", str(VOCABULARY.decode(one)))]
        scores += [float(stepwise_log_prob(model, one, z[row], 0).detach()) for one in cut]
        assert float(found.log_prob[row]) == pytest.approx(max(scores), abs=1e-9)
        assert [*path, EOS][:4] == (paths + cut)[int(np.argmax(scores))][:4]


def _all_texts(longest: int) -> list[str]:
    texts = [""]
    for text in texts:
        if len(text) < longest:
            texts += [text + symbol for symbol in "abc"]
    return texts


def test_radius_0_is_the_sequence_s_own_z() -> None:
    model = sharpen(make_model(2))
    loc = np.array([1.5, -0.5])
    z = torch.from_numpy(loc).expand(1, 2)
    want = greedy(model.decoder, z, torch.tensor([1]), max_length=6)[0]
    at = _generate(model, 3, 1, _decoding(strategy="greedy"), near=(loc, 0.0))
    assert at == [VOCABULARY.decode(want)] * 3
    far = _generate(model, 30, 1, _decoding(strategy="greedy"), near=(loc, 3.0))
    assert len(set(far)) > 1
    with pytest.raises(InputError, match="radius: wanted a number of 0 or more, got -1"):
        _generate(model, 1, 1, _decoding(), near=(loc, -1))


def test_z_is_drawn_from_the_prior_of_the_class_and_rewriting_keeps_its_place_there() -> None:
    """Priors of one class far from the other's: z of each is its own prior's, from one noise."""
    model, rows = sharpen(make_model(2, z_prior="by-class")), random_rows([-1] * 6, 0)
    decoding = _decoding(strategy="greedy")
    noise = torch.from_numpy(standard_normal(0, range(5), 2))
    for label in range(2):
        prior = prior_of(model, label)
        want = greedy(
            model.decoder, prior.loc + prior.scale * noise, torch.full((5,), label), max_length=6
        )
        assert _generate(model, 5, label, decoding) == list(map(VOCABULARY.decode, want))
        loc, likeliest = _encode(model, rows)
        own = [prior_of(model, int(y)) for y in likeliest]
        place = torch.stack([(z - o.loc) / o.scale for z, o in zip(loc, own, strict=True)])
        moved, y = prior.loc + prior.scale * place, torch.full((6,), label)
        want = greedy(model.decoder, moved, y, max_length=6)
        assert transfer(model, rows, decoding, to=label) == want
        near = place_of(model, rows.take([3]))
        assert near[1] == likeliest[3]
        at = _generate(model, 2, label, decoding, near=(near[0], 0.0))
        assert at == [VOCABULARY.decode(want[3])] * 2


def test_weights_of_one_class_are_that_class_and_blends_are_other_sequences() -> None:
    model = sharpen(make_model(3))
    for y, weights in ((0, [1.0, 0, 0]), (2, [0, 0, 1.0])):
        want = _generate(model, 20, y, _decoding())
        assert _generate(model, 20, np.array(weights), _decoding()) == want
    assert _generate(model, 20, np.array([0.5, 0, 0.5]), _decoding()) != want


def test_of_several_classes_each_sequence_has_one_by_the_prior() -> None:
    model = make_model(3, prior=torch.tensor([0.2, 0.2, 0.6]))
    by_class = [_generate(model, 2000, y, _decoding()) for y in range(3)]
    drawn = _generate(model, 2000, np.array([0, 2]), _decoding())
    assert drawn[:50] == _generate(model, 50, np.array([0, 2]), _decoding())
    pairs = [*generate(model, VOCABULARY, 2000, np.array([0, 2]), _decoding())]
    assert all(one == by_class[y or 0][i] for i, (one, y) in enumerate(pairs))
    assert {y for _, y in pairs} == {0, 2}
    differ = [i for i in range(2000) if by_class[0][i] != by_class[2][i]]
    of_last = np.array([drawn[i] == by_class[2][i] for i in differ])
    assert all(drawn[i] in (by_class[0][i], by_class[2][i]) for i in range(2000))
    assert abs(of_last.mean() - 0.75) < 5 * (0.75 * 0.25 / len(differ)) ** 0.5


def test_unique_leaves_out_what_came_before_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    model = make_model(2)
    plain = _generate(model, 200, 0, _decoding())
    found = _generate(model, 20, 0, _decoding(), unique=True)
    assert found == list(dict.fromkeys(plain))[:20] and len(plain[:20]) > len(set(plain[:20]))
    few = _generate(model, 20, 0, _decoding(constraint="[ab]"), unique=True)
    assert sorted(few) == ["a", "b"]
    assert "wanted 20 different sequences, got 2" in caplog.text


def test_the_best_of_several_is_one_of_them() -> None:
    """Of the sequences that are generated without it, in order."""
    model = sharpen(make_model(2))
    plain = _generate(model, 40, 0, _decoding())
    best = _generate(model, 10, 0, _decoding(best_of=4))
    assert all(text in plain[4 * i : 4 * i + 4] for i, text in enumerate(best))
    assert best[:3] == _generate(model, 3, 0, _decoding(best_of=4)) and best != plain[::4]


def test_guidance_keeps_what_is_accepted_and_makes_the_label_likelier() -> None:
    model = sharpen(make_model(2))
    plain = _generate(model, 300, 0, _decoding())
    found = _generate(model, 300, 0, _decoding(guidance=3.0))
    assert found[:5] == _generate(model, 5, 0, _decoding(guidance=3.0))  # not by how many there are
    same = np.mean([one == other for one, other in zip(plain, found, strict=True)])
    assert 0.02 < same < 0.98

    def agreement(texts: list[str]) -> float:
        paths = [VOCABULARY.encode(text) for text in texts]
        return float(np.exp(label_log_prob(model, paths, np.zeros(len(paths), np.int64))).mean())

    assert agreement(found) > agreement(plain) + 0.01
    blend = np.array([0.5, 0.5])  # no single class to ask for
    want = _generate(model, 30, blend, _decoding())
    assert _generate(model, 30, blend, _decoding(guidance=3.0)) == want
    drawn = np.array([0, 1])
    several = _generate(model, 60, drawn, _decoding(guidance=3.0))
    assert several[:7] == _generate(model, 7, drawn, _decoding(guidance=3.0))


def test_transfer_keeps_more_of_the_source_the_more_it_is_told_to() -> None:
    model, rows = sharpen(make_model(3)), random_rows([-1] * 40, 0)
    sources = [rows.row(i)[:-1].tolist() for i in range(len(rows))]
    kept = []
    for keep in (0.0, 2.0, 50.0):
        found = transfer(model, rows, _decoding(best_of=16, temperature=2.0), to=1, keep=keep)
        kept.append(np.mean([kept_share(a, b) for a, b in zip(sources, found, strict=True)]))
    assert kept[0] + 0.05 < kept[1] < kept[2] and kept[2] > 0.7
    decoding = _decoding(best_of=16, constraint="[ab]*", prefix="b")
    for path in transfer(model, rows, decoding, to=1, keep=5.0):
        assert re.fullmatch("b[ab]*", str(VOCABULARY.decode(path)))
    some = transfer(model, rows.take([7, 2]), decoding, to=1, keep=5.0)
    every = transfer(model, rows, decoding, to=1, keep=5.0, batch_size=8)
    assert some == [every[7], every[2]]
    with pytest.raises(InputError, match="keep: wanted a number of 0 or more, got -1"):
        transfer(model, rows, decoding, to=1, keep=-1)


@pytest.mark.parametrize(("strategy", "order"), [("greedy", 2), ("greedy", 0), ("beam", 0)])
def test_transfer_keeps_z_and_changes_y(strategy: str, order: int) -> None:
    model, rows = sharpen(make_model(3, decoder_ngrams=order)), random_rows([-1] * 8, 0)
    loc, _ = _encode(model, rows)
    written = []
    for to in range(3):
        y = torch.full((8,), to)
        want = greedy(model.decoder, loc, y, max_length=6)
        if strategy == "beam":
            want = beam(model.decoder, loc, y, max_length=6, width=8).sequences
        written.append(transfer(model, rows, _decoding(strategy=strategy), to=to))
        assert written[-1] == want
    assert len(set(map(str, written))) > 1


@pytest.mark.parametrize("best_of", [1, 5])
def test_what_is_written_depends_on_the_row_and_the_seed_alone(best_of: int) -> None:
    model, rows = sharpen(make_model(2)), random_rows([-1] * 9, 0)
    decoding = _decoding(best_of=best_of, temperature=2.0)
    written = transfer(model, rows, decoding, to=1)
    assert transfer(model, rows, decoding, to=1, batch_size=4) == written
    assert transfer(model, rows.take([7, 2]), decoding, to=1) == [written[7], written[2]]
    assert len(set(map(str, written))) > 3
    assert transfer(model, rows, _decoding(best_of=best_of, seed=1), to=1) != written


def test_interpolation_goes_in_equal_steps_from_one_mean_to_the_other() -> None:
    model, rows = sharpen(make_model(3)), random_rows([-1] * 2, 0)
    (first, last), likeliest = _encode(model, rows)
    line = torch.stack([first + (last - first) * share for share in (0, 0.25, 0.5, 0.75, 1)])
    decoding = _decoding(strategy="greedy")
    for y in (None, 0, 2):
        label = int(likeliest[0]) if y is None else y
        want = greedy(model.decoder, line, torch.full((5,), label), max_length=6)
        assert interpolate(model, rows, decoding, steps=5, y=y) == want


def test_a_walk_has_different_sequences_where_the_samples_differ() -> None:
    """Even from a sequence to itself, where the likeliest one is the same at each step."""
    model = sharpen(make_model(2))
    rows = make_rows([[4, 5, 6, EOS]] * 2)
    same = interpolate(model, rows, _decoding(strategy="greedy"), steps=5)
    assert len(set(map(str, same))) == 1
    found = interpolate(model, rows, _decoding(best_of=64, temperature=3.0), steps=5)
    assert len(set(map(str, found))) == 5


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_no_label_and_no_z_work_too(factorisation: str) -> None:
    plain = make_model(0, factorisation=factorisation)
    assert len(interpolate(plain, random_rows([-1] * 2, 0), _decoding(), steps=3)) == 3
    assert len(_generate(plain, 3, None, _decoding(best_of=3))) == 3
    flat = make_model(2, latent_size=0, factorisation=factorisation)
    assert len(_generate(flat, 3, 1, _decoding())) == 3
    first, second = transfer(flat, random_rows([-1] * 2, 0), _decoding(strategy="greedy"), to=1)
    assert first == second


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "odd"}, "strategy: wanted sample, greedy or beam, got odd"),
        ({"guidance": -1.0}, "guidance: wanted a number of 0 or more, got -1"),
        ({"guidance": float("nan")}, "guidance: wanted a number of 0 or more, got nan"),
        ({"best_of": 0}, "best_of: wanted at least 1, got 0"),
        ({"min_length": 7}, "min_length: wanted at most 6, got 7"),
        ({"min_length": 2, "max_length": 1}, "min_length: wanted at most 1, got 2"),
        ({"seed": -1}, "seed: wanted at least 0, got -1"),
        ({"constraint": "d"}, "got none that does"),
        ({"constraint": "a", "prefix": "b"}, "got none that does"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _decoding(**options)


def test_bad_arguments_are_refused() -> None:
    model, rows = make_model(2), random_rows([-1] * 3, 0)
    with pytest.raises(InputError, match="class: wanted 0 to 1, got 2"):
        transfer(model, rows, _decoding(), to=2)
    with pytest.raises(InputError, match="class: wanted none"):
        transfer(make_model(0), rows, _decoding(), to=0)
    with pytest.raises(InputError, match="class: wanted 0 to 1, got -1"):
        interpolate(model, rows.take([0, 1]), _decoding(), steps=3, y=-1)
    with pytest.raises(InputError, match="steps: wanted at least 2, got 1"):
        interpolate(model, rows.take([0, 1]), _decoding(), steps=1)
    with pytest.raises(InputError, match="wanted two sequences to interpolate between, got 3"):
        interpolate(model, rows, _decoding(), steps=3)
