"""A run's folder: round trips, every kind of damage, and files from untrusted sources."""

import hashlib
import json
import math
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqssvae.config import Config
from seqssvae.data.labels import Labels
from seqssvae.data.vocabulary import build_vocabulary
from seqssvae.errors import InputError
from seqssvae.overrides import override
from seqssvae.runs.checkpoints import save_checkpoint
from seqssvae.runs.metrics import append_metrics
from seqssvae.runs.run import RunContents, check_new_run, check_old_run, load_run, save_run
from seqssvae.storage.checksums import SUMS, seal
from tests.support.faults import Full, assert_corruption_is_refused

TEXTS = ["the cat sat", "a dog\nran", "größe 東京", "the dog sat"]


def make_contents(kind: str = "characters", value: float = 1.0) -> RunContents:
    sequences = [text.split() for text in TEXTS] if kind == "tokens" else TEXTS
    weights = {
        "a.weight": torch.full((3, 2), value),
        "a.empty": torch.zeros(0, 4),
        "b.count": torch.tensor(7),
    }
    weights["b.tied"] = weights["a.weight"]
    weights["b.turned"] = weights["a.weight"].t()
    changes = {"model.cell": "gru", "model.prior": [0.25, 0.75], "data.text_column": "größe 🙂"}
    return RunContents(
        config=override(Config(), {**changes, "objective.w": 1e-5}),
        vocabulary=build_vocabulary(kind, sequences, size=300),
        labels=Labels(names=("chat", "größe", "\N{SLIGHTLY SMILING FACE}")),
        split={"labelled": ["1", "ü"], "dev": []},
        weights=weights,
        manifest={
            "source": Path("x.csv"),
            "value": value,
            "figures": {"nll": np.float32(1.5), "count": np.int64(3), "none": math.nan},
        },
    )


def is_equal(first: RunContents, second: RunContents) -> bool:
    """All but the manifests; vocabularies by what they do."""
    tokens = first.vocabulary.kind == "tokens"
    sequences = [text.split() if tokens else text for text in TEXTS]
    return (
        first.config == second.config
        and first.vocabulary.kind == second.vocabulary.kind
        and all(first.vocabulary.encode(s) == second.vocabulary.encode(s) for s in sequences)
        and first.labels.names == second.labels.names
        and first.split == second.split
        and first.weights.keys() == second.weights.keys()
        and all(torch.equal(first.weights[key], second.weights[key]) for key in first.weights)
        and all(first.weights[key].dtype == second.weights[key].dtype for key in first.weights)
    )


# whole runs


@pytest.mark.parametrize("kind", ["characters", "tokens", "sentencepiece"])
def test_round_trip(tmp_path: Path, kind: str) -> None:
    contents = make_contents(kind)
    save_run(tmp_path / "new" / "run", contents)
    found = load_run(tmp_path / "new" / "run")
    assert is_equal(found, contents)
    assert found.manifest["source"] == "x.csv"
    assert found.manifest["figures"] == {"nll": 1.5, "count": 3, "none": None}
    save_run(tmp_path / "again", found)  # what was loaded can be saved
    again = load_run(tmp_path / "again")
    assert is_equal(again, contents) and again.checksum == found.checksum != ""
    names = {path.name for path in (tmp_path / "again").iterdir()}
    lines = (tmp_path / "again" / SUMS).read_text().splitlines()
    assert {line[66:] for line in lines} == names - {SUMS}


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_run(tmp_path / "run", make_contents())
        save_checkpoint(tmp_path / "run", {})
        append_metrics(tmp_path / "run", {})
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {path.name for path in files} > {"manifest.json", "state.json", "metrics.jsonl"}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files}
    assert set(modes.values()) == {0o640}, modes


def test_saving_again_replaces(tmp_path: Path) -> None:
    save_run(tmp_path, make_contents("sentencepiece", 1.0))
    second = make_contents("tokens", 2.0)
    save_run(tmp_path, second)
    assert is_equal(load_run(tmp_path), second)


@pytest.mark.parametrize("num_flips", [10, pytest.param(200, marks=pytest.mark.faults)])
def test_corruption_is_refused(tmp_path: Path, num_flips: int) -> None:
    append_metrics(tmp_path, {"step": 1, "elbo": -1.5})
    save_run(tmp_path, make_contents("sentencepiece"))
    num_refused = assert_corruption_is_refused(
        tmp_path, lambda: load_run(tmp_path), num_flips=num_flips
    )
    assert num_refused >= 8 * (num_flips + 5)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "metrics.jsonl"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    append_metrics(tmp_path, {"step": 1})
    save_run(tmp_path, make_contents())
    (tmp_path / name).unlink()
    with pytest.raises(
        InputError, match=rf"{name}: wanted the file that SHA256SUMS lists, got none"
    ):
        load_run(tmp_path)


