"""Every experiment, small."""

import functools
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.benchmarks.baselines import Networks, PyroStep, TorchStep
from experiments.benchmarks.step import LATENT_SIZE, Setting, make_batch, make_model
from seqssvae.config import Config
from seqssvae.estimators import FusedEnum
from seqssvae.overrides import override
from seqssvae.training.fit import fit
from tests.support.fixtures import FixNoise
from tests.support.processes import run_script
from tests.support.rows import write_rows

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
SYLLABLES = {
    "en": ["th", "ow", "w", "ee"],
    "fi": ["yö", "kk", "ä", "yy"],
    "pl": ["sz", "cz", "ż", "ą"],
}


def write_words(path: Path, num_words: int) -> list[dict[str, str]]:
    """Short words of three languages, which share no letter, the languages in turn."""
    syllables = [itertools.product(own, repeat=2) for own in SYLLABLES.values()]
    rows = [
        {"text": "".join(word), "label": label}
        for words in itertools.islice(zip(*syllables, strict=True), num_words)
        for label, word in zip(SYLLABLES, words, strict=True)
    ]
    write_rows(path, rows)
    return rows


def run_experiment(name: str, *words: object, folder: Path) -> str:
    """Run an experiment; returns what it prints."""
    return run_script(EXPERIMENTS / name, *words, folder=folder)


def last_json(printed: str) -> Any:
    """The JSON that an experiment prints last."""
    return json.loads(printed.splitlines()[-1])


def test_the_demo_prints_its_table_new_words_and_transfers(tmp_path: Path) -> None:
    """`demo.py` trains, compares, generates and transfers."""
    write_words(tmp_path / "train.jsonl", 15)
    test_rows = write_words(tmp_path / "test.jsonl", 5)
    shown = run_experiment(
        "demo.py", "--train", "train.jsonl", "--test", "test.jsonl", "--out", "run",
        "--labels-per-class", 5, "--steps", 20, folder=tmp_path,
    )  # fmt: skip
    table, new, transferred = re.split(r"\n(?:new words|words transferred.*)\n", shown)
    assert "15 held-out words, 3 languages, 5 labelled and 10 unlabelled words each" in table
    accuracies = re.findall(r"^(\S.*?) +(\d+\.\d)% +\d+$", table, re.MULTILINE)
    assert [re.split("[,:]", title)[0] for title, _ in accuracies] == [
        "TF-IDF of characters",
        "naive Bayes of characters",
        "M2 alone",
        "the teacher alone",
        "the whole SS-VAE",
    ]
    assert all(0 <= float(accuracy) <= 100 for _, accuracy in accuracies)
    assert float(accuracies[0][1]) == float(accuracies[3][1]) == 100.0
    by_mode = re.findall(r"(q\(y\|x\)|Bayes' rule|both) (\d+\.\d)%", table.splitlines()[-1])
    assert len(by_mode) == 3 and accuracies[4][1] in dict(by_mode).values()

    generated = [line.split()[0] for line in new.splitlines() if line]
    assert generated == sorted(SYLLABLES)
    assert max(len(line.split()) for line in new.splitlines()) > 3

    labels = {row["text"]: row["label"] for row in test_rows}
    moves = re.findall(r"^  (\w+) (\w+)  ->  (\w+) .*$", transferred, re.MULTILINE)
    assert len(moves) == 5
    for own, word, to in moves:
        assert labels[word] == own != to and to in SYLLABLES
    assert (tmp_path / "run" / "manifest.json").exists()


