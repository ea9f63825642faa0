import dataclasses
import functools
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas
import pyarrow
import pytest
import torch
from numpy.typing import NDArray

from seqssvae.cli import main
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import prepare
from seqssvae.errors import InputError
from seqssvae.inference.answers import NONE_OF_THESE
from seqssvae.inference.classify import MODES
from seqssvae.inference.novelty import log_prob_per_symbol, novelty
from seqssvae.inference.predict import classify_table
from seqssvae.model.build import build
from seqssvae.overrides import override
from seqssvae.runs.run import RunContents, load_run, save_run
from seqssvae.trained import EXTRA_LENGTH, TrainedModel, load
from tests.support.commands import refusal
from tests.support.fixtures import SmallRun
from tests.support.rows import write_rows
from tests.support.training import TEXTS, quick_config, train


@pytest.fixture
def model(small_run: SmallRun) -> TrainedModel:
    return load(small_run[0])


@pytest.fixture
def plain(tmp_path: Path) -> TrainedModel:
    """A VAE without classes."""
    rows = [{"text": "ab" * (1 + i % 3)} for i in range(20)]
    return load(train(tmp_path, rows, **{"data.unlabelled_only": True}))


@pytest.fixture
def of_tokens(tmp_path: Path) -> TrainedModel:
    rows = [{"tokens": ["x y", "z"] * (1 + i % 3), "label": "uv"[i % 2]} for i in range(20)]
    return load(train(tmp_path, rows))


def table(rows: list[dict[str, Any]]) -> NDArray[np.float64]:
    return np.array([list(row["probabilities"].values()) for row in rows])


def test_what_is_loaded_classifies_as_what_was_saved(small_run: SmallRun, tmp_path: Path) -> None:
    """Random weights of a new model, in the dtype that the tests use."""
    config = quick_config(model__prior=[0.3, 0.7])
    prepared = prepare(config, small_run[1])
    model = build(config, prepared).eval()
    contents = RunContents(
        config=config,
        vocabulary=prepared.vocabulary,
        labels=prepared.labels,
        split=prepared.split,
        weights=model.state_dict(),
        manifest={"note": "kept"},
    )
    save_run(tmp_path / "run", contents)
    loaded = load(tmp_path / "run")
    assert not loaded.model.training and loaded.manifest["note"] == "kept"
    assert loaded.labels == prepared.labels and loaded.config == config
    for mode in MODES:
        weights = loaded.weights(mode)
        want = classify_table(model, prepared.labelled, mode=mode, weights=weights, seed=3)
        got = table(list(loaded.classify_rows(prepared.labelled, mode=mode, seed=3)))
        np.testing.assert_array_equal(got, want)


def test_a_model_is_shown_in_one_line(model: TrainedModel, plain: TrainedModel) -> None:
    shown = repr(model)
    assert shown.startswith("TrainedModel(2 classes ('left', 'right'), ")
    assert len(shown) < 120 and "z of 2 dims, cpu" in shown
    assert "(no classes, " in repr(plain)


@pytest.mark.parametrize("to_table", [pandas.DataFrame, lambda rows: pyarrow.table(dict(rows))])
def test_tables_are_read_as_files_are(model: TrainedModel, to_table: Callable[[Any], Any]) -> None:
    """Rows of a table, not the names of its columns."""
    table = to_table({"label": ["left", "right"], "text": ["abab", "cdcdcd"]})
    assert model.classify(table) == model.classify(["abab", "cdcdcd"])
    loc = model.encode(["abab", "cdcdcd"])["loc"]
    np.testing.assert_array_equal(model.encode(table)["loc"], loc)
    assert model.evaluate(table)["accuracy"] == 1.0
    annotated = model.annotate(table)
    assert annotated["predicted_label"] == [0, 1] and annotated["text"] == ["abab", "cdcdcd"]
    with pytest.raises(InputError, match="wanted a column 'text'"):
        model.classify(to_table({"a": ["x"], "b": ["y"]}))