def test_weights_of_another_run(tmp_path: Path) -> None:
    save_run(tmp_path / "a", make_contents(value=1.0))
    save_run(tmp_path / "b", make_contents(value=2.0))
    os.replace(tmp_path / "b" / "weights.safetensors", tmp_path / "a" / "weights.safetensors")
    with pytest.raises(InputError, match=r"weights.safetensors: .*got a damaged or foreign one"):
        load_run(tmp_path / "a")


def reseal(folder: Path) -> None:
    """Write the checksums anew, as anyone could."""
    (folder / SUMS).unlink()
    seal(folder)


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: wanted the folder of a run, got no such folder"):
        load_run(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: wanted the folder of a run, got a file"):
        load_run(tmp_path / "file")
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(InputError, match="got a folder without manifest.json"):
        load_run(folder)
    append_metrics(folder, {"step": 1})
    with pytest.raises(InputError, match="a finished run, got an unfinished one"):
        load_run(folder)
    for content, message in (
        (b"", "manifest.json: wanted JSON, got"),
        (b"\xff", "manifest.json: wanted JSON, got"),
        (b"[]", "manifest.json: wanted a JSON dict, got list"),
        (b"[" * 200_000, "manifest.json: wanted JSON, got"),
        (b"{}", "manifest.json: wanted format 3, got None"),
        (b'{"format": 1}', "manifest.json: wanted format 3, got 1"),
        (b'{"format": 3}', "SHA256SUMS: wanted a readable file, got No such file"),
        (b'{"format": 2}', "manifest.json: wanted the manifest that was written, got a damaged"),
    ):
        (folder / "manifest.json").write_bytes(content)
        with pytest.raises(InputError, match=message):
            load_run(folder)


def test_a_run_of_the_old_format_is_verified(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "format-2-sentencepiece"
    run = shutil.copytree(golden, tmp_path / "run")
    assert assert_corruption_is_refused(run, lambda: load_run(run), num_flips=10) >= 8 * 15
    (run / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match="metrics.jsonl: wanted the file that manifest.json lists"):
        load_run(run)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"../x": {"sha256": "0" * 64}}, "manifest.json:1: wanted a SHA-256 and the name of a"),
        ({"x": {"sha256": "abc"}}, "manifest.json:1: wanted a SHA-256 and the name of a file"),
        ({"x": []}, "manifest.json: wanted a checksum of each file, got none"),
        ([], "manifest.json: wanted a checksum of each file, got none"),
        ({}, "manifest.json: wanted a checksum of config.json, got none"),
    ],
)
def test_an_untrusted_manifest_of_the_old_format(tmp_path: Path, files: Any, message: str) -> None:
    body = json.dumps({"format": 2, "files": files}, indent=1).encode().removesuffix(b"\n}")
    checksum = hashlib.sha256(body).hexdigest().encode()
    (tmp_path / "manifest.json").write_bytes(body + b',\n "sha256": "' + checksum + b'"\n}\n')
    with pytest.raises(InputError, match=re.escape(message)):
        load_run(tmp_path)


def test_a_file_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    save_run(tmp_path, make_contents())
    lines = (tmp_path / SUMS).read_text().splitlines(keepends=True)
    for name in ("config.json", "weights.safetensors"):
        (tmp_path / SUMS).write_text("".join(line for line in lines if name not in line))
        with pytest.raises(InputError, match=f"SHA256SUMS: wanted a checksum of {name}, got none"):
            load_run(tmp_path)


