"""Measurements that resume: each in a process of one thread, its results a line each of a file."""

import concurrent.futures
import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Record = dict[str, Any]


class Job(NamedTuple):
    """A measurement.

    Attributes:
        out: The file that its records are appended to.
        arguments: Of the function that measures.
    """

    out: Path
    arguments: tuple[Any, ...]


def read_records(path: Path) -> list[Record]:
    """The records of earlier runs; none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run_jobs(
    measure: Callable[..., Sequence[Record]], jobs: Sequence[Job], num_processes: int
) -> None:
    """Run jobs, each in a new process, and append their records as soon as one ends.

    Args:
        measure: A function at the top of a module, which returns the records of a job.
        jobs: Those that have no records yet.
        num_processes: How many run at once.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes
    spawned = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(num_processes, mp_context=spawned) as pool:
        running = {pool.submit(measure, *job.arguments): job.out for job in jobs}
        for ended in concurrent.futures.as_completed(running):
            out = running[ended]
            out.parent.mkdir(parents=True, exist_ok=True)
            with out.open("a", encoding="utf-8") as stream:
                stream.write("".join(json.dumps(record) + "\n" for record in ended.result()))
