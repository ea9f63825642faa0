import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seqssvae.nn.engine import blocks, kernels
from seqssvae.nn.engine.cells import gru, lstm
from seqssvae.nn.engine.kernels import kernels_for

SIZES = (40, 33, 17, 16, 2)
HAS_COMPILER = sys.platform == "linux" and shutil.which(os.environ.get("CC", "cc")) is not None
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler on this machine")


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loops of every size may use threads, and whether there are kernels is found out anew."""
    monkeypatch.setattr(blocks, "SMALL", 0)
    monkeypatch.delenv("SEQSSVAE_KERNELS", raising=False)
    kernels._kernels.cache_clear()
    yield
    kernels._kernels.cache_clear()


def no_kernels(*_: Tensor) -> None:
    """As where there is no compiler."""


def run(
    num_gates: int, *, with_context: bool, with_position: bool, scale: float = 1.0, size: int = 19
) -> list[Tensor]:
    """Hidden states of a cell in two directions, and the gradients of all its arguments."""
    draw = torch.Generator().manual_seed(0)
    width, num_rows, num_positions = num_gates * size, SIZES[0], sum(SIZES)
    num_inputs = 6 if with_position else num_positions
    shapes = [(2, num_inputs, width), (2, num_rows, width), (2, width, size), (2, num_rows, size)]
    shapes.append((2, num_rows, size) if num_gates == 4 else (2, 1, size))
    scales = (scale, scale, 0.2, 1.0, 1.0)
    values = [
        (factor * torch.randn(shape, generator=draw, dtype=torch.float32)).requires_grad_()
        for factor, shape in zip(scales, shapes, strict=True)
    ]
    position = torch.randint(6, (2, num_positions), generator=draw) if with_position else None
    upstream = torch.randn(2, num_positions, size, generator=draw, dtype=torch.float32)
    projected, context, *rest = values
    cell = lstm if num_gates == 4 else gru
    hidden = cell(projected, position, context if with_context else None, SIZES, *rest)
    wanted = values if with_context else [projected, *rest]
    return [hidden, *torch.autograd.grad((hidden * upstream).sum(), wanted)]


@needs_compiler
@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("with_context", [True, False])
@pytest.mark.parametrize("with_position", [True, False])
@pytest.mark.parametrize("num_gates", [3, 4])
def test_a_kernel_does_what_torch_does(
    monkeypatch: pytest.MonkeyPatch,
    num_gates: int,
    with_position: bool,
    with_context: bool,
    num_threads: int,
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 300)  # several blocks for each thread
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(num_threads)
        assert kernels_for(torch.zeros(1, dtype=torch.float32)) is not None
        fast = run(num_gates, with_context=with_context, with_position=with_position)
        monkeypatch.setattr(blocks, "kernels_for", no_kernels)
        plain = run(num_gates, with_context=with_context, with_position=with_position)
    finally:
        torch.set_num_threads(before)
    for got, wanted in zip(fast, plain, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert any(not torch.equal(*pair) for pair in zip(fast, plain, strict=True)), "one path"


@needs_compiler
@pytest.mark.parametrize("scale", [1e-4, 40.0, 1e30])
def test_numbers_far_from_one(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """Gates that are nearly linear, and gates that are closed."""
    for num_gates in (3, 4):
        fast = run(num_gates, with_context=True, with_position=True, scale=scale)
        with monkeypatch.context() as patch:
            patch.setattr(blocks, "kernels_for", no_kernels)
            plain = run(num_gates, with_context=True, with_position=True, scale=scale)
        for got, wanted in zip(fast, plain, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@needs_compiler
def test_no_rows_have_no_gradient() -> None:
    values = [torch.zeros(shape, requires_grad=True) for shape in ((2, 6, 8), (2, 8, 2))]
    values = [value.detach().float().requires_grad_() for value in values]
    none = torch.zeros(2, 0, 2, dtype=torch.float32)
    hidden = lstm(values[0], torch.zeros(2, 0).long(), None, (), values[1], none, none)
    assert hidden.shape == (2, 0, 2)
    assert not any(part.any() for part in torch.autograd.grad(hidden.sum(), values))


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


@needs_compiler
def test_a_nan_stays_one() -> None:
    projected = torch.zeros(1, 3, 8, dtype=torch.float32)
    projected[0, 1, 5] = torch.nan
    zeros = torch.zeros(1, 2, 2, dtype=torch.float32)
    weight = torch.zeros(1, 8, 2, dtype=torch.float32)
    hidden = lstm(projected, None, None, (2, 1), weight, zeros, zeros)
    assert hidden.isnan().tolist() == [[[False, False], [False, True], [False, False]]]


def test_other_dtypes_and_devices_have_no_kernels() -> None:
    assert kernels_for(torch.zeros(1, dtype=torch.float64)) is None
    fine = torch.zeros(1, dtype=torch.float32)
    assert kernels_for(fine, torch.zeros(1, dtype=torch.bfloat16)) is None
    assert kernels_for(fine, torch.zeros(1, dtype=torch.float32, device="meta")) is None


def test_the_environment_may_want_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQSSVAE_KERNELS", "off")
    assert kernels_for(torch.zeros(1, dtype=torch.float32)) is None
    assert len(run(4, with_context=True, with_position=True)) == 6


def test_without_a_compiler_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert kernels_for(torch.zeros(1, dtype=torch.float32)) is None


@needs_compiler
def test_a_compiler_that_fails_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "cc"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ]\n')
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with caplog.at_level("INFO", "seqssvae.nn.engine.kernels"):
        assert kernels_for(torch.zeros(1, dtype=torch.float32)) is None
    assert "no kernels in C" in caplog.text
    assert not list((tmp_path / "seqssvae").iterdir())


@needs_compiler
def test_a_folder_that_others_write_to_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "seqssvae"
    folder.mkdir()
    folder.chmod(0o777)
    with caplog.at_level("INFO", "seqssvae.nn.engine.kernels"):
        assert kernels_for(torch.zeros(1, dtype=torch.float32)) is None
    assert "only its owner writes" in caplog.text


@needs_compiler
def test_it_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernels_for(torch.zeros(1, dtype=torch.float32)) is not None
    (library,) = (tmp_path / "seqssvae").iterdir()
    made = library.stat().st_mtime_ns
    kernels._kernels.cache_clear()
    assert kernels_for(torch.zeros(1, dtype=torch.float32)) is not None
    (again,) = (tmp_path / "seqssvae").iterdir()
    assert again == library and again.stat().st_mtime_ns == made