def test_the_variance_of_every_estimator_is_measured_and_drawn(tmp_path: Path) -> None:
    """`estimator_variance.py` prints a row an estimator, and exact ones show no bias."""
    shown = run_experiment(
        "estimator_variance.py", "--classes", 3, "--draws", 3, "--rows", 2, "--length", 4,
        "--symbols", 3, "--size", 4, "--out", "table", folder=tmp_path,
    )  # fmt: skip
    rows = json.loads((tmp_path / "table" / "table.json").read_text())["rows"]
    assert len(rows) == 2 * len({row["estimator"] for row in rows}) > 20
    assert all(row["estimator"] in shown and row["seconds"] > 0 for row in rows)
    summed = [r for r in rows if r["estimator"] in ("fused-enum", "sum-and-sample k=3")]
    assert len(summed) == 4  # each draws noise of its own
    assert all(row["bias"] < 2 * row["bias_by_chance"] for row in summed)
    assert all(row["variance"] > 0 for row in rows)
    assert (tmp_path / "table" / "variance.png").stat().st_size > 10_000


def test_every_estimator_meets_the_grammar(tmp_path: Path) -> None:
    """`grammar.py` measures accuracy and NLL beside the truth."""
    from data.prepare_grammar import main as prepare_grammar

    folder = tmp_path / "grammar"
    prepare_grammar(["--out", str(folder), "--train", "120", "--test", "40"])
    shown = run_experiment(
        "grammar.py", "--data", folder, "--estimators", "fused-enum", "score-function",
        "--steps", 3, "--out", "table", "--m2", folder=tmp_path,
    )  # fmt: skip
    table = json.loads((tmp_path / "table" / "table.json").read_text())
    assert table["settings"]["model.ngram_buckets"] == 0
    rows = table["rows"]
    assert [row["estimator"] for row in rows] == ["fused-enum", "score-function"]
    truth = json.loads((folder / "truth.json").read_text())
    for row in rows:
        assert row["of_bayes"] == row["accuracy"] / truth["bayes_accuracy"]
        assert row["excess"] > 0.1  # three steps teach little
        assert row["excess_standard_error"] > 0 and row["estimator"] in shown


QUICK = [
    "--training.num_steps", 3, "--objective.kl_warmup_steps", 2, "--model.encoder_size", 4,
    "--model.decoder_size", 4, "--model.embedding_size", 4, "--model.ngram_buckets", 64,
]  # fmt: skip


def test_vectors_are_compared_with_the_parts(tmp_path: Path) -> None:
    """`vectors.py`: vectors that tell all are enough; finished jobs are not run again."""
    (tmp_path / "words").mkdir()
    for part, num_words in (("train", 15), ("test", 5)):
        rows = write_words(tmp_path / "words" / f"{part}.jsonl", num_words)
        y = [list(SYLLABLES).index(row["label"]) for row in rows]
        np.save(tmp_path / f"words-{part}.npy", np.eye(3)[y])
    words = [
        tmp_path, "words=15", "--vectors", tmp_path, "--draws", 1, "--jobs", 2,
        "--out", "found.jsonl", *QUICK,
    ]  # fmt: skip
    shown = run_experiment("vectors.py", *words, folder=tmp_path)
    (row,) = re.findall(r"^\| words \| 15 \| (.*) \|$", shown, re.MULTILINE)
    *cells, error = re.split(" [|±] ", row)
    regression, without, both, above = map(float, cells)
    assert regression == 100 and both > 90 and above == pytest.approx(both - 100, abs=0.06)
    assert float(error) == 0  # of one draw
    lines = (tmp_path / "found.jsonl").read_text()
    again = run_experiment("vectors.py", *words, folder=tmp_path)
    assert shown.endswith(again) and (tmp_path / "found.jsonl").read_text() == lines
    cut = run_experiment("vectors.py", *words[: -len(QUICK)], "--cut", 9, *QUICK, folder=tmp_path)
    assert "| words | 15 | 100.0 |" in cut and without <= 100


