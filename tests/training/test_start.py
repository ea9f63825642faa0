"""Training that starts from a finished run: more rows, symbols and classes."""

import dataclasses
import json
import logging
from pathlib import Path
from unittest.mock import Mock, call

import numpy as np
import pytest
import torch

from seqssvae.data.corpus import gather_corpus
from seqssvae.data.prepare import prepare
from seqssvae.errors import InputError
from seqssvae.overrides import override
from seqssvae.runs.run import load_run
from seqssvae.show.portrait import load_held_out
from seqssvae.trained import TrainedModel, load
from seqssvae.training.fit import fit
from seqssvae.training.start import REPLAYED, StartingRun
from tests.support.fixtures import SmallRun
from tests.support.rows import write_rows

SHORT = {"training.num_steps": 4}
NEW_ROWS = [
    {"text": "xy" * (1 + i % 3) + "x" * (i % 2) + "ab"[: i % 3], "label": "new", "id": f"n{i}"}
    for i in range(24)
]
OLD_ROWS = [
    {"text": part * times, "label": label}
    for part, label in (("ab", "left"), ("cd", "right"))
    for times in range(1, 6)
]


@pytest.fixture(scope="module")
def grown(small_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run, and a class that it never saw."""
    folder = tmp_path_factory.mktemp("grown")
    data = write_rows(folder / "new.jsonl", NEW_ROWS)
    fit(SHORT, data, folder / "run", start=small_run[0])
    return folder / "run"


def accuracy(model: TrainedModel, rows: list[dict[str, str]]) -> float:
    found = model.classify([row["text"] for row in rows])
    return float(np.mean([a["label"] == b["label"] for a, b in zip(found, rows, strict=True)]))


def test_old_ids_and_classes_stay_and_new_ones_follow(small_run: SmallRun, grown: Path) -> None:
    before, after = load(small_run[0]), load(grown)
    assert after.labels.names == (*before.labels.names, "new")
    old = range(len(before.vocabulary))
    assert [after.vocabulary.symbol(id) for id in old] == [
        before.vocabulary.symbol(id) for id in old
    ]
    assert len(after.vocabulary) == len(before.vocabulary) + 2
    assert after.vocabulary.encode("xy") != [1, 1]
    assert after.config.model == before.config.model
    assert after.config.objective.kl_schedule == "constant"  # its decoder reads z already


def test_no_class_is_forgotten_though_no_new_row_has_it(
    small_run: SmallRun, grown: Path, tmp_path: Path
) -> None:
    """Without what the run generates, all rows would be of the new class."""
    after = load(grown)
    assert accuracy(after, OLD_ROWS) == accuracy(load(small_run[0]), OLD_ROWS) == 1.0
    assert accuracy(after, NEW_ROWS) >= 0.95
    figures = after.manifest["summary"]["dev"]
    assert figures["num_old_rows"] > 5 and figures["num_new_rows"] > 2
    assert figures["old_accuracy"] >= figures["old_accuracy_before"] - 0.1 > 0.8
    assert figures["new_accuracy"] >= 0.9
    assert json.dumps(figures)


def test_a_number_of_labels_is_one_of_given_rows(small_run: SmallRun, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "new.jsonl", NEW_ROWS)
    budget = {"data.labels_per_class": 4, "data.dev_fraction": 0.0}
    start = StartingRun.load(small_run[0])
    prepared = prepare(start.adapt(SHORT | budget), data, start=start.of_rows)
    assert np.bincount(prepared.labelled.y).tolist() == [REPLAYED, REPLAYED, 4]


def test_the_number_of_labels_of_the_run_is_not_one_of_new_rows(small_run: SmallRun) -> None:
    start = StartingRun.load(small_run[0])
    limited = override(start.contents.config, {"data.labels_per_class": 1})
    start = dataclasses.replace(start, contents=dataclasses.replace(start.contents, config=limited))
    for budget, wanted in (({}, None), ({"data.num_labels": 9}, 9)):
        data = start.adapt(SHORT | budget).data
        assert data.labels_per_class is None and data.num_labels == wanted


def test_pictures_show_held_out_rows_of_the_data(
    grown: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows that the earlier run generated are in no file, which has not changed for that."""
    shown = load_held_out(grown)[1]
    held_out = load_run(grown).split["dev"]
    texts = {row["id"]: row["text"] for row in NEW_ROWS}
    assert 0 < len(held_out) < 12 and "changed" not in caplog.text
    assert sorted(shown.sequences) == sorted(texts[id] for id in held_out)


def test_generated_rows_measure_no_coverage(grown: Path, small_run: SmallRun) -> None:
    """The earlier run wrote and ranked them: new rows are not like them."""
    assert load(small_run[0]).has_sets
    with pytest.raises(InputError, match="wanted a run with held-out labels, which sets"):
        load(grown).classify(["ab"], coverage=0.9)


def test_rows_that_the_run_learned_are_no_measure_of_before(
    small_run: SmallRun, grown: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        fit(SHORT, small_run[1], tmp_path / "run", start=small_run[0])
    dev = load_run(tmp_path / "run").manifest["summary"]["dev"]
    assert dev["num_learned_before"] == dev["num_old_rows"] == 8
    assert "had learned 8 of the 8 labels of its classes there: 'before' is too" in caplog.text
    assert load_run(grown).manifest["summary"]["dev"]["num_learned_before"] == 0


def test_powers_are_of_rows_that_were_not_generated(
    grown: Path, small_run: SmallRun, tmp_path: Path
) -> None:
    """Most held-out rows of the one training are generated, and none of the other."""
    rows = write_rows(tmp_path / "rows.jsonl", [*NEW_ROWS, *OLD_ROWS * 3])
    fit(SHORT, rows, tmp_path / "run", start=small_run[0])
    before, of_generated, of_rows = (
        load_run(folder).manifest["summary"] for folder in (small_run[0], grown, tmp_path / "run")
    )
    names = ("mode", "mix_weights", "powers")
    assert [of_generated[name] for name in names] == [before[name] for name in names]
    assert of_rows["powers"] != before["powers"]


def test_training_starts_at_the_weights_of_the_run(
    small_run: SmallRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_rows(tmp_path / "new.jsonl", [*NEW_ROWS, *OLD_ROWS * 3])
    changes = {**SHORT, "training.learning_rate": 1e-12, "training.teacher": False}
    with caplog.at_level(logging.INFO):
        fit(changes, data, tmp_path / "run", start=small_run[0])
    assert "generated by" not in caplog.text  # all classes have many rows
    assert "old accuracy before" in caplog.text
    old, new = (load_run(folder).weights for folder in (small_run[0], tmp_path / "run"))
    for name in ("encoder_y.embedding.weight", "decoder.output.weight", "head_z.x.weight"):
        part = new[name][tuple(map(slice, old[name].shape))]
        torch.testing.assert_close(part.float(), old[name], rtol=0, atol=1e-6)


def test_a_class_of_few_labels_is_generated_too(small_run: SmallRun) -> None:
    """The small run had 16 labels of each class for training."""
    run = StartingRun.load(small_run[0])
    for num, wanted in ((7, [call(["left"])]), (8, [])):
        texts = ["ab"] * num + ["cd"] * 9 + ["xy"]
        corpus = gather_corpus(texts, ["left"] * num + ["right"] * 9 + ["new"], source="rows")
        replay = Mock(wraps=run.replay)
        start = dataclasses.replace(run.of_rows, replay=replay)
        found = prepare(run.adapt({}), corpus, start=start)
        assert replay.mock_calls == wanted and found.labels.names == ("left", "right", "new")


def test_generated_rows_are_those_that_the_run_gives_their_class(small_run: SmallRun) -> None:
    run = StartingRun.load(small_run[0])
    rows = list(run.replay(["right"]))
    assert len(rows) == REPLAYED and {row.label for row in rows} == {"right"}
    assert list(run.replay(["right"])) == rows
    assert run.classify([row.sequence for row in rows]).argmax(1).mean() > 0.9
    assert all(str(row.sequence).strip() for row in rows)


def test_resuming_reads_the_same_run(small_run: SmallRun, grown: Path) -> None:
    data, run = grown.parent / "new.jsonl", grown
    again = fit(SHORT, data, run, start=small_run[0], resume=True)
    assert again == load_run(run).manifest["summary"]
    with pytest.raises(InputError, match="settings and rows of the run in it, got other rows"):
        fit(load_run(run).config, data, run, resume=True)


def test_other_networks_and_other_symbols_are_refused(small_run: SmallRun, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "new.jsonl", NEW_ROWS)
    with pytest.raises(InputError, match=r"^model.cell: wanted lstm as in .*, got gru$"):
        fit({"model.cell": "gru"}, data, tmp_path / "run", start=small_run[0])
    with pytest.raises(InputError, match="wanted a whole model, got --classifier-only"):
        fit({"training.classifier_only": True}, data, tmp_path / "run", start=small_run[0])
    tokens = write_rows(tmp_path / "tokens.jsonl", [{"tokens": ["a"], "label": "left"}])
    with pytest.raises(InputError, match=r"for data.vocabulary = characters, got tokens$"):
        fit({}, tokens, tmp_path / "run", start=small_run[0])
    for name, got, wanted in (
        ("vocabulary", "tokens", "characters"),
        ("normalise", "nfkc", "none"),
    ):
        with pytest.raises(
            InputError, match=rf"^data.{name}: wanted {wanted} as in .*, got {got}$"
        ):
            fit({f"data.{name}": got}, data, tmp_path / "run", start=small_run[0])
    assert not (tmp_path / "run").exists()


def test_a_run_without_classes_is_given_some(small_run: SmallRun, tmp_path: Path) -> None:
    """It has no accuracy to compare with."""
    changes = {**SHORT, "data.unlabelled_only": True, "objective.kl_warmup_steps": 1}
    config = override(load_run(small_run[0]).config, changes)
    fit(config, small_run[1], tmp_path / "vae")
    data = write_rows(tmp_path / "rows.jsonl", [*NEW_ROWS, *OLD_ROWS])
    summary = fit({}, data, tmp_path / "run", start=tmp_path / "vae")
    assert summary["dev"]["old_accuracy_before"] is None and summary["dev"]["num_old_rows"] == 0
    assert summary["dev"]["num_new_rows"] == summary["dev"]["num_mode_rows"] > 0
