"""p(x | y) of a grammar against brute force over sequences and state paths; its files; its command.

Every sum here is in float64 and of few terms.
"""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from data.prepare_grammar import (
    Grammar,
    Source,
    load_grammar,
    main,
    make_grammar,
    measure,
    prepare,
)
from tests.support.commands import assert_refused, refusal, run_data_script

ROOT = Path(__file__).parent.parent
FILES = ["test.jsonl", "test_log_prob.jsonl", "train.jsonl", "truth.json"]


def random_source(
    seed: int, *, num_states: int, num_symbols: int, shortest: int, stop: float
) -> Source:
    """Any hidden Markov model, with no structure."""
    rng = np.random.default_rng(seed)
    return Source(
        start=rng.dirichlet(np.ones(num_states)),
        transition=rng.dirichlet(np.ones(num_states), size=num_states),
        emission=rng.dirichlet(np.ones(num_symbols), size=num_states),
        shortest=shortest,
        stop=stop,
    )


def enumerated(source: Source, ids: tuple[int, ...]) -> float:
    """p(x | y) as the sum over all paths of states, each a plain product."""
    total = 0.0
    for path in itertools.product(range(len(source.start)), repeat=len(ids)):
        p = 1.0
        for t, (state, symbol) in enumerate(zip(path, ids, strict=True)):
            p *= source.transition[path[t - 1], state] if t else source.start[state]
            p *= source.emission[state, symbol]
            if t + 1 >= source.shortest:
                p *= source.stop if t + 1 == len(ids) else 1 - source.stop
            elif t + 1 == len(ids):
                p = 0.0
        total += p
    return total


def sequences(num_symbols: int, longest: int) -> list[tuple[int, ...]]:
    return [
        ids
        for length in range(1, longest + 1)
        for ids in itertools.product(range(num_symbols), repeat=length)
    ]


@pytest.mark.parametrize("shortest", [1, 3])
def test_forward_equals_the_sum_over_state_paths(shortest: int) -> None:
    source = random_source(1, num_states=3, num_symbols=2, shortest=shortest, stop=0.3)
    for ids in sequences(2, 5):
        assert math.exp(source.log_prob(ids)) == pytest.approx(enumerated(source, ids), rel=1e-12)


@pytest.mark.parametrize("stop", [0.2, 1.0])
@pytest.mark.parametrize("shortest", [1, 3])
def test_all_sequences_and_the_unfinished_mass_sum_to_one(shortest: int, stop: float) -> None:
    longest = 6
    source = random_source(2, num_states=2, num_symbols=3, shortest=shortest, stop=stop)
    finished = sum(math.exp(source.log_prob(ids)) for ids in sequences(3, longest))
    assert finished + (1 - stop) ** (longest - shortest + 1) == pytest.approx(1, abs=1e-12)


def test_a_markov_chain_is_a_product_of_transitions() -> None:
    grammar = make_grammar(kind="markov", num_classes=2, alphabet_size=4, shortest=1, stop=0.3)
    for y, source in enumerate(grammar.sources):
        for ids in sequences(4, 4):
            p = source.start[ids[0]] * 0.3 * 0.7 ** (len(ids) - 1)
            for before, after in itertools.pairwise(ids):
                p *= source.transition[before, after]
            got = grammar.log_prob([grammar.symbols[i] for i in ids])[y]
            assert got == pytest.approx(math.log(p), abs=1e-12)


def test_impossible_sequences() -> None:
    grammar = make_grammar(shortest=3, noise=0)
    assert np.all(np.isneginf(grammar.log_prob([])))
    assert np.all(np.isneginf(grammar.log_prob(["a", "b"])))
    assert np.all(np.isneginf(grammar.log_prob(["a"] * 3)[:2]))  # no symbol follows itself there
    with pytest.raises(ValueError, match="token 2: wanted one of a b .*, got 'z'"):
        grammar.log_prob(["a", "z", "b"])


