"""Every test starts seeded, in float64, with Pyro's checks on and on one thread."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pyro
import pytest
import torch

from seqssvae import devices
from seqssvae.estimators.terms import fixed_noise
from tests.support.fixtures import FixNoise
from tests.support.molecules import importable, write_packages

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell starts jobs in the background so, and processes that tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)


@pytest.fixture(scope="session", autouse=True)
def _on_the_cpu() -> Iterator[None]:
    """Keep tests on the CPU, where there is a GPU too, unless they name a device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "_has_gpu", lambda: False)
        yield


@pytest.fixture(autouse=True)
def _start() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    with pyro.validation_enabled(True):
        yield


@pytest.fixture
def fix_noise() -> Iterator[FixNoise]:
    """Give z the noise `[S, Z]` until the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda noise: stack.enter_context(fixed_noise(noise))


@pytest.fixture
def molecule_packages(tmp_path: Path) -> Iterator[Path]:
    """A folder with stand-ins for rdkit, fcd_torch and molsets, which are imported from it."""
    folder = tmp_path / "packages"
    write_packages(folder)
    with importable(folder):
        yield folder
