import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seqssvae.nn.engine import kernels
from seqssvae.nn.engine.kernels import kernels_for
from tests.support.compiler import needs_compiler


@pytest.fixture(autouse=True)
def uncached(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget whether there are kernels."""
    monkeypatch.delenv("SEQSSVAE_KERNELS", raising=False)
    kernels._kernels.cache_clear()
    yield
    kernels._kernels.cache_clear()


@needs_compiler
@pytest.mark.parametrize("with_table", [True, False])
def test_a_softmax_and_its_gradient(with_table: bool) -> None:
    """Of logits far apart too, beside torch's own."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(37, 101, generator=draw, dtype=torch.float32) * torch.logspace(-3, 3, 101)
    logits = logits.float()
    table = torch.randn(5, 101, generator=draw, dtype=torch.float32) if with_table else None
    classes = torch.randint(5, (37,), generator=draw) if with_table else None
    targets = torch.randint(101, (37,), generator=draw)
    upstream = torch.randn(37, generator=draw, dtype=torch.float32)
    exact = logits.double().requires_grad_()
    biased = exact if table is None or classes is None else exact + table.double()[classes]
    wanted = biased.log_softmax(1).gather(1, targets[:, None])[:, 0]
    (gradient,) = torch.autograd.grad((wanted * upstream).sum(), exact)
    kernels_of = kernels_for(logits)
    assert kernels_of is not None
    untouched = logits.clone()
    got = kernels_of.log_softmax(untouched, table, classes, targets, None)
    torch.testing.assert_close(got.double(), wanted.detach(), rtol=1e-5, atol=1e-5)
    got = kernels_of.log_softmax(logits, table, classes, targets, upstream)
    torch.testing.assert_close(got.double(), wanted.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits.double(), gradient, rtol=1e-4, atol=1e-6)


@needs_compiler
def test_a_nan_among_logits_stays_one() -> None:
    logits = torch.zeros(2, 40, dtype=torch.float32)
    logits[0, 33] = torch.nan
    kernels_of = kernels_for(logits)
    assert kernels_of is not None
    found = kernels_of.log_softmax(logits, None, None, torch.zeros(2).long(), None)
    assert found.isnan().tolist() == [True, False]


def test_other_dtypes_and_devices_have_no_kernels() -> None:
    assert kernels_for(torch.zeros(1, dtype=torch.float64)) is None
    fine = torch.zeros(1, dtype=torch.float32)
    assert kernels_for(fine, torch.zeros(1, dtype=torch.bfloat16)) is None
    assert kernels_for(fine, torch.zeros(1, dtype=torch.float32, device="meta")) is None


@pytest.mark.parametrize(
    ("name", "value"), [("SEQSSVAE_KERNELS", "off"), ("CC", "no-such-compiler")]
)
def test_the_environment_switches_kernels_off(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert kernels_for(torch.zeros(1, dtype=torch.float32)) is None


@needs_compiler
def test_a_compiler_that_fails_is_logged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "cc"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ]\n')
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with caplog.at_level("INFO", "seqssvae.nn.engine.kernels"):
        assert kernels_for(torch.zeros(1, dtype=torch.float32)) is None
    assert "C kernels unavailable, using PyTorch (slower)" in caplog.text
    assert not list((tmp_path / "seqssvae").iterdir())


@needs_compiler
def test_a_folder_that_others_can_write_to_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "seqssvae"
    folder.mkdir()
    folder.chmod(0o777)
    with caplog.at_level("INFO", "seqssvae.nn.engine.kernels"):
        assert kernels_for(torch.zeros(1, dtype=torch.float32)) is None
    assert "only its owner can write" in caplog.text


@needs_compiler
def test_it_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernels_for(torch.zeros(1, dtype=torch.float32)) is not None
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "seqssvae").iterdir()}
    assert sorted(path.suffix for path in made) == [".sha256", ".so"]
    kernels._kernels.cache_clear()
    assert kernels_for(torch.zeros(1, dtype=torch.float32)) is not None
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "seqssvae").iterdir()} == made


@needs_compiler
@pytest.mark.parametrize("suffix", [".so", ".sha256"])
@pytest.mark.parametrize("size", [0, 50])
def test_a_truncated_library_is_compiled_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str, size: int
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "seqssvae"
    compiled = kernels._compiled(["cc"], kernels._cache())
    content = compiled.read_bytes()
    os.truncate(next(folder.glob(f"*{suffix}")), size)
    assert kernels._compiled(["cc"], kernels._cache()).read_bytes()[:4] == content[:4]
    assert kernels._is_whole(compiled, compiled.with_suffix(".sha256"))


@needs_compiler
@pytest.mark.parametrize("compiler", ["cc -g0", "'cc'", ""])
def test_the_compiler_may_have_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiler: str
) -> None:
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernels_for(torch.zeros(1, dtype=torch.float32)) is not None


def test_without_a_home_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("could not determine home directory")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert kernels_for(torch.zeros(1, dtype=torch.float32)) is None