def test_old_classes_are_compared_before_and_after(tmp_path: Path) -> None:
    """`more_classes.py`: words of other syllables are told apart; finished draws are kept."""
    (tmp_path / "words").mkdir()
    write_words(tmp_path / "words" / "train.jsonl", 15)
    write_words(tmp_path / "words" / "test.jsonl", 5)
    words = ["words=15", "--folder", tmp_path, "--new", 1, "--draws", 1, "--out", "found", *QUICK]
    shown = run_experiment("more_classes.py", *words, folder=tmp_path)
    (row,) = re.findall(r"^\| words \| 15 \| 1 \| (.*) \|$", shown, re.MULTILINE)
    assert all(float(points) > 50 for points in row.split(" | "))
    lines = (tmp_path / "found" / "words.jsonl").read_text()
    assert run_experiment("more_classes.py", *words, folder=tmp_path) == shown
    assert (tmp_path / "found" / "words.jsonl").read_text() == lines


def test_arms_are_compared_over_sets(tmp_path: Path) -> None:
    """`sets.py` names the best arm of each kind; finished cells are not run again."""
    for name, num_words in (("first", 15), ("second", 12)):
        (tmp_path / name).mkdir()
        write_words(tmp_path / name / "train.jsonl", num_words)
        write_words(tmp_path / name / "test.jsonl", 5)
    words = [
        tmp_path, "first=15,30", "second=15:macro_f1", "--draws", 1, "--out", "found",
        "--arms", "tfidf-lr-characters,nb-words,supervised,teacher", *QUICK,
    ]  # fmt: skip
    shown = run_experiment("sets.py", *words, folder=tmp_path)
    cells = re.findall(r"^\| (first|second) \| (\d+) \| (.*) \|$", shown, re.MULTILINE)
    assert [(name, labels) for name, labels, _ in cells] == [
        ("first", "15"), ("first", "30"), ("second", "15")
    ]  # fmt: skip
    lines = (tmp_path / "found" / "second.jsonl").read_text().splitlines()
    records = {record["arm"]: record for record in map(json.loads, lines)}
    assert list(records) == ["tfidf-lr-characters", "nb-words", "supervised", "teacher", "ssvae"]
    points = {arm: 100 * record["macro_f1"] for arm, record in records.items()}
    cheap = max(["tfidf-lr-characters", "nb-words"], key=points.__getitem__)
    best, ours = max(points[cheap], points["supervised"]), points["ssvae"]
    assert cells[2][2] == (
        f"{cheap} | {points[cheap]:.1f} | supervised | {points['supervised']:.1f} |  | "
        f"{points['teacher']:.1f} | {ours:.1f} | {ours - best:+.1f} | "
        f"{ours - points['teacher']:+.1f} | {records['ssvae']['calibration_error']:.3f}"
    )
    differences, gains, errors = (
        [float(cell[2].split(" | ")[at]) for cell in cells] for at in (-3, -2, -1)
    )
    ahead, behind = sum(d >= 2 for d in differences), sum(d < -1 for d in differences)
    assert f"in {ahead}, more than 1 behind the best in {behind}" in shown
    mean, least = re.findall(r"teacher: (.*) in the mean, at least (.*)", shown)[0]
    assert abs(float(mean) - sum(gains) / 3) < 0.11 and float(least) == min(gains)
    (mean,) = re.findall(r"error of the SS-VAE: (.*) in the mean", shown)
    assert abs(float(mean) - sum(errors) / 3) < 0.0011
    assert run_experiment("sets.py", *words, folder=tmp_path) == shown
    assert (tmp_path / "found" / "second.jsonl").read_text().splitlines() == lines


