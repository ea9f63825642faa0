"""Runs of each format that was ever released are kept, and say what they said then.

`python tests/test_golden.py` writes those of a new format; the old ones are never written again.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

import seqssvae
from seqssvae.overrides import override
from seqssvae.runs.metrics import read_metrics
from seqssvae.runs.run import FORMAT

FOLDER = Path(__file__).parent / "golden"
TEXTS = ["ab", "abab", "cd\n", "cdcdcd", "aé", "dcba", "xyz"]
KINDS = {"characters": "lstm", "sentencepiece": "gru"}


def write_golden(kind: str) -> None:
    """Train a tiny model and keep it, with its answers beside it."""
    rows = [
        {"text": part * times + tail, "label": label, "id": f"{label}{times}{tail}"}
        for part, label in (("ab", "left"), ("cd", "right"))
        for times in range(1, 6)
        for tail in ("", "é", "\n")
    ]
    folder = FOLDER / f"format-{FORMAT}-{kind}"
    changes = {
        "data.vocabulary": kind,
        "data.vocabulary_size": 300,
        "model.cell": KINDS[kind],
        "model.embedding_size": 2,
        "model.encoder_size": 3,
        "model.decoder_size": 3,
        "model.latent_size": 2,
        "model.ngram_buckets": 8,
        "objective.kl_warmup_steps": 10,
        "training.num_steps": 60,
        "training.evaluate_every": 30,
        "training.learning_rate": 0.02,
        "training.num_threads": 1,
    }
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)  # the manifest holds the paths of rows and run
        Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        seqssvae.fit(override(seqssvae.Config(), changes), "rows.jsonl", Path("run"))
        shutil.copytree("run", folder)
        os.chdir(here)
    text = json.dumps(answers(folder), indent=1, ensure_ascii=False)
    folder.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def answers(folder: Path) -> dict[str, list[object]]:
    """What a model says, whatever the machine: no samples."""
    model = seqssvae.load(folder)
    return {
        "probabilities": [row["probabilities"] for row in model.classify(TEXTS)],
        "loc": model.encode(TEXTS)["loc"].tolist(),
    }


def test_the_format_of_today_is_kept() -> None:
    for kind in KINDS:
        assert (FOLDER / f"format-{FORMAT}-{kind}").is_dir()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_golden_runs_load_and_say_what_they_said(path: Path) -> None:
    torch.set_default_dtype(torch.float32)  # what they were trained in
    wanted, found = json.loads(path.read_text(encoding="utf-8")), answers(path.with_suffix(""))
    config = seqssvae.load(path.with_suffix("")).config
    assert config.whole_length == config.data.max_length  # as when they were trained
    table = wanted["probabilities"]
    assert len(table) == len(TEXTS) and table[0]["left"] > 0.6 and table[2]["right"] > 0.6
    for one, other in zip(found["probabilities"], table, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    for first, second in zip(found["loc"], wanted["loc"], strict=True):
        assert first == pytest.approx(second, abs=1e-4)
    assert [record["step"] for record in read_metrics(path.with_suffix(""))] == [0, 30, 60]


if __name__ == "__main__":
    for each in KINDS:
        write_golden(each)
