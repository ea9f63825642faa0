"""Trainings under torchrun after signals, kills and a lost network, and how they are resumed."""

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Job, job
from tests.support.rows import write_two_classes
from tests.support.training import SETTINGS, assert_same_run

pytestmark = pytest.mark.faults


def words(folder: Path, name: str) -> list[object]:
    """A training, resumed if it was begun."""
    return ["train", "--data", folder / "rows.jsonl", "--out", folder / name, "--resume", *SETTINGS]


def finish(folder: Path, name: str) -> None:
    """Train to the end."""
    with job(folder, words(folder, name)) as started:
        ended = started.end()
    assert ended.status == 0, started.lines


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    write_two_classes(folder / "rows.jsonl")
    finish(folder, "run")
    return folder / "run"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the rows of `whole`."""
    write_two_classes(tmp_path / "rows.jsonl")
    return tmp_path


def test_one_of_two_processes_is_killed_ten_times(folder: Path, whole: Path) -> None:
    """At random steps: the other ends within 30 s, and the resumed run has the same bits."""
    chance = random.Random(0)
    for number in range(10):
        victim = chance.randrange(2)
        with job(folder, words(folder, "run"), wait=0.1) as started:
            step = 1 + 2 * number + chance.randrange(3)
            for rank in (victim, 1 - victim):  # both handle signals once they train
                started.wait_for(step, rank)
            started.send(signal.SIGKILL, rank=victim)
            ended = started.end()
        assert ended.status == 1 and ended.seconds < 30
        assert ended.lines[-1].startswith(
            f"seqssvae train: error: rank {1 - victim}: wanted all processes of this job, got: "
        ), started.lines
        assert ended.lines[-1].endswith("; --resume continues from the last checkpoint")
    finish(folder, "run")
    assert_same_run(whole, folder / "run")


def test_after_a_signal_all_processes_finish_their_step(folder: Path, whole: Path) -> None:
    """A signal to torchrun, to one process, or, as of a scheduler, to all three at once.

    torchrun itself ends with 1 however its processes end.
    """
    term, interrupt = signal.SIGTERM, signal.SIGINT
    for step, number, ranks in (
        (3, interrupt, [None]), (8, term, [1]), (13, term, [0]), (18, term, [0, 1, None]),
    ):  # fmt: skip
        with job(folder, words(folder, "run"), wait=0.3) as started:
            started.wait_for(step)
            for rank in ranks:
                started.send(number, rank)
            ended = started.end()
        assert ended.status == 1 and ended.seconds < 30
        (line,) = (line for line in ended.lines if "stopped" in line)
        assert line.startswith(f"seqssvae train: stopped by {number.name}; --resume continues from")
        assert step < int(line.split()[-1]) <= step + 3
    finish(folder, "run")
    assert_same_run(whole, folder / "run")


def test_one_process_resumes_what_two_began(folder: Path, whole: Path) -> None:
    """Bit for bit with two parts to a batch; reported as inexact with one."""
    with job(folder, words(folder, "run"), wait=0.3) as started:
        started.wait_for(10)
        started.send(signal.SIGTERM)
        started.end()
    shutil.copytree(folder / "run", folder / "other")
    alone = ["--standalone", "--nproc-per-node", "1"]
    for name, parts in (("run", 2), ("other", 1)):
        settings = [*words(folder, name), f"--training.accumulate={parts}"]
        with job(folder, settings, launch=alone) as started:
            ended = started.end()
        assert ended.status == 0
        is_inexact = any("same order of rows, other noise" in line for line in ended.lines)
        assert is_inexact == (parts == 1)
    assert_same_run(whole, folder / "run")
    with pytest.raises(AssertionError):
        assert_same_run(whole, folder / "other")


NAMES = ("seqssvae-a", "seqssvae-b")


def ip(*words: str) -> bool:
    """Run iproute2; returns whether it succeeded."""
    try:
        done = subprocess.run(["ip", *words], capture_output=True, timeout=20, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a link between them."""
    made = all(ip("netns", "add", name) for name in NAMES)
    made = made and ip(
        "link", "add", "veth0", "netns", NAMES[0], "type", "veth", "peer", "name", "veth0",
        "netns", NAMES[1],
    )  # fmt: skip
    try:
        if not made:
            pytest.skip("this machine allows no network namespaces (`ip netns add`), or has no ip")
        for number, name in enumerate(NAMES, start=1):
            assert ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "veth0")
            assert all(ip("-n", name, "link", "set", one, "up") for one in ("lo", "veth0"))
        yield NAMES
    finally:
        for name in NAMES:
            ip("netns", "delete", name)


def test_a_lost_network_ends_the_job(folder: Path, whole: Path, hosts: tuple[str, str]) -> None:
    """Two hosts with a process each, whose link goes down in the middle and up again.

    The processes end after the timeout of a minute. torchrun on the host without the rendezvous
    waits longer.
    """

    def start(number: int, wait: float) -> Job:
        launch = [
            "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "1",
            "--rdzv-endpoint", "10.77.0.1:29400", "--rdzv-conf", f"is_host={int(number == 0)}",
            "--local-addr", f"10.77.0.{number + 1}",
        ]  # fmt: skip
        host = folder / f"host-{number}"
        host.mkdir(exist_ok=True)
        before = ["ip", "netns", "exec", hosts[number], "env", "GLOO_SOCKET_IFNAME=veth0"]
        return Job(host, words(folder, "run"), wait=wait, launch=launch, before=before)

    def run(*, cut: bool) -> list[Job]:
        """Both hosts' jobs after their processes have ended; torchrun may have been killed."""
        jobs = [start(number, 0.2 * cut) for number in range(2)]
        try:
            if cut:
                _first(jobs).wait_for(8)
                assert ip("-n", hosts[1], "link", "set", "veth0", "down")
                for one in jobs:
                    one.last_signal = time.monotonic()
                    one.end_of_processes(120)
                assert ip("-n", hosts[1], "link", "set", "veth0", "up")
            else:
                assert [one.end(240).status for one in jobs] == [0, 0], [one.lines for one in jobs]
        finally:
            for one in jobs:
                one.kill()
        return jobs

    for one in run(cut=True):
        assert any("wanted all processes of this job, got: T" in line for line in one.ours())
    run(cut=False)
    assert_same_run(whole, folder / "run")


def _first(jobs: list[Job]) -> Job:
    """The job whose host has rank 0."""
    while True:
        for one in jobs:
            assert one.torchrun.poll() is None, one.lines
            if (one.folder / "step-0").exists():
                return one
        time.sleep(0.05)