def test_rounds_of_labelling_are_compared(tmp_path: Path) -> None:
    """`suggest.py` begins each way with the same labels; finished draws are not run again."""
    (tmp_path / "words").mkdir()
    write_words(tmp_path / "words" / "train.jsonl", 15)
    write_words(tmp_path / "words" / "test.jsonl", 5)
    words = [
        tmp_path, "words", "--draws", 2, "--rounds", 2, "--labels", 6, "--out", "found",
        "--data.dev_fraction", 0.5, *QUICK,
    ]  # fmt: skip
    shown = run_experiment("suggest.py", *words, folder=tmp_path)
    lines = (tmp_path / "found" / "words.jsonl").read_text().splitlines()
    records = list(map(json.loads, lines))
    for way in ("random", "margin", "suggest"):
        own = [record for record in records if record["way"] == way]
        assert sorted((one["draw"], one["num_labels"]) for one in own) == [
            (0, 6), (0, 12), (1, 6), (1, 12)
        ]  # fmt: skip
    first = {(one["draw"], one["accuracy"]) for one in records if one["num_labels"] == 6}
    assert len(first) == 2  # of each draw one, whatever the way
    mean = 50 * sum(accuracy for _, accuracy in first)
    assert f"| words | 6 | {mean:.1f} | {mean:.1f} (+0.0 ± 0.0) | {mean:.1f} (+0.0" in shown
    assert run_experiment("suggest.py", *words, folder=tmp_path) == shown
    assert (tmp_path / "found" / "words.jsonl").read_text().splitlines() == lines


def test_answers_are_measured(tmp_path: Path) -> None:
    """`answers.py`: figures of each draw, and their means; finished draws are not run again.

    Of a set with two classes no class is left out.
    """
    for name in ("words", "pair"):
        (tmp_path / name).mkdir()
        for part in ("train", "test"):
            file = tmp_path / name / f"{part}.jsonl"
            write_words(file, 15)
            kept = list(SYLLABLES)[: None if name == "words" else 2]
            lines = file.read_text().splitlines(keepends=True)
            file.write_text("".join(line for line in lines if json.loads(line)["label"] in kept))
    words = (tmp_path, "words=30", "pair=20", "--draws", 2, "--jobs", 2, "--out", "found", *QUICK)
    shown = run_experiment("answers.py", *words, folder=tmp_path)
    lines = (tmp_path / "found" / "words.jsonl").read_text().splitlines()
    records = sorted(map(json.loads, lines), key=lambda record: record["draw"])
    assert [record["new"] for record in records] == ["en", "fi"]
    for record in records:
        assert record["num_held_out"] == 6 and record["coverage"] == 1.0  # all sets are full
        assert record["size"] == record["regression_size"] == 3.0
        assert record["regression_accuracy"] > 0.9 and 0 <= record["calibration"] <= 1
        assert all(0 <= record[name] <= 1 for name in ("new_by_p", "new_by_label", "new_by_forest"))
    a, b = (record["new_by_p"] for record in records)
    mean = f" | {(a + b) / 2:.3f} ± {abs(a - b) / 2:.3f} | "  # its standard error of two draws
    full = "2 | 1.000 ± 0.000"
    starts = (f"words | 30 | {full} | 3.000", f"pair | 20 | {full} | 2.000", "mean |  | 4 |")
    for row, start in zip(shown.splitlines()[2:5], starts, strict=True):
        assert row.startswith(f"| {start}")
        assert row.endswith(" |  |  |  |") == start.startswith("pair")
        assert (mean in row) != start.startswith("pair")
    assert run_experiment("answers.py", *words, folder=tmp_path) == shown
    assert (tmp_path / "found" / "words.jsonl").read_text().splitlines() == lines


