"""Every experiment, small."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
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
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows


def run_script(name: str, *words: object, folder: Path) -> str:
    """What an experiment prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "experiments" / name), *map(str, words)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "HF_HOME": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_demo_prints_its_table_new_words_and_transfers(tmp_path: Path) -> None:
    """`demo.py` trains, compares, generates and transfers."""
    write_words(tmp_path / "train.jsonl", 15)
    test_rows = write_words(tmp_path / "test.jsonl", 5)
    shown = run_script(
        "demo.py", "--train", "train.jsonl", "--test", "test.jsonl", "--out", "run",
        "--labels-per-class", 5, "--steps", 20, folder=tmp_path,
    )  # fmt: skip
    table, new, transferred = re.split(r"\n(?:new words|words transferred.*)\n", shown)
    assert "15 held-out words, 3 languages, 5 labelled and 10 unlabelled words each" in table
    accuracies = re.findall(r"^(\S.*?) +(\d+\.\d)% +\d+$", table, re.MULTILINE)
    assert [title.split(",")[0] for title, _ in accuracies] == [
        "the SS-VAE's encoder",
        "TF-IDF of characters",
        "SS-VAE",
        "SS-VAE",
    ]
    assert all(0 <= float(accuracy) <= 100 for _, accuracy in accuracies)
    assert float(accuracies[1][1]) == 100.0

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
    shown = run_script(
        "estimator_variance.py", "--classes", 3, "--draws", 3, "--rows", 2, "--length", 4,
        "--symbols", 3, "--size", 4, "--out", "table", folder=tmp_path,
    )  # fmt: skip
    rows = json.loads((tmp_path / "table" / "table.json").read_text())["rows"]
    assert len(rows) == 2 * len({row["estimator"] for row in rows}) > 20
    assert all(row["estimator"] in shown and row["seconds"] > 0 for row in rows)
    summed = [r for r in rows if r["estimator"] in ("fused-enum", "sum-and-sample k=3")]
    assert len(summed) == 4 and all(row["bias"] < 1e-4 for row in summed)
    assert all(row["variance"] > 0 for row in rows)
    assert (tmp_path / "table" / "variance.png").stat().st_size > 10_000


def test_every_estimator_meets_the_grammar(tmp_path: Path) -> None:
    """`grammar.py` measures accuracy and NLL beside the truth."""
    from data.prepare_grammar import main as prepare_grammar

    folder = tmp_path / "grammar"
    prepare_grammar(["--out", str(folder), "--train", "120", "--test", "40"])
    shown = run_script(
        "grammar.py", "--data", folder, "--estimators", "fused-enum", "score-function",
        "--steps", 3, "--out", "table", folder=tmp_path,
    )  # fmt: skip
    rows = json.loads((tmp_path / "table" / "table.json").read_text())["rows"]
    assert [row["estimator"] for row in rows] == ["fused-enum", "score-function"]
    truth = json.loads((folder / "truth.json").read_text())
    for row in rows:
        assert row["of_bayes"] == row["accuracy"] / truth["bayes_accuracy"]
        assert row["excess"] > 0.1  # three steps teach little
        assert row["excess_standard_error"] > 0 and row["estimator"] in shown


def test_a_sweep_of_two_trials_gives_settings_to_train_with(tmp_path: Path) -> None:
    """`sweep.py` goes on from its storage, and writes a file that `--config` takes."""
    from seqssvae.config import load_config

    write_words(tmp_path / "rows.jsonl", 12)
    settings = (
        "model: {embedding_size: 4, decoder_size: 4}\n"
        "training: {num_steps: 2, teacher: false}\nobjective: {kl_warmup_steps: 1}\n"
    )
    (tmp_path / "start.yaml").write_text(settings)
    for total in (1, 2):
        shown = run_script(
            "sweep.py", "--data", "rows.jsonl", "--config", "start.yaml", "--trials", 1,
            "--storage", "sqlite:///sweep.db", "--out", "best.yaml", folder=tmp_path,
        )  # fmt: skip
        assert shown.count("elbo -") == total and f"the best of {total} trials" in shown
    best = load_config(tmp_path / "best.yaml")
    assert best.model.decoder_size == 4 and best.training.num_steps == 2
    assert str(best.training.learning_rate) in shown.splitlines()[0]
