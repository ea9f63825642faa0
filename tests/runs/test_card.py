import dataclasses
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from seqssvae.config import Config
from seqssvae.data.labels import Labels
from seqssvae.data.vocabulary import CharacterVocabulary, TokenVocabulary, Vocabulary
from seqssvae.overrides import override
from seqssvae.runs.card import MAX_LABELS, shared_manifest, write_card
from seqssvae.runs.run import RunContents

SUMMARY: dict[str, Any] = {
    "run": "/home/me/run",
    "num_labelled": 16,
    "num_unlabelled": 300,
    "dev": {"num_rows": 9, "num_labelled": 4, "accuracy": 0.75, "macro_f1": 0.7, "nll": 12.5},
    "warnings": ["z is ignored: its mutual information with x is 0.001 nats."],
}
MANIFEST = {
    "source": "/home/me/secret/words.jsonl",
    "versions": {"torch": "2"},
    "summary": SUMMARY,
    "held_out": {"y": [0, 1]},
    "identity": "abc",
}


def contents(
    names: tuple[str, ...] = ("de", "en"), vocabulary: Vocabulary | None = None, **manifest: Any
) -> RunContents:
    return RunContents(
        config=override(Config(), {"data.max_length": 77}),
        vocabulary=CharacterVocabulary("abc") if vocabulary is None else vocabulary,
        labels=Labels(names),
        split={},
        weights={},
        manifest=manifest,
    )


def test_the_card_has_data_labels_metrics_and_limits(tmp_path: Path) -> None:
    """Read back by the hub's own parser."""
    write_card(contents(**shared_manifest(MANIFEST))).save(tmp_path / "README.md")
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "seqssvae" and "pyro" in card.data.tags
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results == {"accuracy": 0.75, "f1": 0.7}
    text = card.text
    for wanted in (
        "`words.jsonl`", "16 training rows with a label", "300 training rows without one",
        "7 symbols (characters)", "2: `de`, `en`", "9 held-out rows, of which 4 have a label",
        "| accuracy | 0.75 |", "nats per sequence | 12.5 |", "77 symbols", "z is ignored",
        "somewhat too good", "model.generate('de', 5)",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [
        "Use", "Data", "Labels", "Metrics", "Limits"
    ]  # fmt: skip


def test_metrics_of_a_classifier_that_was_replaced_are_named_so(tmp_path: Path) -> None:
    """After training it learned the labels of the held-out rows: no result of it is published."""
    write_card(contents(summary={**SUMMARY, "dev_labels_learned": True})).save(tmp_path / "card.md")
    card = ModelCard.load(tmp_path / "card.md")
    assert card.data.get("eval_results") is None
    for wanted in (
        "20 training rows with a label", "trained anew, with those labels too",
        "was measured on the classifier before it", "are no longer held out", "| accuracy | 0.75 |",
    ):  # fmt: skip
        assert wanted in card.text, wanted
    untouched = write_card(contents(summary={**SUMMARY, "dev_labels_learned": False})).text
    assert "16 training rows" in untouched and "trained anew" not in untouched


def test_limits_name_what_ngrams_read() -> None:
    assert "up to 77 symbols, their end included; n-gram features" in write_card(contents()).text
    assert "n-gram features of the classifier read 1232." in write_card(contents()).text
    for names in ((), ("de", "en")):
        one = contents(names)
        config = override(one.config, {"data.ngram_reach": 1} if names else {})
        text = write_card(dataclasses.replace(one, config=config)).text
        assert "up to 77 symbols, their end included." in text


def test_nothing_of_this_machine_is_shared() -> None:
    shared = shared_manifest(MANIFEST)
    assert set(shared) == {"source", "versions", "summary", "held_out"}  # for sets of labels
    assert shared["source"] == "words.jsonl" and "run" not in shared["summary"]
    assert "/home" not in str(shared) and "/home" not in str(write_card(contents(**shared)))
    assert shared_manifest({"source": "hub:owner/name"})["source"] == "hub:owner/name"
    assert MANIFEST["summary"] is SUMMARY and "run" in SUMMARY


@pytest.mark.parametrize("manifest", [{}, {"summary": {"dev": {"accuracy": None}}}])
def test_a_card_of_a_plain_vae_and_of_little_knowledge(manifest: dict[str, Any]) -> None:
    card = write_card(contents((), TokenVocabulary(["a"]), **manifest))
    assert "does not classify" in card.text and "None were recorded" in card.text
    assert "classify(" not in card.text and 'encode([["a", "b"]])' in card.text
    assert card.data.get("eval_results") is None and card.data.get("pipeline_tag") is None


def test_long_lists_of_labels_are_cut() -> None:
    card = write_card(contents(tuple(f"l{i:03}" for i in range(MAX_LABELS + 7))))
    assert "`l049`, and 7 more" in card.text and "l050" not in card.text