def test_links_and_pickles_are_refused(tmp_path: Path) -> None:
    save_run(tmp_path / "run", make_contents())
    (tmp_path / "latest").symlink_to(tmp_path / "run")
    load_run(tmp_path / "latest")  # a link to the whole folder is allowed
    for name in ("weights.safetensors", "labels.json", "manifest.json", SUMS):
        path = tmp_path / "run" / name
        path.rename(tmp_path / name)
        path.symlink_to(tmp_path / name)
        with pytest.raises(InputError, match=f"{name}: wanted files of this folder's own, got a"):
            load_run(tmp_path / "run")
        (tmp_path / name).rename(path)
    load_run(tmp_path / "run")
    (tmp_path / "run" / "notes").symlink_to("/etc")
    with pytest.raises(InputError, match="notes: wanted files of this folder's own, got a link"):
        load_run(tmp_path / "run")
    (tmp_path / "run" / "notes").unlink()
    (tmp_path / "run" / "notes.txt").write_text("mine")  # other files are not read
    load_run(tmp_path / "run")
    torch.save({"a": torch.ones(1)}, tmp_path / "run" / "optimizer.PT")
    with pytest.raises(InputError, match=r"optimizer.PT: wanted weights in safetensors, got what"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize("new_zip", [True, False])
def test_a_pickle_instead_of_weights(tmp_path: Path, new_zip: bool) -> None:
    save_run(tmp_path, make_contents())
    torch.save(
        {"a": torch.ones(1)},
        tmp_path / "weights.safetensors",
        _use_new_zipfile_serialization=new_zip,
    )
    with pytest.raises(InputError, match="weights.safetensors: wanted the file that SHA256SUMS"):
        load_run(tmp_path)
    reseal(tmp_path)
    with pytest.raises(InputError, match="weights.safetensors: wanted safetensors, got a pickle"):
        load_run(tmp_path)


def test_a_pipe_instead_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    save_run(tmp_path, make_contents())
    (tmp_path / "labels.json").unlink()
    os.mkfifo(tmp_path / "labels.json")
    with pytest.raises(InputError, match="labels.json: wanted a regular file"):
        load_run(tmp_path)


def test_invalid_files_with_valid_checksums(tmp_path: Path) -> None:
    for name, content, message in (
        ("weights.safetensors", b"abc", "weights.safetensors: wanted safetensors, got"),
        ("labels.json", b"{}", "labels.json: wanted a JSON list, got dict"),
        ("split.json", b"[]", "split.json: wanted a JSON dict, got list"),
        ("config.json", b'{"model": {"cel": "gru"}}', "config.json: unknown setting model.cel"),
        ("config.json", b'{"modal": {}}', "config.json: unknown setting modal"),
        ("labels.json", b"[" * 200_000, "wanted JSON, got brackets too deep"),
        ("vocabulary.json", b"[" * 200_000, "wanted JSON, got brackets too deep"),
        ("vocabulary.json", b'{"format": 9}', "vocabulary.json: wanted a vocabulary, got"),
    ):
        save_run(tmp_path, make_contents())
        (tmp_path / name).write_bytes(content)
        reseal(tmp_path)
        with pytest.raises(InputError, match=message):
            load_run(tmp_path)


# the folder of a new run


def test_check_new_run(tmp_path: Path) -> None:
    check_new_run(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()  # nothing is made
    check_new_run(tmp_path)  # empty
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="wanted a new or an empty folder, got one with files$"):
        check_new_run(tmp_path)
    with pytest.raises(InputError, match="wanted a folder, got the file .*file$"):
        check_new_run(tmp_path / "file")
    with pytest.raises(InputError, match=r"wanted a folder, got the file .*file$|Not a directory"):
        check_new_run(tmp_path / "file" / "run")
    save_checkpoint(tmp_path, {})
    with pytest.raises(InputError, match="one with files; --resume continues from its checkpoint"):
        check_new_run(tmp_path)


def test_check_new_run_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(InputError, match="wanted write permission for .*, got none"):
        check_new_run(tmp_path / "run")


def test_check_old_run(tmp_path: Path) -> None:
    check_old_run(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="other: wanted a run to resume, got a folder of"):
        check_old_run(tmp_path / "other")
    run = tmp_path / "run"
    append_metrics(run, {"step": 0})
    check_old_run(run)
    save_checkpoint(run, {})
    for leftover in (run / ".unfinished", run / "checkpoints" / ".unfinished"):
        leftover.mkdir()
        (leftover / "weights.safetensors").write_bytes(b"half")
    check_old_run(run)
    assert sorted(str(path.relative_to(run)) for path in run.glob("*/*")) == ["checkpoints/1"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="wanted a folder, got the file"):
        check_old_run(tmp_path / "file")


# failing disks


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("old", [False, True])
def test_a_save_that_fails_at_any_call(tmp_path: Path, function: str, old: bool) -> None:
    first, second = make_contents("tokens", 1.0), make_contents("tokens", 2.0)
    num_failed, done = 0, False
    while not done:
        folder = tmp_path / str(num_failed)
        if old:
            save_run(folder, first)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, function, Full(function, num_failed))
            try:
                save_run(folder, second)
                done = True
            except InputError as error:
                assert "No space left on device" in str(error)
                num_failed += 1
        assert not (folder / ".unfinished").exists()
        try:
            found = load_run(folder)
        except InputError:
            assert not done
            # only between the first rename and the last one is an older run lost
            assert not old or (function == "replace" and num_failed > 1)
        else:
            assert is_equal(found, second) or (old and not done and is_equal(found, first))
        save_run(folder, second)  # all can be mended
        assert is_equal(load_run(folder), second)
    assert num_failed > 5
