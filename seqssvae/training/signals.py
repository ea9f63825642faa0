"""SIGTERM and SIGINT: during training recorded, so that a step is finished first, else at once."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any, Self

from seqssvae.errors import Interrupted

NUMBERS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Within it, the first SIGTERM or SIGINT is recorded; a second one ends the process at once.

    Outside the main thread, where Python handles no signals, nothing is recorded. A signal that was
    ignored before stays so.

    Args:
        same_within: Seconds after the first in which another one is the same: a terminal and
            torchrun may both send it. Later ones wait for the interpreter then, and cannot end the
            process in the middle of a call that does not return.
        message: With one, the first signal raises `Interrupted` with it, at once.

    Attributes:
        received: The signal that was recorded, or None.
    """

    def __init__(self, *, same_within: float = 0.0, message: str | None = None) -> None:
        self.same_within, self._first = same_within, 0.0
        self.received: int | None = None
        self.message = message
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._record)
        self._token = _innermost.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        _innermost.reset(self._token)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._first = number, time.monotonic()
        elif time.monotonic() - self._first > self.same_within:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if not self.same_within:
            for other in self._before:
                # the system's default ends the process in the middle of a step too
                signal.signal(other, signal.SIG_DFL)
        if self.message is not None:
            raise Interrupted(self.received, self.message)


_innermost: ContextVar[StopSignals | None] = ContextVar("innermost", default=None)


@contextlib.contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Within it, a signal that would be recorded, or is, raises `Interrupted`: nothing is lost.

    Args:
        message: What is saved, in a line.

    Raises:
        Interrupted: a signal came.
    """
    signals = _innermost.get() or StopSignals()
    before, signals.message = signals.message, message
    try:
        if signals.received is not None:
            raise Interrupted(signals.received, message)
        yield
    finally:
        signals.message = before
