"""Processes that torchrun started, or that find each other as if it had.

A step of a `Job` takes a while, so that a signal finds one in progress.
"""

import contextlib
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]

# A server that imports once what most programs import, and forks a process for each of them.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["torch._dynamo", "pyro", "datasets", "seqssvae.training.fit", "seqssvae.compare.compare"]
)

PROGRAM = """
import os, sys, time
from pathlib import Path
from seqssvae.cli import main
from seqssvae.training.step import Stepper
folder, wait, words = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
rank, plain_step = os.environ["RANK"], Stepper.step
(folder / f"process-{rank}").write_text(str(os.getpid()))
def step(stepper, number):
    (folder / f"step-{rank}").write_text(str(number))
    time.sleep(wait)
    return plain_step(stepper, number)
Stepper.step = step
sys.exit(main(words))
"""
LAUNCHER = ("-m", "torch.distributed.run")
ALONE = ("--standalone", "--nproc-per-node", "2")


class Outcome(NamedTuple):
    """How a job ended."""

    status: int
    told: list[str]  # our own lines on stderr
    seconds: float  # after the last signal


class Job:
    """A training that torchrun started.

    Args:
        folder: For what it says of itself.
        words: After `seqssvae`.
        wait: Seconds that a step takes at least.
        launch: Options of torchrun.
        before: A command that runs torchrun, for instance in another network.
    """

    def __init__(
        self,
        folder: Path,
        words: Sequence[object],
        *,
        wait: float = 0.0,
        launch: Sequence[str] = ALONE,
        before: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        for mark in folder.glob("step-*"):
            mark.unlink()
        program = folder / "program.py"
        program.write_text(PROGRAM)
        command = [
            *before, sys.executable, *LAUNCHER, *launch, str(program), str(folder), str(wait),
            *map(str, words),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.torchrun = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.told: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.last_signal = time.monotonic()

    def _read(self) -> None:
        assert self.torchrun.stderr is not None
        for line in self.torchrun.stderr:
            self.told.append(line.rstrip("\n"))

    def wait_for(self, step: int, rank: int = 0, seconds: float = 300.0) -> None:
        """Wait until a step is in progress, or the job has ended."""
        end, mark = time.monotonic() + seconds, self.folder / f"step-{rank}"
        while self.torchrun.poll() is None:
            with contextlib.suppress(FileNotFoundError, ValueError):
                if int(mark.read_text()) >= step:
                    return
            assert time.monotonic() < end, self.told
            time.sleep(0.01)

    def send(self, number: signal.Signals, rank: int | None = None) -> None:
        """Send a signal to a process, or to torchrun."""
        found = self.torchrun.pid
        if rank is not None:
            found = int((self.folder / f"process-{rank}").read_text())
        os.kill(found, number)
        self.last_signal = time.monotonic()

    def end(self, seconds: float = 120.0) -> Outcome:
        """Wait for the end of all of its processes."""
        status = self.torchrun.wait(timeout=seconds)
        self.end_of_processes(seconds)
        self._reader.join(timeout=10)
        return Outcome(status, self.ours(), time.monotonic() - self.last_signal)

    def end_of_processes(self, seconds: float) -> None:
        """Wait for all but torchrun itself, so long after the last signal at most."""
        for path in self.folder.glob("process-*"):
            while _runs(int(path.read_text())):
                assert time.monotonic() < self.last_signal + seconds, (path.name, self.told)
                time.sleep(0.05)

    def ours(self) -> list[str]:
        """What it said, but for torchrun."""
        return [line for line in list(self.told) if line.startswith("seqssvae")]

    def kill(self) -> None:
        """Leave nothing behind."""
        for path in self.folder.glob("process-*"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(path.read_text()), signal.SIGKILL)
            path.unlink()
        with contextlib.suppress(ProcessLookupError):
            self.torchrun.kill()
        self.torchrun.wait()
        self._reader.join(timeout=10)
        if self.torchrun.stderr is not None:
            self.torchrun.stderr.close()


@contextlib.contextmanager
def job(
    folder: Path,
    words: Sequence[object],
    *,
    wait: float = 0.0,
    launch: Sequence[str] = ALONE,
    before: Sequence[str] = (),
) -> Iterator[Job]:
    """A job that is gone in the end; arguments as of `Job`."""
    started = Job(folder, words, wait=wait, launch=launch, before=before)
    try:
        yield started
    finally:
        started.kill()


def _runs(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def start_ranks(
    words: Sequence[object], *, size: int = 2, **settings: Any
) -> list["subprocess.Popen[str]"]:
    """Start processes that find each other, as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        subprocess.Popen(
            [sys.executable, "-W", "error", *map(str, words)],
            cwd=ROOT,
            env={
                **os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), "WORLD_SIZE": str(size),
                "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **settings,
        )
        for rank in range(size)
    ]  # fmt: skip


def run_forked(script: Path, *words: object, folder: Path, seconds: float = 300.0) -> str:
    """Run a script in a new process with the usual imports done; returns what it prints.

    Args:
        script: File of the script.
        words: Its arguments.
        folder: Current folder and cache of the process; its output is kept there.
        seconds: Time limit.
    """
    process = FORKS.Process(target=_run_script, args=(script, list(map(str, words)), folder))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode == 0, (folder / "stderr").read_text(encoding="utf-8")
    return (folder / "stdout").read_text(encoding="utf-8")


def _run_script(script: Path, words: list[str], folder: Path) -> None:
    import datasets

    os.chdir(folder)
    os.environ["HF_HOME"] = str(folder)  # for its own processes; here it was read before
    datasets.config.HF_DATASETS_CACHE = folder / "datasets"
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        name = "stdout" if number == 1 else "stderr"
        os.dup2(os.open(folder / name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
        stream.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.argv = [str(script), *words]
    runpy.run_path(str(script), run_name="__main__")
