import io
import logging
import sys
import threading
from collections.abc import Iterator

import pytest

from seqssvae import progress
from seqssvae.progress import Phases, announced, in_words, phase, shown, task, timed, track


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    """Text that was written to a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(progress, "clock", fake)
    return fake


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The lines that were logged so far."""
    caplog.set_level(logging.INFO, "seqssvae.progress")
    found: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: found.append(record.getMessage()))
    progress.logger.addHandler(handler)
    yield found
    progress.logger.removeHandler(handler)


def test_a_line_every_half_minute_says_how_much_is_left(clock: Clock, lines: list[str]) -> None:
    """At the mean speed so far; 10 s a row, and no line more than once in 30 s."""
    with shown():
        for _ in track(range(12), "rows read", 12):
            clock.seconds += 10
    assert lines == [
        "3 of 12 rows read, about 90 s left",
        "6 of 12 rows read, about 60 s left",
        "9 of 12 rows read, about 30 s left",
        "12 of 12 rows read, about 0 s left",
    ]


def test_work_that_was_done_before_does_not_count_for_the_speed(
    clock: Clock, lines: list[str]
) -> None:
    with shown(), task("steps", 2000, done=1000) as steps:
        clock.seconds += 60
        steps.advance(100, note="loss 3.25")
    assert lines == ["1,100 of 2,000 steps (loss 3.25), about 9 min left"]


def test_without_a_total_the_count_alone_is_said(clock: Clock, lines: list[str]) -> None:
    with shown():
        for total in (None, 0):
            with task("rows read", total) as rows:
                clock.seconds += 31
                rows.advance(1234)
    assert lines == ["1,234 rows read"] * 2


def test_tasks_inside_others_share_a_line(clock: Clock, lines: list[str]) -> None:
    """The outer ones first; one that has ended is gone, and so is one that an error ended."""
    with shown(), task("trainings", 4) as trainings, pytest.raises(KeyError):
        with task("steps", 10) as steps:
            clock.seconds += 30
            steps.advance(5)
        trainings.advance()
        clock.seconds += 30
        trainings.advance()
        with task("rows", 10):
            raise KeyError
    with shown(), task("trainings", 4) as trainings:
        clock.seconds += 30
        trainings.advance()
    assert lines == [
        "0 of 4 trainings; 5 of 10 steps, about 30 s left",
        "2 of 4 trainings, about 60 s left",
        "1 of 4 trainings, about 90 s left",
    ]


def test_a_task_in_one_of_the_same_name_is_a_part_of_it(clock: Clock, lines: list[str]) -> None:
    with shown(), task("rows", 100):
        for _ in range(2):
            with task("rows", 50) as part:
                clock.seconds += 40
                part.advance(50)
    assert lines == ["50 of 100 rows, about 40 s left", "100 of 100 rows, about 0 s left"]


def test_tasks_may_end_in_any_order(clock: Clock, lines: list[str]) -> None:
    """As generators do, which are closed when they are dropped."""
    with shown():
        first, second = iter(track([1, 2], "first", 2)), iter(track([1, 2], "second", 2))
        next(first), next(second)
        del first
        clock.seconds += 30
        next(second)
    assert lines == ["1 of 2 second, about 30 s left"]


def test_nothing_is_shown_unless_it_is_asked_for(clock: Clock, lines: list[str]) -> None:
    """Nor by a thread of a program that asked for it, or by any process but the first."""

    def work() -> None:
        clock.seconds += 100
        for _ in track(range(3), "rows"):
            clock.seconds += 100
        with task("rows", 3) as rows:
            rows.advance(3)
            assert rows.done == 3

    work()
    with shown():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seqssvae.distributed.is_writer", lambda: False)
        with shown():
            work()
    assert lines == []
    with shown(), shown():
        work()
    assert lines != []


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """It is gone at the end, and the log has no line of it; lines of the log do not break it."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0)
    monkeypatch.setattr(progress, "LOG_SECONDS", 0)
    with shown(), task("steps", 4, done=1) as steps:
        steps.advance(note="loss 2.50")
        assert steps._bar is not None
        steps._bar.refresh()
    text = terminal.getvalue()
    assert "steps:  50%" in text and "2/4" in text and "loss 2.50" in text
    assert text.rpartition("\r")[0].rpartition("\r")[2].strip() == "" and lines == []


def test_a_short_task_draws_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with shown():
        for _ in track(range(3), "rows", 3):
            pass
    assert terminal.getvalue().strip() == ""


def test_work_without_progress_is_announced(clock: Clock, lines: list[str]) -> None:
    for seconds in (0.5, 130):
        with announced("training pieces"):
            clock.seconds += seconds
    assert lines == ["training pieces", "training pieces", "training pieces: took 2 min"]


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5940, "99 min"), (11100, "3 h 5 min")],
)
def test_words(seconds: float, wanted: str) -> None:
    assert in_words(seconds) == wanted


def test_phases_add_up_to_the_whole(clock: Clock) -> None:
    """What is inside another phase is not counted twice; what an error ends is counted."""
    with timed() as seconds:
        with phase("reading"):
            clock.seconds += 3
        clock.seconds += 100  # of no phase
        for _ in range(2):
            with pytest.raises(KeyError), phase("steps"):
                clock.seconds += 5
                with phase("evaluation"):
                    clock.seconds += 7
                clock.seconds += 1
                raise KeyError
    assert seconds == {"reading": 3, "steps": 12, "evaluation": 14}
    with phase("steps"):  # no run is timed
        clock.seconds += 1
    assert seconds["steps"] == 12


def test_phases_continue_earlier_ones(clock: Clock) -> None:
    phases = Phases({"steps": 10.0})
    with phases.phase("steps"):
        clock.seconds += 5
    assert phases.seconds == {"steps": 15}
