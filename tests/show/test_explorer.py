import dataclasses

import numpy as np
import pytest

from seqssvae.errors import InputError
from seqssvae.inference.novelty import log_prob_per_symbol
from seqssvae.show.explorer import Exploration
from seqssvae.trained import load
from tests.support.fixtures import SmallRun


def test_classify_by_q_and_by_bayes_rule(exploration: Exploration, small_run: SmallRun) -> None:
    model = load(small_run[0])
    table, details = exploration.classify("cdcd")
    for column, mode in ((1, "q"), (2, "posterior")):
        want = model.classify(["cdcd"], mode=mode)[0]["probabilities"]
        assert {row[0]: row[column] for row in table} == want
    assert table[0][0] == "right" and table[0][1] > table[1][1]
    want = log_prob_per_symbol(model.model, model.reader.read_texts(["cdcd"]))
    assert details["nats_per_symbol"] == want[0] and details["num_unknown"] == 0
    (found,) = model.classify(["cdcd"])
    assert [details[name] for name in ("label", "probability")] == [
        found["label"], found["probability"]
    ]  # fmt: skip
    assert details["set"] == model.classify(["cdcd"], coverage=0.9)[0]["set"]
    earlier = dataclasses.replace(model, manifest={})  # a run of an earlier version
    assert "set" not in dataclasses.replace(exploration, trained=earlier).classify("cdcd")[1]


def test_a_sequence_unlike_the_training_rows_is_novel(exploration: Exploration) -> None:
    ordinary = exploration.classify("ababab")[1]["novelty"]
    odd = exploration.classify("acbddbca?")[1]
    assert odd["novelty"] == pytest.approx(1 - 1 / 9)  # of 8 held-out rows
    assert ordinary < odd["novelty"] and odd["num_unknown"] == 1


def test_generate_transfer_walk(exploration: Exploration, small_run: SmallRun) -> None:
    model = load(small_run[0])
    written = exploration.generate("left", 0.7, 3)
    assert written == model.generate("left", 6, temperature=0.7, seed=3)
    moved = exploration.transfer("abab")
    assert moved == [(name, model.transfer(["abab"], to=name)[0]) for name in ("left", "right")]
    walk = exploration.walk("ab", "cdcd", "left")
    assert walk == model.interpolate("ab", "cdcd", 11, label="left")
    for refused in (
        lambda: exploration.classify(" "),
        lambda: exploration.transfer(""),
        lambda: exploration.walk("ab", " ", None),
    ):
        with pytest.raises(InputError, match="wanted a sequence, got an empty one"):
            refused()


def test_the_map_shows_a_new_sequence(exploration: Exploration) -> None:
    """A held-out row falls on its own point."""
    figure = exploration.map("pca", exploration.sequences[0]).to_dict()
    star = figure["data"][-1]
    assert star["name"] == "your sequence"
    points = np.array(
        [[*xy] for t in figure["data"][:-1] for xy in zip(t["x"], t["y"], strict=True)]
    )
    position = np.array([star["x"][0], star["y"][0]])
    assert np.abs(points - position).max(1).min() < 2e-3
    assert len(points) == 8
    assert len(exploration.map("tsne", " ").data) == len(exploration.map("pca", " ").data) == 2
    star = exploration.map("tsne", exploration.sequences[3]).to_dict()["data"][-1]
    assert star["name"] == "your sequence"
    np.testing.assert_allclose((star["x"][0], star["y"][0]), exploration.z_tsne[3], atol=1e-3)


def test_the_training_rows_like_a_sequence(exploration: Exploration) -> None:
    assert exploration.training is not None
    own = exploration.training[1][-1]
    found = exploration.nearest(own)
    assert found[0] == (own, "right") and len(found) == 5
    assert set("".join(text for text, _ in found)) <= set("cd")
    held_out = set(exploration.sequences)
    assert not held_out & set(exploration.training[1]) and len(exploration.training[1]) == 32
    lonely = dataclasses.replace(exploration, training=None)
    assert lonely.nearest("ab") == []