def test_samples_are_as_frequent_as_their_probability() -> None:
    source = random_source(3, num_states=2, num_symbols=2, shortest=1, stop=0.5)
    rng = np.random.default_rng(0)
    num_draws = 20_000
    drawn = [tuple(source.sample(rng)) for _ in range(num_draws)]
    for ids in sequences(2, 3):
        p = math.exp(source.log_prob(ids))
        error = math.sqrt(p * (1 - p) / num_draws)
        assert abs(drawn.count(ids) / num_draws - p) < 4 * error


@pytest.mark.parametrize("shortest", [1, 4])
def test_samples_are_at_least_the_shortest_and_of_the_stated_mean(shortest: int) -> None:
    grammar = make_grammar(shortest=shortest, stop=0.25)
    rng = np.random.default_rng(0)
    lengths = np.array([len(grammar.sample(y, rng)) for y in range(4) for _ in range(1000)])
    assert lengths.min() == shortest
    assert lengths.mean() == pytest.approx(shortest + 3, abs=4 * lengths.std() / 4000**0.5)


@pytest.mark.parametrize("kind", ["markov", "hmm", "both"])
def test_without_noise_every_symbol_is_as_frequent_as_another(kind: str) -> None:
    grammar = make_grammar(kind=kind, alphabet_size=10, num_states=5, noise=0)  # type: ignore[arg-type]
    for source in grammar.sources:
        states = source.start
        for _ in range(3):
            np.testing.assert_allclose(states @ source.emission, 0.1, atol=1e-12)
            states = states @ source.transition


def test_classes_are_of_the_wanted_kinds() -> None:
    assert make_grammar(num_classes=3).labels == ("markov-1", "markov-2", "hmm-1")
    assert make_grammar(kind="hmm", num_classes=2).labels == ("hmm-1", "hmm-2")
    for label, source in zip(make_grammar().labels, make_grammar().sources, strict=True):
        assert np.array_equal(source.emission, np.eye(8)) == label.startswith("markov")
        for rows in (source.start[None], source.transition, source.emission):
            np.testing.assert_allclose(rows.sum(1), 1, atol=1e-12)


def test_measured_entropy_is_the_known_one() -> None:
    """One chain without noise: its entropy has a closed form."""
    grammar = make_grammar(kind="markov", num_classes=1, shortest=2, stop=0.25, noise=0)
    rng = np.random.default_rng(0)
    figures, _ = measure(grammar, [(grammar.sample(0, rng), 0) for _ in range(4000)])
    row = grammar.sources[0].transition[0]
    of_a_step = -sum(p * math.log(p) for p in row if p > 0)
    of_the_end = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / 0.25
    entropy = math.log(8) + (2 + 3 - 1) * of_a_step + of_the_end
    error = figures["entropy_nats_standard_error"]
    assert 0 < error < 0.1
    assert abs(figures["entropy_nats"] - entropy) < 4 * error
    assert figures["bayes_accuracy"] == 1
    assert figures["entropy_nats_per_symbol"] == pytest.approx(
        figures["entropy_nats"] / (figures["mean_symbols"] + 1)
    )


def test_bayes_accuracy_is_the_mean_of_the_largest_posterior() -> None:
    grammar = make_grammar(noise=0.4)
    rng = np.random.default_rng(0)
    rows = [(grammar.sample(y, rng), y) for y in rng.integers(4, size=1500)]
    figures, log_prob = measure(grammar, rows)
    posterior = np.exp(log_prob) / np.exp(log_prob).sum(1, keepdims=True)
    expected = posterior.max(1).mean()
    assert abs(figures["bayes_accuracy"] - expected) < 4 * figures["bayes_accuracy_standard_error"]
    nats = -np.log(np.exp(log_prob).mean(1))
    assert figures["entropy_nats"] == pytest.approx(nats.mean(), rel=1e-10)


