"""Signals, sent to real processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from seqssvae.errors import Interrupted
from seqssvae.training.signals import StopSignals, interruptible
from tests.support.rows import write_rows
from tests.support.training import SETTINGS, assert_same_run

ROOT = Path(__file__).parents[2]
# Trainings one after the other, each a process of its own that is forked when all is imported. A
# step takes a while, so that a signal finds one in progress; a file has its number.
TRAININGS = """
import json, os, resource, sys, time
from pathlib import Path
import datasets, torch._dynamo  # which preparation and the optimiser import
import seqssvae.training.fit, seqssvae.trained
from seqssvae.cli import main
from seqssvae.training.step import Stepper
folder, plan, settings = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
mark, stderr, plain_step = folder / "mark", folder / "stderr", Stepper.step
results = []
for name, wait, first, signals, *limit in plan:
    mark.write_text("-1")
    child = os.fork()
    if child == 0:
        os.dup2(os.open(stderr, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), 2)
        def step(stepper, number):
            mark.write_text(str(number))
            if limit and number == first:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit[0], limit[0]))
            end = time.monotonic() + wait
            while time.monotonic() < end:
                time.sleep(0.001)
            return plain_step(stepper, number)
        Stepper.step = step
        words = ["--data", folder / "rows.jsonl", "--out", folder / name, "--resume", *settings]
        os._exit(main(["train", *map(str, words)]))
    for number in signals:
        while int(mark.read_text() or -1) < first:
            time.sleep(0.002)
        os.kill(child, number)
        time.sleep(0.3)
    start = time.monotonic()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    lines = stderr.read_text().splitlines()
    results.append([status, int(mark.read_text()), lines[-1], time.monotonic() - start])
print(json.dumps(results))
"""


class Outcome(NamedTuple):
    """How a training ended."""

    status: int
    step: int  # the last one that was begun
    last_line: str  # the last line on stderr
    seconds: float  # after the last signal


def run_trainings(folder: Path, plan: Sequence[tuple[Any, ...]]) -> list[Outcome]:
    """Train in real processes.

    Args:
        folder: For rows and runs.
        plan: For each training the run's name, how many seconds a step takes at least, the step
            that is waited for, and the signals that are sent then; and how many bytes a file may
            have from that step on, if there is a limit.
    """
    rows = [
        {"text": pair * (1 + i % 4), "id": f"{pair}{i}", **({"label": pair} if i < 8 else {})}
        for pair in ("ab", "cd")
        for i in range(20)
    ]
    write_rows(folder / "rows.jsonl", rows)
    done = subprocess.run(
        [sys.executable, "-c", TRAININGS, str(folder), json.dumps(plan), *SETTINGS],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Outcome(*result) for result in json.loads(done.stdout.splitlines()[-1])]


def test_signals_then_resume_then_the_same_bits(tmp_path: Path) -> None:
    """SIGTERM, SIGINT, each of them twice, then to the end: as a run that was never stopped.

    A second signal comes in the middle of a step that would take a minute.
    """
    term, interrupt = signal.SIGTERM, signal.SIGINT
    _, *asked, twice, thrice, last = run_trainings(
        tmp_path,
        [
            ("whole", 0.0, 0, []),
            ("run", 0.2, 3, [term]),
            ("run", 0.2, 12, [interrupt]),
            ("run", 60.0, 0, [term, interrupt]),
            ("run", 60.0, 0, [interrupt, term]),
            ("run", 0.0, 0, []),
        ],
    )
    for ended, number, first in zip(asked, (term, interrupt), (3, 12), strict=True):
        assert ended.status == {term: 143, interrupt: 130}[number]
        assert ended.step >= first
        assert ended.last_line == (  # the step in progress was finished
            f"seqssvae train: stopped by {number.name}; "
            f"--resume continues from step {ended.step + 1}"
        )
    assert (twice.status, thrice.status) == (-interrupt, -term)  # 130 and 143 in a shell
    assert max(twice.seconds, thrice.seconds) < 20
    assert last.status == 0
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.faults
def test_after_a_full_disk_a_run_is_resumed_to_the_same_bits(tmp_path: Path) -> None:
    _, full, last = run_trainings(
        tmp_path,
        [("whole", 0.0, 0, []), ("run", 0.0, 10, [], 8192), ("run", 0.0, 0, [])],
    )
    assert full.status == 2 and full.step >= 10
    assert full.last_line.endswith(": wanted to write it, got File too large")
    assert full.last_line.startswith("seqssvae train: error: ")
    assert last.status == 0
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_is_stopped_ten_times(tmp_path: Path, number: signal.Signals) -> None:
    """Killed or interrupted after different numbers of steps, then resumed to the same bits."""
    firsts = (0, 1, 4, 6, 7, 8, 13, 14, 15, 20)
    stopped = [("run", 0.2, first, [int(number)]) for first in firsts]
    _, *all_ended, last = run_trainings(
        tmp_path, [("whole", 0.0, 0, []), *stopped, ("run", 0.0, 0, [])]
    )
    wanted = -number if number == signal.SIGKILL else 128 + number
    assert [ended.status for ended in all_ended] == [wanted] * len(firsts)
    assert last.status == 0
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_the_first_signal_is_recorded_and_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # the next one ends at once
    assert signal.getsignal(signal.SIGTERM) is before
    assert Interrupted(signal.SIGTERM, "").status == 143


def test_an_ignored_signal_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.received is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_no_handler_is_installed() -> None:
    before, done = signal.getsignal(signal.SIGTERM), []

    def run() -> None:
        with StopSignals():
            done.append(signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [True]


@pytest.mark.parametrize(("pause", "status"), [(0.0, 7), (0.3, -signal.SIGINT)])
def test_a_signal_from_two_senders_is_one(pause: float, status: int) -> None:
    """Within a while; after that it ends the process."""
    child = os.fork()
    if child == 0:
        with StopSignals(same_within=0.2) as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(pause)
            os.kill(os.getpid(), signal.SIGINT)
            os._exit(7 if signals.received == signal.SIGTERM else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status


def test_what_is_interruptible_ends_at_once() -> None:
    """Also after a signal that was recorded before, and not afterwards."""
    with StopSignals() as signals:
        with pytest.raises(Interrupted, match="^SIGTERM; nothing is lost$"):
            with interruptible("nothing is lost"):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
        with pytest.raises(Interrupted, match="^SIGTERM; again$"), interruptible("again"):
            time.sleep(60)
        assert signals.received == signal.SIGTERM and signals.message is None
    with interruptible("no signals are recorded"):
        pass
