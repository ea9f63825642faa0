import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqssvae.errors import InputError
from seqssvae.runs.run import load_run
from seqssvae.show.examples import show_sequence
from seqssvae.show.portrait import (
    Portrait,
    fit_pca,
    load_held_out,
    pad_dims,
    portray,
    project_tsne,
)
from seqssvae.trained import load, load_with_split
from seqssvae.training.fit import fit
from tests.support.fixtures import SmallRun
from tests.support.rows import write_rows
from tests.support.training import quick_config, train


@pytest.fixture(scope="module")
def portrait(small_run: SmallRun) -> Portrait:
    return portray(small_run[0])


def test_the_rows_are_the_held_out_ones(portrait: Portrait, small_run: SmallRun) -> None:
    held = load_run(small_run[0]).split["dev"]
    assert len(portrait.sequences) == len(held) == 8
    truth = {row["id"]: row for row in map(json.loads, small_run[1].read_text().splitlines())}
    assert sorted(portrait.sequences) == sorted(truth[id]["text"] for id in held)
    named = [portrait.labels[y] for y in portrait.y]
    assert named == ["left" if "a" in text else "right" for text in portrait.sequences]


def test_the_numbers_agree_with_each_other(portrait: Portrait, small_run: SmallRun) -> None:
    assert portrait.z_pca.shape == portrait.z_tsne.shape == portrait.logits_tsne.shape == (8, 2)
    assert portrait.kl_nats.sum() == pytest.approx(portrait.figures["kl"], rel=1e-4)
    right = portrait.probabilities.argmax(1) == portrait.y
    assert portrait.figures["accuracy"] == right.mean()
    assert [record["step"] for record in portrait.metrics][0] == 0
    model = load(small_run[0])
    for sequence, own, written in portrait.transfers:
        assert model.classify([sequence])[0]["label"] == own
        assert written == [model.transfer([sequence], to=name)[0] for name in portrait.labels]
    assert {len(walk) for walk in portrait.walks} == {7} and len(portrait.walks) == 3
    assert {name: len(written) for name, written in portrait.samples.items()} == {
        "left": 6, "right": 6
    }  # fmt: skip


def test_the_rows_that_it_compares_generated_ones_with(
    portrait: Portrait, small_run: SmallRun, tmp_path: Path
) -> None:
    """Training rows, also where other rows are shown; none if the file is gone."""
    texts = {row["text"] for row in map(json.loads, small_run[1].read_text().splitlines())}
    assert portrait.num_compared == 32
    for name, sequences in portrait.nearest.items():
        assert len(sequences) == len(portrait.samples[name]) == 6 and set(sequences) <= texts
    other = write_rows(tmp_path / "other.jsonl", [{"text": "abab", "label": "left"}])
    elsewhere = portray(small_run[0], other)
    assert (elsewhere.nearest, elsewhere.num_compared) == (portrait.nearest, 32)
    rows = [{"text": "ab" * (1 + i % 3), "label": "uv"[i % 2]} for i in range(20)]
    run = train(tmp_path / "gone", rows)
    (tmp_path / "gone" / "rows.jsonl").unlink()
    lonely = portray(run, write_rows(tmp_path / "some.jsonl", rows[:4]))
    assert (lonely.nearest, lonely.num_compared) == ({}, 0)