def unigram_accuracy(grammar: Grammar, num_rows: int) -> float:
    """Accuracy of counting symbols, with each class's true frequencies (nearly)."""
    rng = np.random.default_rng(1)

    def draw(number: int) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float64]], list[int]]:
        ys = rng.integers(len(grammar.labels), size=number).tolist()
        rows = [grammar.sample(y, rng) for y in ys]
        return np.array([[row.count(s) for s in grammar.symbols] for row in rows], float), ys

    counts, ys = draw(num_rows)
    frequencies = np.array(
        [counts[np.array(ys) == y].sum(0) + 1 for y in range(len(grammar.labels))]
    )
    logits = np.log(frequencies / frequencies.sum(1, keepdims=True))
    counts, ys = draw(num_rows)
    return float(((counts @ logits.T).argmax(1) == ys).mean())


def test_the_default_grammar_is_neither_trivial_nor_hopeless(tmp_path: Path) -> None:
    grammar = make_grammar()
    truth = prepare(grammar, tmp_path, num_train=1, num_test=1000, seed=0)
    assert 0.93 <= truth["bayes_accuracy"] <= 0.98
    assert unigram_accuracy(grammar, 1000) < 0.6


def test_files_agree_with_the_grammar_beside_them(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), "--train", "30", "--test", "20", "--noise", "0.3"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    truth = json.loads((tmp_path / "truth.json").read_text())
    grammar = load_grammar(tmp_path / "truth.json")
    made = make_grammar(noise=0.3)
    assert grammar.to_mapping() == made.to_mapping() == truth["grammar"]
    rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    scores = (tmp_path / "test_log_prob.jsonl").read_text().splitlines()
    right = []
    for row, line in zip(rows, scores, strict=True):
        score = json.loads(line)
        assert list(score) == list(grammar.labels)
        np.testing.assert_allclose(list(score.values()), grammar.log_prob(row["tokens"]))
        right.append(max(score, key=lambda label: score[label]) == row["label"])
    assert truth["bayes_accuracy"] == pytest.approx(np.mean(right))
    assert truth["rows"] == {"train": 30, "test": len(rows)} == {"train": 30, "test": 20}
    train = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert len(train) == 30 and {row["label"] for row in train} <= set(grammar.labels)


def test_a_label_that_never_emits_a_row_has_null(tmp_path: Path) -> None:
    grammar = make_grammar(kind="markov", noise=0)
    prepare(grammar, tmp_path, num_train=1, num_test=5, seed=0)
    for line in (tmp_path / "test_log_prob.jsonl").read_text().splitlines():
        assert None in json.loads(line).values()


def test_the_seed_decides(tmp_path: Path) -> None:
    for name, seed, train in (("a", "3", "9"), ("b", "3", "9"), ("c", "3", "5"), ("d", "4", "9")):
        folder = str(tmp_path / name)
        assert main(["--out", folder, "--train", train, "--test", "9", "--seed", seed]) == 0
    read = {
        folder: {name: (tmp_path / folder / name).read_bytes() for name in FILES}
        for folder in "abcd"
    }
    assert read["a"] == read["b"]
    assert read["c"]["test.jsonl"] == read["a"]["test.jsonl"]
    assert read["d"]["test.jsonl"] != read["a"]["test.jsonl"]
    assert read["a"]["train.jsonl"] != read["a"]["test.jsonl"]  # streams of their own


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "0"], "--classes: wanted 1 to 1000, got 0"),
        (["--states", "9"], "--states: wanted 2 to 8, got 9"),
        (["--stop", "0"], "--stop: wanted 1e-06 to 1, got 0.0"),
        (["--noise", "nan"], "--noise: wanted 0 to 1, got nan"),
        (["--seed", "-1"], "--seed: wanted 0 to"),
        (["--test", "0"], "--test: wanted at least 1 row, got 0"),
        (["--kind", "grammar"], "invalid choice: 'grammar'"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(main, options, message, tmp_path / "new", capsys)


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("here")
    options = ["--out", str(tmp_path / "file"), "--train", "1", "--test", "1"]
    assert "file: wanted to write it, got File exists" in refusal(main, options, capsys)
    assert (tmp_path / "file").read_text() == "here"


def test_runs_as_a_script(tmp_path: Path) -> None:
    options = ["--out", tmp_path, "--train", 4, "--test", 4, "--kind", "markov"]
    assert "bayes_accuracy" in run_data_script("prepare_grammar.py", *options, folder=tmp_path)
