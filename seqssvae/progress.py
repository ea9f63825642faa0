"""Progress of what takes long, and the seconds of each phase of a run.

On a terminal a task is a bar on stderr; elsewhere a line of the log says every half minute how far
the running tasks are. Both tell how much time is left. Nothing is shown outside of `shown`: the
command line is inside, a program that imports the package is not unless it asks.
"""

import contextlib
import dataclasses
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from seqssvae import distributed

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")

logger = logging.getLogger(__name__)

DELAY_SECONDS = 2.0  # before a bar is drawn
LOG_SECONDS = 30.0  # from a line to the next

clock = time.monotonic


@dataclasses.dataclass
class Task:
    """Work of a known or an unknown amount; made by `task`.

    Attributes:
        what: What is counted, as in "12 of 96 rows read".
        total: Amount of all work; None or 0 if it is not known.
        done: Amount of what is done.
        note: Shown beside it.
    """

    what: str
    total: float | None
    done: float
    note: str = ""
    _display: "_Display | None" = None
    _bar: "tqdm[Any] | None" = None

    def __post_init__(self) -> None:
        self._first, self._start = self.done, clock()

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Count some more work as done."""
        self.done += amount
        self.note = note
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.total = self.total and int(self.total)
            self._bar.update(int(self.done) - self._bar.n)
        elif self._display is not None:
            self._display.log()

    def describe(self) -> str:
        """How far it is, and how much time is left at its speed so far."""
        line = f"{int(self.done):,} of {int(self.total):,}" if self.total else f"{int(self.done):,}"
        line += f" {self.what}" + (f" ({self.note})" if self.note else "")
        new = self.done - self._first
        if self.total and new > 0:
            left = (clock() - self._start) / new * max(self.total - self.done, 0)
            line += f", about {in_words(left)} left"
        return line


class _Display:
    """The tasks that are shown, the outer ones first."""

    def __init__(self, *, is_terminal: bool) -> None:
        self.is_terminal = is_terminal
        self.tasks: list[Task] = []
        self._logged = clock()

    def log(self) -> None:
        """A line of all tasks, if the last one was half a minute ago."""
        if clock() - self._logged >= LOG_SECONDS:
            self._logged = clock()
            logger.info("%s", "; ".join(task.describe() for task in self.tasks))


_display: ContextVar[_Display | None] = ContextVar("display", default=None)  # of this thread


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """Within it, progress is shown, by the first of several processes."""
    if _display.get() is not None or not distributed.is_writer():
        yield
        return
    with contextlib.ExitStack() as stack:
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        if is_terminal:
            from tqdm.contrib.logging import logging_redirect_tqdm

            stack.enter_context(logging_redirect_tqdm())
        token = _display.set(_Display(is_terminal=is_terminal))
        stack.callback(_display.reset, token)
        yield


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Within it, progress is shown, and the log too, on stderr unless the program shows it."""
    package, level = logging.getLogger("seqssvae"), logging.getLogger("seqssvae").level
    with contextlib.ExitStack() as stack:
        if not package.hasHandlers():
            handler = logging.StreamHandler()
            package.addHandler(handler)
            stack.callback(package.removeHandler, handler)
        package.setLevel(logging.INFO)
        stack.callback(package.setLevel, level)
        stack.enter_context(shown())
        yield


@contextlib.contextmanager
def task(what: str, total: float | None = None, *, done: float = 0) -> Iterator[Task]:
    """Work whose progress is shown.

    A task within one of the same name is a part of it, and counts there.

    Args:
        what: See `Task`.
        total: See `Task`.
        done: What was done before, in an earlier process.
    """
    display = _display.get()
    if display is None:
        yield Task(what, total, done)
        return
    outer = next((one for one in display.tasks if one.what == what), None)
    if outer is not None:
        yield outer
        return
    with contextlib.ExitStack() as stack:
        one = Task(what, total, done, _display=display)
        if display.is_terminal:
            from tqdm import tqdm

            one._bar = tqdm(
                desc=what,
                total=total or None,
                initial=int(done),
                delay=DELAY_SECONDS,
                leave=False,
                dynamic_ncols=True,
            )
            stack.callback(one._bar.close)
        display.tasks.append(one)
        stack.callback(display.tasks.remove, one)
        yield one


def track(items: Iterable[T], what: str, total: float | None = None) -> Iterable[T]:
    """The same items, each of which is counted when the next one is asked for."""
    return items if _display.get() is None else _counted(items, what, total)


def _counted(items: Iterable[T], what: str, total: float | None) -> Iterator[T]:
    with task(what, total) as one:
        for item in items:
            yield item
            one.advance()


@contextlib.contextmanager
def announced(what: str) -> Iterator[None]:
    """For work that cannot say how far it is: a line when it begins, and one if it was long."""
    logger.info("%s", what)
    start = clock()
    yield
    if (seconds := clock() - start) >= DELAY_SECONDS:
        logger.info("%s: took %s", what, in_words(seconds))


def in_words(seconds: float) -> str:
    """For instance "40 s", "12 min", "3 h 5 min"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Phases:
    """Seconds of each phase; those of a phase inside another one are not counted in that.

    Args:
        seconds: By name, of earlier processes; it is added to.
    """

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self._running: list[str] = []
        self._since = clock()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time within it."""
        self._turn()
        self._running.append(name)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()

    def _turn(self) -> None:
        now = clock()
        if self._running:
            name = self._running[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


_phases: ContextVar[Phases | None] = ContextVar("phases", default=None)


@contextlib.contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Within it, each `phase` is timed; yields the seconds by name."""
    phases = Phases({})
    token = _phases.set(phases)
    try:
        yield phases.seconds
    finally:
        _phases.reset(token)


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """A phase of the run that is timed, if one is."""
    phases = _phases.get()
    with contextlib.nullcontext() if phases is None else phases.phase(name):
        yield