def test_generated_sequences_are_timed(tmp_path: Path) -> None:
    """`benchmarks/generate.py` has a row for each way, relative to ours."""
    write_words(tmp_path / "rows.jsonl", 15)
    settings = override(Config(), {"data.unlabelled_only": True, "training.num_steps": 2})
    fit(settings, tmp_path / "rows.jsonl", tmp_path / "run")
    shown = run_experiment(
        "benchmarks/generate.py", "run", "-n", 40, "--batch", 30, "--repeats", 1, folder=tmp_path
    )
    rows = [line.split(" | ") for line in shown.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| ours", "| plain", "| dropping"]
    assert rows[0][3] == "1.00 |" and all(float(row[3].rstrip(" |")) > 0 for row in rows)


@pytest.mark.usefixtures("molecule_packages")
def test_molecules_are_measured(tmp_path: Path) -> None:
    """`molecules.py`: of the reference itself, and of a run with labels and one without."""
    write_rows(
        tmp_path / "rows.jsonl",
        [
            {"tokens": ["C"] * num + ["O"], "label": label}
            for num, label in enumerate(("low", "middle", "high"), start=2)
            for _ in range(10)
        ],
    )
    (tmp_path / "terciles.json").write_text('{"property": "logp", "bounds": [1.5, 2.5]}')
    for plain in (True, False):
        settings = {"data.unlabelled_only": plain, "training.num_steps": 2}
        fit(override(Config(), settings), tmp_path / "rows.jsonl", tmp_path / f"run-{plain}")
    words = ("--reference", "rows.jsonl", "-n", 200, "--out", "found.jsonl", "--real")
    shown = run_experiment("molecules.py", "run-True", "run-False", *words, folder=tmp_path)
    lines = (tmp_path / "found.jsonl").read_text().splitlines()
    assert shown.splitlines()[:3] == lines and len(shown.splitlines()) == 8
    real, plain_run, labelled = map(json.loads, lines)
    assert real["valid"] == real["in_tercile"] == real["middle"] == 1 and real["unique@1k"] == 0.1
    # MOSES has two of the three; they have 4 symbols on average, those of its test set 29 / 8
    assert real["novel"] == pytest.approx(1 / 3) and real["fcd"] == pytest.approx(4 - 29 / 8)
    assert plain_run["rows_seen"] == 2 * 64 and labelled["rows_seen"] == 2 * 96
    assert "in_tercile" not in plain_run and labelled["low"] + labelled["high"] > 0
    for found in (plain_run, labelled):
        assert 0 < found["valid"] < 1 and found["mutual_information"] >= 0
        assert found["unique@1k"] == found["unique@10k"]


SACREBLEU = """
from types import SimpleNamespace
def corpus_bleu(texts, references, tokenize, force):
    right = [text in one for text, one in zip(texts, zip(*references, strict=True), strict=True)]
    return SimpleNamespace(score=100 * sum(right) / len(right))
"""


def test_sentences_are_rewritten_beside_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`style_transfer.py`: a stand-in for BLEU is the share of texts that are a reference."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "sacrebleu.py").write_text(SACREBLEU)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    words = {"good": ("fine", "nice", "super"), "bad": ("awful", "poor", "grim")}
    texts = [(f"{one} {thing}", y) for y in words for one in words[y] for thing in "abcdefgh"]
    rows = [{"text": text, "label": label} for text, label in texts]
    write_rows(tmp_path / "train.jsonl", rows)
    write_rows(tmp_path / "test.jsonl", rows[2:])
    (tmp_path / "transfer.jsonl").write_text(
        "".join(
            json.dumps({**row, "to": to, "references": references}) + "\n"
            for row, to, references in (
                (rows[0], "bad", ["Poor a", "grim a", "?"]),
                (rows[1], "bad", ["Fine b", "poor b"]),
            )
        )
    )
    shown = run_experiment(
        "style_transfer.py", ".", "--num-labels", 40, "--out", "written.jsonl",
        "--training.num_steps", 5, folder=tmp_path,
    )  # fmt: skip
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()]
    assert [line[0] for line in lines[2:]] == ["the source", "a person", "40 labels"]
    assert lines[2][1:3] == ["0.0", "50.0"] and lines[2][5] == "100.0"  # one is a reference
    assert lines[3][1] == "50.0" and lines[3][2] == "0.0"  # "Fine b" is good
    written = list(map(json.loads, (tmp_path / "written.jsonl").read_text().splitlines()))
    assert [one["from"] for one in written] == ["fine a", "fine b"]
    share = 100 * np.mean([one["text"].split()[0] in words["bad"] for one in written])
    assert float(lines[4][1]) == share