@pytest.mark.parametrize("mode", MODES)
def test_classify(model: TrainedModel, mode: str) -> None:
    """Probabilities sum to 1 and do not depend on the order of rows."""
    rows = model.classify(TEXTS, mode=mode)
    assert len(rows) == len(TEXTS)
    for row in rows:
        assert list(row["probabilities"]) == ["left", "right"]
        assert row["probability"] == max(row["probabilities"].values())
        assert row["probabilities"][row["label"]] == row["probability"]
    probabilities = table(rows)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-9)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    permuted = model.classify([TEXTS[i] for i in order], mode=mode)
    np.testing.assert_allclose(table(permuted), probabilities[order], atol=1e-6)
    assert [row["label"] for row in rows[:4]] == ["left", "right", "left", "right"]
    assert model.classify([], mode=mode) == []


@pytest.fixture
def calibrated(model: TrainedModel) -> TrainedModel:
    """With made-up held-out rows: losses of a half to three nats, likelihoods of all sizes."""
    plain = {
        "y": [0, 1] * 10,
        "losses": {mode: np.linspace(0.5, 3, 20).tolist() for mode in MODES},
        "log_prob": np.linspace(-9, 0, 19).tolist(),
    }
    return dataclasses.replace(model, manifest=model.manifest | {"held_out": plain})


def test_sets_hold_labels_up_to_a_quantile(calibrated: TrainedModel, small_run: SmallRun) -> None:
    """In `classify`, `annotate` and `evaluate`, of the mode that is asked for."""
    losses = calibrated.held_out.losses["q"]
    for coverage, greatest in ((0.5, losses[10]), (0.9, losses[18]), (0.97, np.inf)):
        answers = calibrated.classify(TEXTS, mode="q", coverage=coverage)
        for answer in answers:
            probabilities = answer["probabilities"]
            inside = {name for name, p in probabilities.items() if -np.log(p) <= greatest}
            assert set(answer["set"]) == inside | {answer["label"]}
            assert answer["set"][0] == answer["label"]
    rows = pandas.DataFrame({"text": TEXTS})
    annotated = calibrated.annotate(rows, mode="q", coverage=0.9)["predicted_set"]
    names, answers = calibrated.labels.names, calibrated.classify(TEXTS, mode="q", coverage=0.9)
    assert [{names[y] for y in one} for one in annotated] == [set(one["set"]) for one in answers]
    data = pandas.read_json(small_run[1], lines=True)
    sets = [one["set"] for one in calibrated.classify(data["text"].tolist(), coverage=0.6)]
    figures = calibrated.evaluate(data, coverage=0.6)
    hits = [label in one for label, one in zip(data["label"], sets, strict=True)]
    assert figures["set_coverage"] == np.mean(hits)
    assert figures["set_size"] == np.mean(list(map(len, sets)))
    assert "set_size" not in calibrated.evaluate(data)


def test_rows_are_left_undecided_or_are_none_of_the_classes(calibrated: TrainedModel) -> None:
    plain = calibrated.classify(TEXTS)
    limit = float(np.median([answer["probability"] for answer in plain]))
    for answer, before in zip(calibrated.classify(TEXTS, abstain=limit), plain, strict=True):
        assert answer["abstained"] == (before["probability"] < limit)
        assert answer["label"] == (None if answer["abstained"] else before["label"])
    rows = calibrated.read_sequences(TEXTS)
    log_prob = log_prob_per_symbol(calibrated.model, rows, num_samples=0)
    want = novelty(log_prob, calibrated.held_out.log_prob)
    assert want.min() < 0.3 < want.max()
    found = calibrated.classify(TEXTS, novel=0.7)
    np.testing.assert_allclose([answer["novelty"] for answer in found], want)
    for answer, before, one in zip(found, plain, want, strict=True):
        assert answer["label"] == (NONE_OF_THESE if one >= 0.3 else before["label"])


