"""Every test starts seeded, in float64, with Pyro's checks on and on one thread."""

from collections.abc import Iterator

import pyro
import pytest
import torch

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)


@pytest.fixture(autouse=True)
def _start() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    with pyro.validation_enabled(True):
        yield
