"""Vectors by a model of `transformers`, which is replaced by a small one."""

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.embed import main
from tests.support.commands import assert_refused
from tests.support.rows import write_rows


class Encoding(dict[str, torch.Tensor]):
    """What a tokenizer gives."""

    def to(self, device: torch.device) -> "Encoding":
        return self


class Tokenizer:
    """Codes of characters."""

    @classmethod
    def from_pretrained(cls, name: str, *, local_files_only: bool) -> Any:
        if local_files_only and not Path(name).exists():
            raise OSError("We couldn't connect\nto the hub")
        return cls()

    def __call__(self, texts: list[str], *, max_length: int, **_: Any) -> Encoding:
        rows = [[1, *map(ord, text)][:max_length] for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        return Encoding(input_ids=ids, attention_mask=(ids > 0).long())


class Model(torch.nn.Module):
    """A state is a code and its square."""

    device = torch.device("cpu")

    @classmethod
    def from_pretrained(cls, name: str, *, local_files_only: bool) -> "Model":
        return cls()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        codes = input_ids.float()
        return types.SimpleNamespace(last_hidden_state=torch.stack([codes, codes**2], -1))


@pytest.fixture(autouse=True)
def _transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.SimpleNamespace(AutoTokenizer=Tokenizer, AutoModel=Model)
    monkeypatch.setitem(sys.modules, "transformers", module)


@pytest.mark.parametrize(
    ("options", "words", "read"),
    [
        ([], ["b", "aab", "cd", "abab"], lambda codes: codes.mean(0)),
        (["--keep-length", "--pooling", "first"], ["b", "aab"], lambda codes: codes[0]),
        (["--keep-length", "--max-length", "2"], ["b", "aab"], lambda codes: codes[:2].mean(0)),
        (["--keep-length", "--prefix", "q: "], ["q: b", "q: ab"], lambda codes: codes.mean(0)),
        (["--keep-length", "--spaces"], ["b", "a a b"], lambda codes: codes.mean(0)),
    ],
)
def test_a_row_has_the_pooled_states_of_its_text(
    options: list[str], words: list[str], read: Any, tmp_path: Path
) -> None:
    texts = [word.removeprefix("q: ") for word in words]
    texts = [text.replace(" ", "") for text in texts] if "--spaces" in options else texts
    path = write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    out = tmp_path / "v.npy"
    flags = ["--data", path, "--model", tmp_path, "--out", out, *options]
    assert main([str(flag) for flag in flags]) == 0
    found = np.load(out)
    assert found.dtype == np.float32 and len(found) == len(words)
    for vector, word in zip(found, words, strict=True):
        codes = np.array([1, *map(ord, word)], np.float32)
        wanted = read(np.stack([codes, codes**2], 1))
        if "--keep-length" not in options:
            wanted = wanted / np.linalg.norm(wanted)
        np.testing.assert_allclose(vector, wanted, rtol=1e-5)


def test_tokens_are_joined(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"tokens": ["C", "Cl"]}])
    flags = ["--data", path, "--model", tmp_path, "--keep-length", "--join", ""]
    assert main([*map(str, flags), "--out", str(tmp_path / "v.npy")]) == 0
    codes = np.array([1, *map(ord, "CCl")])
    np.testing.assert_allclose(np.load(tmp_path / "v.npy")[0, 0], codes.mean(), rtol=1e-6)


def test_mistakes_are_one_line_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_rows(tmp_path / "rows.jsonl", [{"text": "a"}]))
    options = ["--data", path, "--model", "nowhere"]
    message = "--model nowhere: wanted a model of transformers (--download fetches it), got We"
    assert_refused(main, options, message, tmp_path / "new.npy", capsys)
    options = ["--data", str(tmp_path / "no.jsonl"), "--model", str(tmp_path)]
    assert_refused(main, options, "no.jsonl: wanted a readable file", tmp_path / "new.npy", capsys)
    monkeypatch.setitem(sys.modules, "transformers", None)
    message = "wanted the package transformers (pip install 'seqssvae[embed]'), got none"
    assert_refused(main, ["--data", path, "--model", "m"], message, tmp_path / "new.npy", capsys)