def test_what_was_held_out_is_kept_with_the_run(model: TrainedModel, small_run: SmallRun) -> None:
    """All rows that training did not see; the log-losses are those of the last evaluation."""
    split = load_run(small_run[0]).split
    held_out, dev = model.held_out, model.manifest["summary"]["dev"]
    assert len(held_out.y) == len(split["dev"]) == dev["num_labelled"]
    assert len(held_out.log_prob) == len(split["dev"]) + len(split["dev_unlabelled"])
    assert np.mean(held_out.losses["mix"]) == pytest.approx(dev["mix_log_loss"])
    assert set(held_out.losses) == set(MODES)
    assert model.weights("mix") == tuple(dev["mix_weights"]) != model.weights("q")
    assert model.weights("q") == model.weights("posterior") == tuple(dev["powers"])


@pytest.mark.parametrize("option", [{"coverage": 0.9}, {"novel": 0.1}])
def test_runs_without_held_out_rows_have_no_sets(
    model: TrainedModel, option: dict[str, float]
) -> None:
    """Those of an earlier version, too."""
    model.manifest.pop("held_out")
    with pytest.raises(InputError, match="wanted a run with held-out labels.*got one without"):
        model.classify(["ab"], **option)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="held-out labels"):
        model.evaluate(pandas.DataFrame({"text": ["ab"], "label": ["left"]}), coverage=0.9)


def test_unknown_modes_are_refused(calibrated: TrainedModel) -> None:
    refused = pytest.raises(InputError, match="^mode: wanted q, posterior or mix, got best$")
    with refused:
        calibrated.classify(["ab"], mode="best")
    with refused:
        calibrated.classify(["ab"], mode="best", coverage=0.9)
    with refused:
        calibrated.explain(["ab"], mode="best")


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, float("nan"), "0.9", True])
@pytest.mark.parametrize("name", ["coverage", "abstain", "novel"])
def test_shares_are_between_0_and_1(calibrated: TrainedModel, name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name}: wanted a number above 0 and below 1, got "):
        calibrated.classify(["ab"], **{name: value})


