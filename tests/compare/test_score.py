"""Figures of sequences whose quality is known, and by hand."""

import math
from typing import Any

import numpy as np
import pytest

from seqssvae.compare.score import reconstructed, score, write_like
from seqssvae.errors import InputError
from seqssvae.trained import load
from tests.support.fixtures import SmallRun

REFERENCE = ["abab", "aabb", "abba", "baba", "bbaa", "baab"] * 6
REFERENCE += ["cdcd", "ccdd", "cddc", "dcdc", "ddcc", "dccd"] * 6
OF_REFERENCE = np.repeat([0, 1], 36)


def _score(written: list[Any], y: Any, **options: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"reference": REFERENCE, "reference_y": OF_REFERENCE} | options
    return score(written, y=np.asarray(y), num_classes=2, **given)


def test_the_reference_itself_is_as_good_as_it() -> None:
    found = _score(REFERENCE, OF_REFERENCE, training=REFERENCE[:6])
    for name in ("diversity", "length"):
        assert found[name] == pytest.approx(found[f"reference_{name}"])
    assert found["perplexity"] == pytest.approx(found["reverse_perplexity"])
    assert found["symbols_distance"] == found["foreign"] == 0
    assert found["nearest"] == pytest.approx(1) and found["label_agreement"] == 1
    assert found["judge_accuracy"] == 1 and found["agreement_of_classes"] == [1, 1]
    assert found["unique"] == 12 / 72 and found["novel"] == 0.5
    assert found["length_low"] == found["length_high"] == 4  # which all have
    assert found["novel_low"] < 0.5 < found["novel_high"]


def test_worse_sequences_have_worse_figures() -> None:
    good = _score(REFERENCE, OF_REFERENCE)
    swapped = _score(REFERENCE, 1 - OF_REFERENCE)
    assert swapped["label_agreement"] == 0 and swapped["foreign"] == 1
    assert swapped["perplexity"] == good["perplexity"]
    same = _score(["abab"] * 36 + ["cdcd"] * 36, OF_REFERENCE)
    assert same["diversity"] < good["diversity"]
    assert same["reverse_perplexity"] > good["reverse_perplexity"]
    odd = _score(["xyz"] * 72, OF_REFERENCE)
    assert odd["perplexity"] > same["perplexity"] and odd["symbols_distance"] > 1 - 1e-9
    assert odd["nearest"] == pytest.approx(0, abs=0.2) and odd["foreign"] == 1


def test_lists_of_tokens_and_no_labels() -> None:
    tokens = [list(text) for text in REFERENCE]
    of_texts, of_tokens = (
        score(rows, rows, y=none, reference_y=none, num_classes=0)
        for rows, none in ((REFERENCE, np.full(72, -1)), (tokens, np.full(72, -1)))
    )
    assert "label_agreement" not in of_tokens
    for name in ("unique", "perplexity", "length", "reverse_perplexity"):
        assert of_tokens[name] == pytest.approx(of_texts[name])


def test_a_bootstrap_interval_is_that_of_the_normal_law() -> None:
    random = np.random.default_rng(0)
    written = ["ab" if one else "ba" for one in random.random(2000) < 0.3]
    y = np.full(2000, -1)
    found = _score(written, y, is_valid=lambda text: text == "ab")
    share = np.mean([text == "ab" for text in written])
    half = 1.96 * math.sqrt(share * (1 - share) / 2000)
    assert found["valid"] == pytest.approx(share)
    assert found["valid_low"] == pytest.approx(share - half, abs=0.006)
    assert found["valid_high"] == pytest.approx(share + half, abs=0.006)


def test_few_sequences_are_refused() -> None:
    with pytest.raises(InputError, match="wanted at least 2 sequences and 2 rows .* got 1 and 72"):
        _score(["ab"], [0])


def test_labels_are_in_the_proportions_of_the_reference(small_run: SmallRun) -> None:
    model = load(small_run[0])
    written, y = write_like(model, 9, np.array([0, 1, 1, -1]), {"seed": 1})
    assert len(written) == 9 and y.tolist() == [0] * 3 + [1] * 6
    assert written[3:] == model.generate("right", 6, seed=1)
    rows = model.transfer(["abab", "cd"], "left", strategy="greedy")
    found = [model.transfer([row], "left", strategy="greedy")[0] == row for row in rows]
    of_rows = reconstructed(model, list(map(str, rows)), np.array([0, 0]), 0)
    assert of_rows == np.mean(found)
