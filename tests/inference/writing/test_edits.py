"""Edits against plain loops over places and symbols, and the search against all short paths."""

import itertools

import numpy as np
import pytest
import torch

from seqssvae.data.vocabulary import BOS, EOS, NUM_SPECIAL
from seqssvae.inference.writing import edits as module
from seqssvae.inference.writing.edits import Path, edit, edits
from seqssvae.inference.writing.rerank import Like, score
from seqssvae.model.ssvae import SSVAE
from tests.support.factories import make_model, sharpen

SYMBOLS = range(NUM_SPECIAL, 7)
PATHS: list[Path] = [(4, 5, 6), (), (6, 6), (5,)]


def _log_prob(model: SSVAE, before: Path, symbol: int, z: torch.Tensor, y: int) -> float:
    """log p(symbol | before, y, z), from the first step on."""
    state = model.decoder.start(z[None], torch.tensor([y]))
    for one in (BOS, *before):
        logits, state = model.decoder.step(torch.tensor([one]), state)
    return float(logits.log_softmax(-1)[0, symbol].detach())


def _promises(model: SSVAE, path: Path, z: torch.Tensor, y: int) -> dict[Path, float]:
    """What each edit of a path promises, of those with the same result the most."""
    found: dict[Path, float] = {}

    def log_prob(place: int, symbol: int) -> float:
        return _log_prob(model, path[:place], symbol, z, y)

    own = [log_prob(place, symbol) for place, symbol in enumerate((*path, EOS))]
    for place in range(len(path) + 1):
        tried = [((*path[:place], s, *path[place:]), log_prob(place, s)) for s in SYMBOLS]
        if place < len(path):
            rest = path[place + 1 :]
            tried += [((*path[:place], s, *rest), log_prob(place, s) - own[place]) for s in SYMBOLS]
            skipped = log_prob(place, (*rest, EOS)[0])
            tried.append(((*path[:place], *rest), skipped - own[place] - own[place + 1]))
        for edited, gain in tried:
            if edited != path:
                found[edited] = max(gain, found.get(edited, -np.inf))
    return found


@pytest.mark.parametrize("num_edits", [4, 100])
def test_the_edits_are_those_that_promise_most(
    num_edits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NUM_EDITS", num_edits)
    monkeypatch.setattr(module, "NUM_LOGITS", 2 * 7)  # two paths at once
    model, z, y = sharpen(make_model(2)), torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    for row, found in enumerate(edits(model, PATHS, z, y)):
        wanted = _promises(model, PATHS[row], z[row], int(y[row]))
        assert set(found) <= set(wanted)
        least = sorted(wanted.values(), reverse=True)[: len(set(found))][-1]
        assert min(wanted[path] for path in found) >= least - 1e-9
        assert num_edits == 4 or set(found) == set(wanted)


def test_a_wide_search_finds_the_best_of_all_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every path of up to three symbols is three edits away."""
    monkeypatch.setattr(module, "NUM_PATHS", 50)
    monkeypatch.setattr(module, "NUM_EDITS", 100)
    model = sharpen(make_model(2))
    z, y = torch.randn(3, 2), torch.tensor([0, 1, 1])
    rows = [np.array([*path, EOS], np.int32) for path in PATHS[:3]]
    every = [path for n in range(4) for path in itertools.product(SYMBOLS, repeat=n)]
    for keep, guidance in ((0.5, 1.0), (3.0, 0.0)):
        like = Like.of_rows(rows, keep)
        starts = {row: [PATHS[row]] for row in (0, 2)}
        found = edit(model, starts, z, y, like, guidance=guidance, fits=lambda path: len(path) < 4)
        assert list(found) == [0, 2]
        for row, (path, value) in found.items():
            of_row = np.full(len(every), row)
            scores = score(model, every, z[of_row], y[of_row], like, of_row, guidance)
            assert tuple(path) == every[int(scores.argmax())] and value == pytest.approx(
                scores.max()
            )


def test_nothing_but_what_fits_is_written_and_the_start_may_stay() -> None:
    model, z, y = sharpen(make_model(2)), torch.randn(1, 2), torch.tensor([1])
    like = Like.of_rows([np.array([4, 5, EOS], np.int32)], 1.0)
    options = {"guidance": 1.0}
    for fits, wanted in ((lambda path: False, [4, 5]), (lambda path: path == (4,), [4])):
        found = edit(model, {0: [(4, 5)]}, z, y, like, fits=fits, **options)
        assert found[0][0] in ([4, 5], wanted)
    assert edit(model, {}, z, y, like, fits=lambda path: True, guidance=1.0) == {}
