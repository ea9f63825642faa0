"""The demo, on the words of the package; `tests/test_experiments.py` reads what it prints."""

import importlib.util
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import seqssvae
from seqssvae.compare.demo import TITLES
from seqssvae.compare.wordlists import read_small_lists
from seqssvae.errors import InputError, Interrupted
from tests.support.commands import read_train_and_test
from tests.support.rows import write_rows
from tests.support.snippets import ROOT, blocks


def without_wordfreq(name: str, find: Any = importlib.util.find_spec) -> Any:
    return None if name == "wordfreq" else find(name)


def skeleton(printed: str) -> list[str]:
    """What the demo prints of any words: its lines without figures; of words, that there are some.

    Several such lines in a row are one.
    """
    lines = [re.sub(r"^  [a-z]{2} .*", "  words", line) for line in printed.strip().splitlines()]
    lines = [re.sub(r" *\d+(\.\d+)?", " N", line) for line in lines]
    return [line for line, before in zip(lines, ["", *lines], strict=False) if line != before]


def test_the_demo_needs_no_file_and_no_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With few words it takes seconds; a second call reads the run that is there."""
    monkeypatch.setattr("importlib.util.find_spec", without_wordfreq)
    monkeypatch.chdir(tmp_path)
    small = {name: words[:30] for name, words in list(read_small_lists().items())[:2]}
    monkeypatch.setattr("seqssvae.compare.demo.read_small_lists", lambda: small)
    monkeypatch.setattr("seqssvae.compare.demo.SMALL", (24, 6))
    found = seqssvae.demo(labels_per_class=5, steps=3)
    train, test = read_train_and_test(Path("runs/demo-words"))
    assert [len(train), len(test)] == [48, 12]
    assert found["run"] == "runs/demo" and set(found["accuracy"]) == set(TITLES)
    own = seqssvae.load("runs/demo").evaluate("runs/demo-words/test.jsonl")["accuracy"]
    assert own == found["accuracy"]["ssvae"] in found["mode"].values()
    printed = capsys.readouterr().out
    assert printed.startswith("a small demo: pip install wordfreq brings")
    assert f"{'the whole SS-VAE':44s} {100 * own:7.1f}%" in printed
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (shown,) = (one.text for one in blocks(readme) if "held-out words" in one.text)
    assert skeleton(shown) == skeleton(printed.partition("\n\n")[2])
    weights = Path("runs/demo/weights.safetensors").stat().st_mtime_ns
    again = seqssvae.demo(labels_per_class=5, steps=3)
    assert again == {**found, "seconds": again["seconds"]}
    assert again["seconds"]["ssvae"] == found["seconds"]["ssvae"]
    assert Path("runs/demo/weights.safetensors").stat().st_mtime_ns == weights


def test_an_interrupted_demo_and_one_of_other_settings_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no flag --resume: the same command goes on, and another folder starts anew."""
    rows = [{"text": part * n, "label": part} for part in ("ab", "cd") for n in range(1, 6)]
    train, test = (write_rows(tmp_path / name, rows) for name in ("train.jsonl", "test.jsonl"))

    def stop(*_: Any, **__: Any) -> None:
        raise Interrupted(signal.SIGINT, "--resume continues from step 3")

    with monkeypatch.context() as patch:
        patch.setattr("seqssvae.compare.demo.fit", stop)
        with pytest.raises(Interrupted, match="^SIGINT; the same command continues from step 3$"):
            seqssvae.demo(tmp_path / "run", train=train, test=test)
    changes = {"data.labels_per_class": 3, "training.num_steps": 1, "training.max_minutes": 3.5}
    seqssvae.fit(changes, train, tmp_path / "run")
    with pytest.raises(InputError, match=r"labels_per_class; another folder starts a new run$"):
        seqssvae.demo(tmp_path / "run", labels_per_class=4, steps=1, train=train, test=test)


def test_words_of_wordfreq_if_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise InputError("stop")

    monkeypatch.setattr("seqssvae.compare.demo.fit", stop)
    with pytest.raises(InputError, match="stop"):
        seqssvae.demo(tmp_path / "run")
    train, test = read_train_and_test(tmp_path / "run-words")
    assert [len(train), len(test)] == [32_000, 4_000]


def test_files_are_refused_before_training(tmp_path: Path) -> None:
    """One without the other, and labels that training does not have."""
    rows = [{"text": part * n, "label": part} for part in ("ab", "cd") for n in range(1, 6)]
    train = write_rows(tmp_path / "train.jsonl", rows)
    test = write_rows(tmp_path / "test.jsonl", [{"text": "xy", "label": "xy"}, {"text": "ab"}])
    for files, wanted in (
        ({"train": train}, "wanted train and test, or neither, got one"),
        ({"test": train}, "wanted train and test, or neither, got one"),
        ({"train": train, "test": test}, r"test\.jsonl:1: .*got 'xy'"),
    ):
        with pytest.raises(InputError, match=wanted):
            seqssvae.demo(tmp_path / "run", train=files.get("train"), test=files.get("test"))
    assert not (tmp_path / "run").exists()
