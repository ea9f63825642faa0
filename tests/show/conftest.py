import pytest

from seqssvae.show.explorer import Exploration, open_run
from tests.support.fixtures import SmallRun


@pytest.fixture(scope="session")
def exploration(small_run: SmallRun) -> Exploration:
    """The explorer of the small run."""
    return open_run(small_run[0])