def test_the_vae_is_compared_with_a_language_model(tmp_path: Path) -> None:
    """`language_modelling.py` trains three models by rows, each on the same ones; none twice."""
    for part in ("train", "test"):
        (tmp_path / "words").mkdir(exist_ok=True)
        write_words(tmp_path / "words" / f"{part}.jsonl", 15)
    flags = ["--rows", 30, 1000, "--samples", 4, "--out", "out", *QUICK]
    call = functools.partial(
        run_experiment, "language_modelling.py", ".", "words=12,0", *flags, folder=tmp_path
    )
    shown = call()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()[2:]]
    names = ["VAE", "VAE without n-grams", "language model"]
    assert [line[:3] for line in lines] == [
        ["words", rows, name] for rows in ("30", "45") for _ in (12, 0) for name in names
    ]
    for line in lines:
        kl, active, nll = float(line[6]), int(line[8]), float(line[3])
        assert nll > 10
        assert nll < 25 or line[2] != "VAE"  # five symbols and EOS of about 16
        assert kl == active == 0 if line[2] == "language model" else kl > 0
    for vae, _, plain in (lines[i : i + 3] for i in range(0, len(lines), 3)):
        gain = float(vae[5].split()[0])
        assert abs(gain - 100 * (float(vae[3]) / float(plain[3]) - 1)) < 0.15
    assert len((tmp_path / "out" / "words.jsonl").read_text().splitlines()) == len(lines)
    assert call() == shown  # from the results


def test_decoders_of_as_many_weights_are_compared(tmp_path: Path) -> None:
    """`decoders.py`: the Transformer of the documentation is at most a tenth larger or smaller."""
    write_words(tmp_path / "words.jsonl", 15)
    flags = [*QUICK, "--model.decoder_size", 96]
    shown = run_experiment("decoders.py", "words.jsonl", *flags, folder=tmp_path)
    rows = re.findall(r"^\| words \| (\d) \| (\w+) \| ([\d,]+) \| ([\d.]+) ", shown, re.MULTILINE)
    assert [row[:2] for row in rows] == [
        (order, name) for order in "05" for name in ("recurrent", "Transformer")
    ]
    sizes = [int(row[2].replace(",", "")) for row in rows]
    for recurrent, other in (sizes[:2], sizes[2:]):
        assert abs(other / recurrent - 1) < 0.1
    assert all(0.5 < float(row[3]) < 10 for row in rows)  # hardly trained


def test_growth_of_memory_is_measured(tmp_path: Path) -> None:
    """`soak.py` runs its rounds, and fails where memory grew by more than the limit."""
    shown = run_experiment(
        "soak.py", "--minutes", 0, "--rows", 12, "--steps", 2, "--limit", 1000, folder=tmp_path
    )
    result = last_json(shown)
    assert result["rounds"] == 4 == shown.count("round ") and result["megabytes"] > 50
    assert result["grew"] is False


def test_growth_in_per_cent() -> None:
    from experiments.soak import growth

    assert growth([100, 100, 100, 100]) == 0
    assert abs(growth([100.0, 500.0, 103.0]) - 3) < 1e-9
    assert abs(growth([90, 110, 1, 1, 1, 1, 120, 130]) - 25) < 1e-9


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_baselines_have_our_value_and_gradient(cell: str, fix_noise: FixNoise) -> None:
    """`baselines.py`, with our weights and noise, has our value and gradient."""
    setting = Setting(12, 3, 3, 5, 4)
    ssvae, batch = make_model(setting, cell), make_batch(setting)
    networks = Networks(
        cell=cell, vocabulary_size=12, num_classes=3, size=4, latent_size=LATENT_SIZE
    )
    networks.copy_weights(ssvae)
    noise = torch.randn(1, LATENT_SIZE)
    fix_noise(noise)
    losses = {
        True: [TorchStep(networks).loss(batch.x, batch.lengths, noise)],
        False: [
            PyroStep(networks, strategy).loss(batch.x, batch.lengths)
            for strategy in ("parallel", "sequential")
        ],
    }
    for analytic, found in losses.items():
        elbo = FusedEnum(analytic_kl=analytic)
        want = elbo.differentiable_loss(ssvae.model, ssvae.guide, batch)
        (gradient,) = torch.autograd.grad(want, [ssvae.get_parameter("decoder.rnn.weight_hh_l0")])
        for loss in found:
            torch.testing.assert_close(loss, want, rtol=0, atol=1e-10)
            (mine,) = torch.autograd.grad(loss, [networks.get_parameter("decoder.weight_hh_l0")])
            torch.testing.assert_close(mine, gradient, rtol=0, atol=1e-10)