def test_rows_are_classified_chunk_by_chunk(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = table(model.classify(TEXTS))
    classify = Mock(wraps=classify_table)
    monkeypatch.setattr("seqssvae.trained.classify_table", classify)
    monkeypatch.setattr(EncodedRows, "parts", functools.partialmethod(EncodedRows.parts, 2))
    np.testing.assert_allclose(table(model.classify(TEXTS)), expected, atol=1e-6)
    sizes = [len(call.args[1]) for call in classify.call_args_list]
    assert len(sizes) > 1 and max(sizes) == 2 and sum(sizes) == len(TEXTS)


def test_the_seed_of_classify_is_of_the_samples(model: TrainedModel) -> None:
    texts = ["acbd", "dcba"]

    def classify(seed: int, mode: str = "posterior") -> NDArray[np.float64]:
        return table(model.classify(texts, mode=mode, num_samples=2, seed=seed))

    np.testing.assert_array_equal(classify(1), classify(1))
    assert np.abs(classify(1) - classify(2)).max() > 1e-9
    np.testing.assert_array_equal(classify(1, "q"), classify(2, "q"))


@pytest.mark.parametrize("strategy", ["sample", "greedy", "beam"])
def test_generate_keeps_prefix_and_length(model: TrainedModel, strategy: str) -> None:
    for longest in (4, 6):
        texts = model.generate(
            "left", 6, prefix="dca", strategy=strategy, max_length=longest, width=3
        )
        assert len(texts) == 6
        assert all(str(text).startswith("dca") and len(text) <= longest for text in texts)
    short, long = (model.generate("left", 20, strategy=strategy, max_length=n) for n in (2, 40))
    assert max(map(len, short)) == 2 < max(map(len, long))
    with pytest.raises(InputError, match="max_length"):
        model.generate("left", strategy=strategy, max_length=0)


def test_generate_is_of_the_label(model: TrainedModel) -> None:
    """Sequences of a label are classified as that label, mostly."""
    for label in ("left", "right"):
        texts = [str(text) for text in model.generate(label, 20, temperature=0.5)]
        right = [row["label"] == label for row in model.classify(texts)]
        assert np.mean(right) > 0.8


def test_sequences_may_be_longer_than_the_longest_that_training_kept(
    plain: TrainedModel,
) -> None:
    longest = int(12 * EXTRA_LENGTH)
    state = plain.model.state_dict()
    state["decoder.output.bias"][3] = -1e9  # no EOS
    state["decoder.ngrams.gate.bias"][0] = 1e9  # and no n-grams
    assert {len(text) for text in plain.generate(n=3)} == {longest}


def test_invalid_arguments(model: TrainedModel) -> None:
    with pytest.raises(InputError, match=r"label: .*'left', 'right'.*got 'lef'.*mean 'left'"):
        model.generate("lef")
    with pytest.raises(InputError, match="label: wanted one of left, right, got none"):
        model.generate()
    with pytest.raises(InputError, match="strategy: wanted sample, greedy or beam, got best"):
        model.generate("left", strategy="best")
    with pytest.raises(InputError, match="got 'up'"):
        model.transfer(["ab"], to="up")
    with pytest.raises(InputError, match="got 'up'"):
        model.interpolate("ab", "cd", label="up")
    with pytest.raises(InputError, match="steps: wanted at least 2, got 1"):
        model.interpolate("ab", "cd", steps=1)
    with pytest.raises(InputError, match="mode: .*got best"):
        model.classify(["ab"], mode="best")
    with pytest.raises(InputError, match=r"sequence 2: wanted a text, got \['a'\]"):
        model.classify(["ab", ["a"]])
    with pytest.raises(InputError, match="TEXT 2: wanted a sequence, got an empty one"):
        model.reader.read_texts(["ab", " "])


def test_transfer_interpolate_encode(model: TrainedModel) -> None:
    """One for each sequence, in order, alone or in a batch; weights so large that z counts."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.normal_(std=1.5, generator=generator)
        model.model.decoder.get_parameter("ngrams.gate.bias")[0] = 1e9  # n-grams do not read z

    def begin(sequences: list[Any]) -> list[str]:
        """Their first symbols; such a network amplifies rounding errors from symbol to symbol."""
        return [sequence[:8] for sequence in sequences]

    moved = begin(model.transfer(TEXTS, to="right"))
    assert moved != moved[::-1] and len(set(map(str, moved))) > 2
    encoded = model.encode(TEXTS)
    assert {name: value.shape for name, value in encoded.items()} == {
        "loc": (8, 2), "scale": (8, 2), "probabilities": (8, 2)
    }  # fmt: skip
    assert (encoded["scale"] > 0).all()
    by_q = table(model.classify(TEXTS, mode="q"))
    np.testing.assert_allclose(encoded["probabilities"], by_q, atol=1e-6)
    assert [begin(model.transfer([text], to="right"))[0] for text in TEXTS] == moved
    for i, text in enumerate(TEXTS):
        for name, value in model.encode([text]).items():
            np.testing.assert_allclose(value[0], encoded[name][i], atol=1e-5)
    for steps in (2, 5):
        walk = model.interpolate("abab", "cdcd", steps, label="left", strategy="greedy")
        assert len(walk) == steps
    ends = [model.transfer([one], to="left", strategy="greedy")[0] for one in ("abab", "cdcd")]
    assert begin([walk[0], walk[-1]]) == begin(ends)
    own = model.classify(["abab"])[0]["label"]  # of the first, where no label is given
    assert model.interpolate("abab", "cdcd", 4) == model.interpolate("abab", "cdcd", 4, label=own)


def test_scores_are_those_of_bayes_rule(model: TrainedModel) -> None:
    """log p(x) = log sum_y p(y) p(x | y); the better label has the higher posterior."""
    by_label = np.stack([model.log_prob(TEXTS, name) for name in model.labels.names])
    prior = model.model.prior_logits.double().numpy()
    joint = by_label + prior[:, None]
    np.testing.assert_allclose(model.log_prob(TEXTS), np.logaddexp.reduce(joint, 0), atol=1e-6)
    posterior = table(model.classify(TEXTS, mode="posterior", num_samples=16))
    powers = model.weights("posterior")[1]
    logits = powers * (joint - np.logaddexp.reduce(joint, 0))
    want = np.exp(logits - np.logaddexp.reduce(logits, 0)).T
    np.testing.assert_allclose(posterior, want, atol=1e-4)


def test_the_plain_vae(plain: TrainedModel) -> None:
    assert plain.labels.names == ()
    assert len(plain.generate(n=4)) == 4
    assert len(plain.interpolate("ab", "abab", 3)) == 3
    assert plain.encode(["ab"])["probabilities"].shape == (1, 0)
    for refused in (
        lambda: plain.classify(["ab"]),
        lambda: plain.generate("left"),
        lambda: plain.transfer(["ab"], to="left"),
        lambda: plain.interpolate("ab", "abab", label="left"),
    ):
        with pytest.raises(InputError, match="without classes|no labels"):
            refused()


def test_tokens(of_tokens: TrainedModel) -> None:
    assert of_tokens.classify([["x y", "z"]])[0]["label"] in "uv"
    assert of_tokens.generate("u", 2, prefix=["z", "x y"], max_length=5)[0][:2] == ["z", "x y"]
    assert of_tokens.reader.split_texts(["z z"]) == [["z", "z"]]
    with pytest.raises(InputError, match="sequence 1: wanted a list of tokens, got 'x y z'"):
        of_tokens.classify(["x y z"])
    with pytest.raises(InputError, match="lists of tokens"):
        of_tokens.generate("u", prefix="z")


def test_evaluate_reads_the_labels_of_a_file(
    model: TrainedModel, small_run: SmallRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"text": "abab", "label": "left"}, {"text": "cdxx", "label": "left"}, {"text": "ab"}]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    metrics = model.evaluate(data, num_samples=2)
    labels = [row["label"] for row in model.classify(["abab", "cdxx"])]
    assert metrics["num_rows"] == 3
    assert metrics["accuracy"] == sum(label == "left" for label in labels) / 2
    assert "2 symbols are not in the vocabulary" in caplog.text
    assert model.read(data).y.tolist() == [-1, -1, -1]
    assert model.read(data, labels=True).y.tolist() == [0, 0, -1]


def test_rows_of_another_alphabet_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where pieces spell them in bytes, and nothing is unknown; beside their share in training."""
    rows = [{"text": f"ab ba {i % 7}", "label": "uv"[i % 2]} for i in range(40)]
    trained = load(train(tmp_path, rows, **{"data.vocabulary": "sentencepiece"}))
    assert trained.manifest["summary"]["unseen_share"] == 0.0
    trained.classify(["ab ba 3", "ba ab"])
    assert "of all symbols" not in caplog.text
    trained.classify(["\u0431\u0430 ab"])
    assert re.search(r"\d\d\.\d% of all symbols .*, 0\.0% in training: is it", caplog.text)
    caplog.clear()
    usual = dataclasses.replace(trained, manifest={"summary": {"unseen_share": 0.2}})
    usual.classify(["\u0431\u0430 ab"])
    assert "of all symbols" not in caplog.text


def test_weights_that_do_not_match_the_config_are_refused(
    small_run: SmallRun, tmp_path: Path
) -> None:
    """No file is corrupt, but the settings or the weights are another run's."""
    contents = load_run(small_run[0])
    for changes, message in (
        ({"model.decoder_size": 5}, r"weights.safetensors: wanted decoder\..* of shape .*, got \["),
        ({"model.decoder_layers": 2}, r"weights.safetensors: wanted the weights .* got none: dec"),
        ({"model.feed_z": False, "model.cell": "gru"}, "weights.safetensors: wanted "),
        ({"model.ngram_buckets": 0}, r"weights.safetensors: wanted .* got .*"),
    ):
        folder = tmp_path / "".join(changes)
        other = override(contents.config, changes)
        save_run(folder, dataclasses.replace(contents, config=other))
        with pytest.raises(InputError, match=message) as caught:
            load(folder)
        assert "\n" not in str(caught.value)
    few = {k: v for k, v in contents.weights.items() if not k.startswith("decoder.rnn")}
    save_run(tmp_path / "few", dataclasses.replace(contents, weights=few))
    with pytest.raises(InputError, match=r"wanted the weights of the config, got none: decoder"):
        load(tmp_path / "few")
    whole = {k: v.long() if v.dim() else v for k, v in contents.weights.items()}
    save_run(tmp_path / "whole", dataclasses.replace(contents, weights=whole))
    with pytest.raises(InputError, match=r"weights.safetensors: wanted .* got .* of I64"):
        load(tmp_path / "whole")


def test_ngram_tables_of_another_length_are_loaded_and_damaged_ones_refused(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checksums are valid; what the tables hold is not, or there is more than a table may have."""
    contents, prefix = load_run(small_run[0]), "decoder.ngrams."
    keys, counts, sizes = (contents.weights[prefix + n] for n in ("keys", "counts", "sizes"))
    for number, (changes, message) in enumerate((
        ({"keys": keys.flip(0)}, "wanted the weights .* got .*keys: wanted ascending"),
        ({"counts": -counts}, "wanted the weights .* got .*counts: wanted finite"),
        ({"sizes": sizes + 1}, "wanted the weights .* got .*sizes: wanted a sum of"),
        ({"sizes": sizes[1:]}, r"sizes of shape \[6\], got \[5\]"),
        ({"counts": counts[:, :1]}, r"counts of shape \[.*, 2\], got \[.*, 1\]"),
        ({"keys": keys[:, None]}, r"keys of shape \[.*\], got \[.*, 1\] of I64"),
        ({"keys": keys.double()}, r"wanted .*keys of shape .*, got .* of F64"),
    )):  # fmt: skip
        named = {prefix + name: value for name, value in changes.items()}
        folder = tmp_path / str(number)
        save_run(folder, dataclasses.replace(contents, weights={**contents.weights, **named}))
        with pytest.raises(InputError, match=message) as caught:
            load(folder)
        assert "\n" not in str(caught.value)
    none = {"keys": keys[:0], "counts": counts[:0], "sizes": 0 * sizes}
    none = {prefix + name: value for name, value in none.items()}
    save_run(tmp_path / "none", dataclasses.replace(contents, weights={**contents.weights, **none}))
    assert load(tmp_path / "none").generate("left", 2)
    monkeypatch.setattr("seqssvae.model.build.MAX_NGRAMS", len(keys) // 6 - 1)
    with pytest.raises(InputError, match=r"wanted decoder.ngrams.keys of shape \[.*\], got \["):
        load(small_run[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"model.encoder_size": 10**9},
        {"model.decoder_size": 200_000},
        {"model.embedding_size": 10**9, "model.encoder_layers": 64},
        {"model.latent_size": 10**9},
    ],
)
def test_a_config_of_huge_tensors_is_refused_before_they_are_allocated(
    small_run: SmallRun, tmp_path: Path, changes: dict[str, Any]
) -> None:
    contents = load_run(small_run[0])
    save_run(tmp_path, dataclasses.replace(contents, config=override(contents.config, changes)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"(weights.safetensors|config.json): wanted") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_weights_larger_than_the_config_are_not_read(small_run: SmallRun, tmp_path: Path) -> None:
    """A sparse file of a terabyte is refused at once."""
    save_run(tmp_path, load_run(small_run[0]))
    with open(tmp_path / "weights.safetensors", "r+b") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match=r"weights.safetensors: wanted at most \d+ bytes for the"):
        load(tmp_path)


def test_every_refusal_is_one_line_and_exit_2(
    small_run: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(word: str) -> None:
        assert word in refusal(main, ["classify", str(tmp_path / "run"), "abab"], capsys)

    run = tmp_path / "run"
    shutil.copytree(small_run[0], run)
    assert main(["classify", str(run), "abab"]) == 0
    capsys.readouterr()
    torch.save({"a": torch.ones(2)}, run / "model.pt")
    refused("model.pt")
    (run / "model.pt").unlink()
    (run / "more").symlink_to(tmp_path)
    refused("more")
    (run / "more").unlink()
    for name in ("config.json", "weights.safetensors", "manifest.json"):
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        refused(name)
        (run / name).write_bytes(content)
    text = (run / "manifest.json").read_text()
    (run / "manifest.json").write_text(text.replace('"format": 3', '"format": 4'))
    refused("wanted format 3, got 4")
