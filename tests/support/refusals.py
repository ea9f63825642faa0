"""How a command refuses: one line, exit status 2."""

from collections.abc import Callable, Sequence

import pytest


def refusal(
    main: Callable[[Sequence[str]], int], options: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> str:
    """Run a command that must refuse its options, and return its message."""
    try:
        status: object = main(options)
    except SystemExit as stop:
        status = stop.code
    message = capsys.readouterr().err
    assert status == 2 and message.count("\n") == 1, (status, message)
    return message
