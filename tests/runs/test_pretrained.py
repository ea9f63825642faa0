"""Folders for the hub; pushing and loading are in `test_hub.py`."""

from pathlib import Path

import seqssvae
from tests.support.fixtures import SmallRun


def test_an_edited_card_is_kept(small_run: SmallRun, tmp_path: Path) -> None:
    model = seqssvae.load(small_run[0])
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("mine")
    model.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "README.md").read_text() == "mine"