def test_rows_are_classified_as_the_run_classifies(
    small_run: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, split = load_with_split(small_run[0])
    trained.manifest["summary"]["mode"] = "posterior"
    monkeypatch.setattr("seqssvae.show.portrait.load_with_split", lambda *_: (trained, split))
    shown = portray(small_run[0])
    rows = load_held_out(small_run[0])[1].rows
    table = trained.classify_table(rows, mode="posterior")
    np.testing.assert_allclose(shown.probabilities, table)
    sets = [one["set"] for one in trained.classify_rows(rows, mode="posterior", coverage=0.9)]
    assert shown.figures["set_size"] == np.mean(list(map(len, sets)))
    assert shown.figures["mode"] == "posterior"
    assert shown.free_bits == trained.config.objective.free_bits > 0
    assert shown.summary["num_labelled"] == len(split["labelled"])


def test_data_that_moved_and_other_data(small_run: SmallRun, tmp_path: Path) -> None:
    """A copy of the training data is recognised by its ids; of another file all rows are shown."""
    run = small_run[0]
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(small_run[1].read_bytes())
    own = load_held_out(run)[1]
    assert load_held_out(run, moved)[1].sequences == own.sequences
    other = write_rows(
        tmp_path / "other.jsonl", [{"text": "abab", "label": "left"}, {"text": "dc"}]
    )
    shown = load_held_out(run, other)[1]
    assert shown.sequences == ["abab", "dc"] and shown.rows.y.tolist() == [0, -1]


def test_other_rows_of_the_same_ids_are_not_taken_for_held_out_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Tables number their rows from 0; a warning of dev rows is for those that are shown."""
    numbered = [
        [{"id": i, "text": part * (1 + i % 4) + str(i), "label": part} for i in range(20)]
        for part in ("ab", "cd")
    ]
    rows = [one for pair in zip(*numbered, strict=True) for one in pair]
    rows = [{**one, "id": i} for i, one in enumerate(rows)]
    run = train(tmp_path, rows)
    others = [{"id": i, "text": "abcd" * (1 + i % 4), "label": "ab"} for i in range(50)]
    test = write_rows(tmp_path / "test.jsonl", others)
    shown = load_held_out(run, test)[1]
    assert len(shown.sequences) == 50 and not shown.learned and caplog.text == ""
    own = load_held_out(run, write_rows(tmp_path / "moved.jsonl", [*reversed(rows)]))[1]
    assert len(own.sequences) == 8 and own.learned and "are optimistic" in caplog.text


def test_the_data_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where that holds other data under the same name, and where all was moved together."""
    rows = [{"text": "ab" * (1 + i % 5) + str(i), "label": "uv"[i % 2]} for i in range(20)]
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    write_rows(tmp_path / "here" / "rows.jsonl", rows)
    write_rows(tmp_path / "there" / "rows.jsonl", [{"text": "cd", "label": "u"}])
    monkeypatch.chdir(tmp_path / "here")
    fit(quick_config(), "rows.jsonl", "runs/one")
    own = load_held_out("runs/one")[1]
    monkeypatch.chdir(tmp_path / "there")
    assert load_held_out("../here/runs/one")[1].sequences == own.sequences
    (tmp_path / "here").rename(tmp_path / "moved")
    assert load_held_out("../moved/runs/one")[1].sequences == own.sequences
    (tmp_path / "moved" / "rows.jsonl").unlink()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"wanted the data that it was trained on"):
        load_held_out("moved/runs/one")


def test_data_that_changed_is_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"text": "ab" * (1 + i % 5) + str(i), "label": "uv"[i % 2]} for i in range(20)]
    run = train(tmp_path, rows)
    write_rows(tmp_path / "rows.jsonl", rows[:5])
    assert len(load_held_out(run)[1].sequences) == 5
    assert "has changed since training" in caplog.text


