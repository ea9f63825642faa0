"""torchrun itself: signals, kills and a network that is cut, and what can be resumed afterwards."""

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
    with job(folder, words(folder, name)) as whole:
        ended = whole.end()
    assert ended.status == 0, whole.lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With rows, and a run `whole` that nothing disturbed."""
    write_two_classes(tmp_path / "rows.jsonl")
    finish(tmp_path, "whole")
    return tmp_path


def test_one_of_two_is_killed_ten_times(folder: Path) -> None:
    """At random moments; gone in 30 s each time, and in the end as a run that nothing disturbed."""
    chance = random.Random(0)
    for number in range(10):
        victim = chance.randrange(2)
        with job(folder, words(folder, "run"), wait=0.1) as started:
            # before the first exchange torchrun may end the other one while it knows no signals
            started.wait_for(1 + 2 * number + chance.randrange(3), rank=victim)
            started.send(signal.SIGKILL, rank=victim)
            ended = started.end()
        assert ended.status == 1 and ended.seconds < 30
        assert ended.lines[-1].startswith(
            f"seqssvae train: error: rank {1 - victim}: wanted all processes of this job, got: "
        ), started.lines
        assert ended.lines[-1].endswith("; --resume continues from the last checkpoint")
    finish(folder, "run")
    assert_same_run(folder / "whole", folder / "run")


def test_signals_are_obeyed_by_all(folder: Path) -> None:
    """To torchrun or to one of the processes: the step in progress is the last, then the same bits.

    torchrun itself ends with 1 whatever the processes end with.
    """
    term, interrupt = signal.SIGTERM, signal.SIGINT
    for step, number, rank in ((3, term, None), (9, interrupt, None), (15, term, 1), (20, term, 0)):
        with job(folder, words(folder, "run"), wait=0.3) as started:
            started.wait_for(step)
            started.send(number, rank)
            ended = started.end()
        assert ended.status == 1 and ended.seconds < 30
        (line,) = (line for line in ended.lines if "stopped" in line)
        assert line.startswith(f"seqssvae train: stopped by {number.name}; --resume continues from")
        assert step < int(line.split()[-1]) <= step + 3
    finish(folder, "run")
    assert_same_run(folder / "whole", folder / "run")


def test_a_signal_that_comes_twice_at_once_is_one(folder: Path) -> None:
    """A scheduler sends it to all processes, and torchrun sends it on."""
    with job(folder, words(folder, "run"), wait=0.5) as started:
        started.wait_for(5)
        for rank in (0, 1, None):
            started.send(signal.SIGTERM, rank)
        ended = started.end()
    assert any("stopped by SIGTERM; --resume" in line for line in ended.lines), started.lines
    finish(folder, "run")
    assert_same_run(folder / "whole", folder / "run")


def test_one_process_resumes_what_two_began(folder: Path) -> None:
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
        said = any("same order of rows, other noise" in line for line in ended.lines)
        assert said == (parts == 1)
    assert_same_run(folder / "whole", folder / "run")
    with pytest.raises(AssertionError):
        assert_same_run(folder / "whole", folder / "other")


NAMES = ("seqssvae-a", "seqssvae-b")


def ip(*words: str) -> bool:
    """Run iproute2; whether it could do it."""
    try:
        done = subprocess.run(["ip", *words], capture_output=True, timeout=20, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a cable between them."""
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


def test_a_network_that_is_cut_ends_the_job(folder: Path, hosts: tuple[str, str]) -> None:
    """Two hosts with a process each; the cable is pulled in the middle, and put back.

    The processes end when a minute is over. torchrun on the host that lost the other one waits
    longer, for the place where both would meet again.
    """

    def start(number: int, wait: float) -> Job:
        launch = [
            "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "1",
            "--rdzv-endpoint", "10.77.0.1:29400", "--rdzv-conf", f"is_host={int(number == 0)}",
            "--local-addr", f"10.77.0.{number + 1}",
        ]  # fmt: skip
        place = folder / f"host-{number}"
        place.mkdir(exist_ok=True)
        before = ["ip", "netns", "exec", hosts[number], "env", "GLOO_SOCKET_IFNAME=veth0"]
        return Job(place, words(folder, "run"), wait=wait, launch=launch, before=before)

    def run(*, cut: bool) -> list[Job]:
        """Both hosts' jobs, which have ended, but for what torchrun still waits for."""
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
    assert_same_run(folder / "whole", folder / "run")


def _first(jobs: list[Job]) -> Job:
    """The job whose host has rank 0."""
    while True:
        for one in jobs:
            assert one.torchrun.poll() is None, one.lines
            if (one.folder / "step-0").exists():
                return one
        time.sleep(0.05)
