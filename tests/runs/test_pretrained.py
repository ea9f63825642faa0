"""Models to the hub and back; no network."""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from huggingface_hub import HfApi

import seqssvae
from seqssvae.errors import InputError
from seqssvae.overrides import to_mapping
from seqssvae.runs.run import load_run, save_run
from seqssvae.trained import TrainedModel
from seqssvae.training.fit import fit
from tests.support.fixtures import SmallRun
from tests.support.training import TEXTS, quick_config


def same(first: TrainedModel, second: TrainedModel) -> bool:
    one, other = (model.encode(TEXTS) for model in (first, second))
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_what_is_saved_is_loaded_again(small_run: SmallRun, tmp_path: Path) -> None:
    model = seqssvae.load(small_run[0])
    model.save_pretrained(tmp_path / "new" / "model")
    again = TrainedModel.from_pretrained(tmp_path / "new" / "model")
    assert same(model, again) and again.labels == model.labels and again.config == model.config
    assert same(model, seqssvae.load(tmp_path / "new" / "model"))  # it is a run as any
    card = (tmp_path / "new" / "model" / "README.md").read_text(encoding="utf-8")
    assert "`left`, `right`" in card
    again.save_pretrained(tmp_path / "twice")
    assert same(model, TrainedModel.from_pretrained(tmp_path / "twice"))


def test_ids_and_folders_are_not_published(small_run: SmallRun, tmp_path: Path) -> None:
    whole = load_run(small_run[0])
    seqssvae.load(small_run[0]).save_pretrained(tmp_path / "model")
    assert load_run(tmp_path / "model").split == {} and any(whole.split.values())
    written = "".join(
        path.read_text(encoding="utf-8")
        for path in (tmp_path / "model").iterdir()
        if path.suffix in (".json", ".md")
    )
    assert str(small_run[0].parent) not in written


def test_an_edited_card_is_kept(small_run: SmallRun, tmp_path: Path) -> None:
    model = seqssvae.load(small_run[0])
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("mine")
    model.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "README.md").read_text() == "mine"


def test_unknown_settings_are_refused(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a newer version, whose files are whole."""
    contents = load_run(small_run[0])
    mapping: dict[str, Any] = to_mapping(contents.config)
    mapping["model"]["attention"] = True
    monkeypatch.setattr("seqssvae.runs.run.to_mapping", lambda config: mapping)
    save_run(tmp_path / "newer", contents)
    with pytest.raises(InputError, match=r"unknown setting model\.attention"):
        TrainedModel.from_pretrained(tmp_path / "newer")


def test_a_model_is_pushed_and_loaded_again(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub of two functions: what is uploaded is a folder's content."""
    hub: dict[str, dict[str, bytes]] = {}
    asked: dict[str, Any] = {}

    def create_repo(self: HfApi, repo_id: str, **options: Any) -> Any:
        asked.update(options)
        return type("Repo", (), {"repo_id": repo_id})

    def upload_folder(self: HfApi, *, repo_id: str, folder_path: str, **options: Any) -> str:
        asked.update(options)
        hub[repo_id] = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        return f"https://hub/{repo_id}/commit/1"

    def snapshot_download(name: str, **options: Any) -> str:
        asked.update(options)
        folder = tmp_path / "snapshot"
        folder.mkdir()
        for file, content in hub[name].items():
            (folder / file).write_bytes(content)
        return str(folder)

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    model = seqssvae.load(small_run[0])
    url = model.push_to_hub("me/words", private=True, branch="b", commit_message="m")
    assert url == "https://hub/me/words/commit/1"
    assert asked["private"] is True and asked["revision"] == "b" and asked["commit_message"] == "m"
    assert {"README.md", "config.json", "weights.safetensors"} <= set(hub["me/words"])
    assert same(model, TrainedModel.from_pretrained("me/words", revision="v1"))
    assert asked["revision"] == "v1" and "*.safetensors" in asked["allow_patterns"]


def test_absent_models_are_one_line(tmp_path: Path) -> None:
    for name in ("me/words", "no/such/name", str(tmp_path)):
        with pytest.raises(InputError, match="wanted") as caught:
            TrainedModel.from_pretrained(name, cache_dir=tmp_path / "c", local_files_only=True)
        assert "\n" not in str(caught.value)


def test_a_dataset_goes_in_and_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns by type; training, figures and annotation from a data set of the program."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    classes = datasets.ClassLabel(names=["left", "right"])
    features = datasets.Features(word=datasets.Value("string"), side=classes)
    words = [("ab" if i % 2 else "cd") * (1 + i % 3) for i in range(24)]
    data = datasets.Dataset.from_dict(
        {"word": words, "side": [-1 if i > 15 else i % 2 for i in range(24)]}, features=features
    )
    summary = fit(quick_config(data__max_length=16), data, tmp_path / "run")
    assert summary["num_labelled"] + summary["num_unlabelled"] > 16
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["source"] == "dataset"
    model = seqssvae.load(tmp_path / "run")
    assert model.labels.names == ("left", "right")
    assert model.evaluate(data, num_samples=1)["num_rows"] == 24
    out = model.annotate(data)
    assert out.column_names == [
        "word", "side", "loc", "scale", "predicted_label", "probabilities"
    ]  # fmt: skip
    assert out["word"][:] == words and out.features["predicted_label"] == classes
    found = model.classify(words)
    assert out.features["predicted_label"].int2str(out["predicted_label"][:]) == [
        row["label"] for row in found
    ]
    np.testing.assert_allclose(out["loc"][:], model.encode(words)["loc"], rtol=1e-5)
    with pytest.raises(InputError, match="dataset: wanted no column 'loc', got one"):
        model.annotate(out)