@pytest.mark.parametrize("are_known", [False, True])
def test_dev_rows_whose_labels_were_learned_are_left_out(
    are_known: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If the file has labels for other held-out rows; otherwise there is a warning."""
    rows: list[dict[str, Any]] = [
        {"text": part * (1 + i % 4) + str(i), "label": label, "id": f"{label}{i}"}
        for i in range(10)
        for part, label in (("ab", "u"), ("cd", "v"))
    ]
    rows += [{"text": f"{i}" + "ab" * (1 + i % 4), "id": f"free{i}"} for i in range(100)]
    run = train(tmp_path, rows, **{"training.num_steps": 2})
    trained, split = load_with_split(run)
    trained.manifest["summary"]["dev_labels_learned"] = True
    monkeypatch.setattr("seqssvae.show.portrait.load_with_split", lambda *_: (trained, split))
    assert len(split["dev"]) == 4 and len(split["dev_unlabelled"]) == 2
    named = [{"label": "u", **row} if are_known else row for row in rows]
    with caplog.at_level(logging.WARNING):
        shown = load_held_out(run, write_rows(tmp_path / "named.jsonl", named))[1]
    assert len(shown.sequences) == (2 if are_known else 6)
    assert ("are optimistic" in caplog.text) != are_known
    assert shown.learned != are_known


def test_missing_data_is_an_error(tmp_path: Path) -> None:
    run = train(tmp_path, [{"text": "ab" * (1 + i % 3), "label": "uv"[i % 2]} for i in range(20)])
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(InputError, match=r"run: wanted the data .*rows\.jsonl; --data FILE") as e:
        portray(run)
    assert "\n" not in str(e.value)


def test_data_of_the_other_kind(small_run: SmallRun, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "tokens.jsonl", [{"tokens": ["a", "b"], "label": "left"}])
    with pytest.raises(InputError, match=r"tokens\.jsonl: wanted text as in training, got tokens"):
        portray(small_run[0], path)


def test_of_many_rows_a_sample_is_shown(small_run: SmallRun) -> None:
    samples = {
        tuple(load_held_out(small_run[0], seed=seed, num_rows=3)[1].rows.ids) for seed in range(6)
    }
    assert {len(set(sample)) for sample in samples} == {3} and len(samples) > 1


def test_the_plain_vae_and_a_model_without_z(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"text": "ab" * (1 + i % 3)} for i in range(20)]
    run = train(tmp_path / "plain", rows, **{"data.unlabelled_only": True})
    with caplog.at_level(logging.WARNING):
        plain = portray(run)
    assert plain.learned and "has no held-out rows" in caplog.text
    assert plain.labels == () and plain.transfers == [] and list(plain.samples) == [""]
    assert plain.probabilities.shape == (20, 0) and np.isfinite(plain.z_tsne).all()
    rows = [{"text": "ab" * (1 + i % 3), "label": "uv"[i % 2]} for i in range(20)]
    flat = portray(train(tmp_path / "flat", rows, **{"model.latent_size": 0}))
    assert flat.kl_nats.shape == (0,) and flat.walks == [] and len(flat.transfers) > 0


def test_sequences_are_shown_in_one_printable_line() -> None:
    assert show_sequence("a\tb\nc\x00\u202e") == "a b c\ufffd\ufffd"


def test_principal_components_have_a_definite_sign() -> None:
    generator = np.random.default_rng(0)
    points = generator.normal(size=(30, 5)) * [3.0, 2.0, 1.0, 0.5, 0.1]
    projected = fit_pca(points).transform(points)
    np.testing.assert_allclose(fit_pca(points[::-1]).transform(points), projected, atol=1e-9)


@pytest.mark.parametrize("points", [*map(np.ones, [(1, 3), (5, 1), (3, 0), (8, 3)]), np.eye(2, 4)])
def test_few_or_equal_points(points: Any) -> None:
    wide = pad_dims(points)
    for projected in (fit_pca(wide).transform(wide), project_tsne(wide)):
        assert projected.shape == (len(points), 2) and np.isfinite(projected).all()


def test_tsne_keeps_neighbours_and_is_reproducible() -> None:
    generator = np.random.default_rng(0)
    points = np.concatenate([generator.normal(size=(20, 4)), 20 + generator.normal(size=(20, 4))])
    embedded = project_tsne(points, seed=1)
    np.testing.assert_array_equal(embedded, project_tsne(points, seed=1))
    distance = np.linalg.norm(embedded[:, None] - embedded[None], axis=-1) + np.diag([np.inf] * 40)
    nearest = distance.argmin(1)
    assert ((nearest < 20) == (np.arange(40) < 20)).all()
