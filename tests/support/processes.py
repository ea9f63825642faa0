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
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

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
    lines: list[str]  # our own lines on stderr
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
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.last_signal = time.monotonic()

    def _read(self) -> None:
        assert self.torchrun.stderr is not None
        for line in self.torchrun.stderr:
            self.lines.append(line.rstrip("\n"))

    def wait_for(self, step: int, rank: int = 0, seconds: float = 300.0) -> None:
        """Wait until a step is in progress, or the job has ended."""
        end, mark = time.monotonic() + seconds, self.folder / f"step-{rank}"
        while self.torchrun.poll() is None:
            with contextlib.suppress(FileNotFoundError, ValueError):
                if int(mark.read_text()) >= step:
                    return
            assert time.monotonic() < end, self.lines
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
                assert time.monotonic() < self.last_signal + seconds, (path.name, self.lines)
                time.sleep(0.05)

    def ours(self) -> list[str]:
        """What it said, but for torchrun."""
        return [line for line in list(self.lines) if line.startswith("seqssvae")]

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


class Forked:
    """A Python process with the usual imports done, used as a `subprocess.Popen`.

    Args:
        words: After `python`: `-m` and a module, or `-c` and a program; and its arguments.
        environment: Variables that are added.
        folder: Current folder and cache of the process; its output is kept there.
    """

    def __init__(
        self, words: Sequence[object], environment: Mapping[str, str], *, folder: Path
    ) -> None:
        self.folder = folder
        arguments = (list(map(str, words)), dict(environment), folder)
        self.process = FORKS.Process(target=_run_python, args=arguments)
        self.process.start()

    @property
    def returncode(self) -> int | None:
        """Exit status, or minus the signal; None while it runs."""
        return self.process.exitcode

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.terminate()

    def communicate(self, timeout: float = 300.0) -> tuple[str, str]:
        """Wait for the end; returns stdout and stderr."""
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
            raise TimeoutError(self._read("stderr"))
        return self._read("stdout"), self._read("stderr")

    def _read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(encoding="utf-8") if path.exists() else ""


def start_ranks(words: Sequence[object], *, size: int = 2) -> list[Forked]:
    """Start processes that find each other, as torchrun would; words as of `Forked`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    job = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        Forked(
            words,
            {**job, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            folder=Path(tempfile.mkdtemp()),
        )
        for rank in range(size)
    ]


def run_script(script: Path, *words: object, folder: Path) -> str:
    """Run a script with these arguments; returns what it prints."""
    started = Forked([script, *words], {"HF_HOME": str(folder)}, folder=folder)
    out, err = started.communicate()
    assert started.returncode == 0, err
    return out


def _run_python(words: list[str], environment: dict[str, str], folder: Path) -> None:
    import datasets

    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        name = "stdout" if number == 1 else "stderr"
        os.dup2(os.open(folder / name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
        stream.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    os.environ.update(environment)
    if "HF_HOME" in environment:  # it was read before
        datasets.config.HF_DATASETS_CACHE = Path(environment["HF_HOME"]) / "datasets"
    torch.set_num_threads(1)
    if words[0] in ("-c", "-m"):
        os.chdir(ROOT)
        sys.argv = [words[0], *words[2:]]
        warnings.simplefilter("error")
        if words[0] == "-c":
            exec(words[1], {"__name__": "__main__"})
        else:
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        os.chdir(folder)
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
