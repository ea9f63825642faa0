"""What ends a command: the exceptions and their statuses."""

import signal

import pytest

from seqssvae.errors import Interrupted


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_gives_the_status_that_a_shell_expects(number: int, status: int) -> None:
    assert Interrupted(number, "saved").status == status