def test_the_step_is_measured_beside_its_baselines(tmp_path: Path) -> None:
    """`step.py`, with `measure.py`: every figure is there and above 0."""
    shown = run_experiment(
        "benchmarks/step.py", "--settings", "20,2,3,4,8", "--repeats", 1, "--json", "--markdown",
        folder=tmp_path,
    )  # fmt: skip
    assert shown.splitlines()[2].startswith("| 20, 2, 3, 4, 8 |")
    (record,) = last_json(shown)["settings"]
    assert [record[key] for key in "VKBTH"] == [20, 2, 3, 4, 8]
    wanted = {"ours_s", "pyro_s", "torch_s", "limit_s", "pyro_lstm_s", "pyro_sequential_s"}
    wanted |= {"sum_and_sample_s", "ours_gru_s", "ours_mb", "pyro_mb", "torch_mb"}
    assert wanted <= set(record)
    assert all(record[key] > 0 for key in wanted if key.endswith("_s"))


def test_growth_is_measured(tmp_path: Path) -> None:
    """`scaling.py` prints a line for each size."""
    shown = run_experiment(
        "benchmarks/scaling.py", "--start", 30, 2, 2, 4, 4, "--most", 1, "--repeats", 1, "--json",
        folder=tmp_path,
    )  # fmt: skip
    (record,) = last_json(shown)["sizes"]
    assert (record["grows"], record["K"], record["V"]) == ("K", 1, 30)
    assert record["ours_s"] > 0 and record["gradients_mb"] > 0


def test_the_teacher_is_measured(tmp_path: Path) -> None:
    """`teacher.py` prints a line for each size, with the time of each part."""
    shown = run_experiment(
        "benchmarks/teacher.py", "--size", 2, 60, 20, "--size", 3, 60, 30, "--json",
        folder=tmp_path,
    )  # fmt: skip
    first, second = last_json(shown)["sizes"]
    assert (first["classes"], first["labels"], second["classes"]) == (2, 20, 3)
    assert len(shown.splitlines()) == 5
    assert all(first["teacher"] > first[part] > 0 for part in ("read", "n-grams", "regression"))


def test_use_is_measured(tmp_path: Path) -> None:
    """`use.py` classifies, generates and starts."""
    shown = run_experiment(
        "benchmarks/use.py", "--rows", 200, "--alone", 100, "--number", 4, "--starts", 1, "--json",
        folder=tmp_path,
    )  # fmt: skip
    figures = last_json(shown)
    assert figures["start: import torch, s"] > figures["start: --help, s"] > 0
    assert all(value > 0 for value in figures.values())


def test_training_is_measured(tmp_path: Path) -> None:
    """`training.py` prints a line for each draw and arm, and a summary of each arm."""
    write_words(tmp_path / "rows.jsonl", 8)
    shown = run_experiment(
        "benchmarks/training.py", "rows.jsonl", "rows.jsonl", "--num-labels", 6,
        "--draws", 0, 1, "--num-steps", 2, "--arms", "cpu", "cpu:bfloat16", folder=tmp_path,
    ).splitlines()  # fmt: skip
    assert len(shown) == 6 and shown[0].startswith("draw 0 cpu:float32: accuracy ")
    assert shown[-1].startswith("cpu:bfloat16") and "times as fast" in shown[-1]


def test_corpora_are_measured(tmp_path: Path) -> None:
    """`corpora.py` prints a line for each stage, which it starts, and every stage has figures."""
    script = "benchmarks/corpora.py"
    shown = run_experiment(script, "--rows", 60, "--stages", "draw", "--json", folder=tmp_path)
    assert [line.split(" | ")[1] for line in shown.splitlines()[2:-1]] == ["draw"]
    measured = last_json(shown)["stages"]
    assert [(figures["stage"], figures["rows"]) for figures in measured] == [("draw", 60)]
    for stage in ("draw", "prepare", "train", "evaluate", "classify"):
        words = ("--stage", stage, "--folder", tmp_path, "--rows", 60)
        measured.append(last_json(run_experiment(script, *words, folder=tmp_path)))
    for figures in measured:
        assert figures["seconds"] > 0
        assert 5 < figures["megabytes"] < 2000 or not Path("/proc/self/status").exists()
    assert len((tmp_path / "labels.jsonl").read_text().splitlines()) == 60


def test_a_sweep_of_two_trials_gives_settings_to_train_with(tmp_path: Path) -> None:
    """`sweep.py` resumes from its storage, and writes a file that `--config` takes."""
    from seqssvae.cli.settings import load_config

    write_words(tmp_path / "rows.jsonl", 12)
    settings = (
        "model: {embedding_size: 4, decoder_size: 4}\n"
        "training: {num_steps: 2, teacher: false}\nobjective: {kl_warmup_steps: 1}\n"
    )
    (tmp_path / "start.yaml").write_text(settings)
    for total in (1, 2):
        shown = run_experiment(
            "sweep.py", "--data", "rows.jsonl", "--config", "start.yaml", "--trials", 1,
            "--storage", "sqlite:///sweep.db", "--out", "best.yaml", folder=tmp_path,
        )  # fmt: skip
        assert shown.count("elbo -") == total and f"the best of {total} trials" in shown
    best = load_config(tmp_path / "best.yaml")
    assert best.model.decoder_size == 4 and best.training.num_steps == 2
    assert str(best.training.learning_rate) in shown.splitlines()[0]


def test_processes_are_measured_together(tmp_path: Path) -> None:
    """`distributed.py` of the benchmarks runs each kind."""
    shown = run_experiment(
        "benchmarks/distributed.py", "--rounds", 1, "--steps", 2, "--rows", 6, "--length", 6,
        "--classes", 2, "--symbols", 5, "--size", 4, "--json", folder=tmp_path,
    )  # fmt: skip
    figures = last_json(shown)
    for kind in ("one", "weak", "strong", "alone"):
        assert figures[f"{kind}_rows_per_s"] > 0 and f"| {kind} | " in shown
    assert len(figures["weak_ratios"]) == 1 and figures["bytes"] % 4 == 0 < figures["bytes"]
    one, eight, many = figures["plan"]
    assert one["exchange_s"] == 0 and one["efficiency"] == 1
    assert one["hours"] * 3600 == pytest.approx(1e8 / figures["one_rows_per_s"])
    sent = 2 * 7 * (figures["bytes"] / 8 / 1.25e9 + 5e-5)
    assert eight["exchange_s"] == pytest.approx(sent) and eight["hours"] > one["hours"] / 8
    assert many["efficiency"] < eight["efficiency"] < 1


def test_votes_are_compared_with_labels_alone(tmp_path: Path) -> None:
    """`weak.py`: five arms, with rules that speak for the label of each sentence."""
    words = {"pos": ["great", "good", "love"], "neg": ["bad", "poor", "never"]}
    for part, num_rows in (("train", 60), ("test", 20)):
        rows = [
            {"text": f"{words[label][row % 3]} film number {row}", "label": label}
            for row in range(num_rows // 2)
            for label in words
        ]
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = run_experiment("weak.py", tmp_path, "--draws", 1, *QUICK, folder=tmp_path)
    (row,) = re.findall(r"^\| 1 \| (.*) \|$", shown, re.MULTILINE)
    majority, _, both, *_ = map(float, row.split(" | "))
    assert majority == 100 and both > 90
