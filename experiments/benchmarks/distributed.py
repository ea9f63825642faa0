"""Training speed of two processes of one thread each, relative to one such process.

    python experiments/benchmarks/distributed.py --json

Weak scaling keeps the rows per process: N processes use N times the rows in a step. Strong scaling
keeps the rows per step, which N processes divide among themselves. Both are reported as rows per
second relative to one process that computes its rows in one part. The time of a step lasts from one
exchange to the next, so waiting is included. All kinds run in turn, for several rounds, each in new
processes, and medians are reported. "alone" is N independent processes at the same time, the most
that the machine allows. "bytes" is the data that a process exchanges in a step.

The second table is computed, not measured: the time of one pass over the given number of sequences
by N processes, from the rows per second of one process, the bytes, and the given network. Each
process has as many rows in a step as in the measurement.
"""

import argparse
import json
import multiprocessing
import os
import socket
import time
from statistics import median
from typing import Any

import numpy as np
import torch

from seqssvae import distributed
from seqssvae.cli.parser import Parser
from seqssvae.config import Config
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.labels import Labels
from seqssvae.data.prepare import Prepared
from seqssvae.data.vocabulary import EOS, NUM_SPECIAL, CharacterVocabulary
from seqssvae.model.build import build
from seqssvae.overrides import override
from seqssvae.training.step import Stepper

KINDS = ("one", "weak", "strong", "alone")
PROCESSES = (1, 8, 64)  # numbers of processes in the projection
WARM_UP = 3  # steps that are not measured


def main() -> None:
    """Measure, and print a line for each kind."""
    parser = Parser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--ranks", type=int, default=2, metavar="N", help="number of processes")
    add("--rounds", type=int, default=5, metavar="N", help="rounds of all kinds")
    add("--steps", type=int, default=30, metavar="N", help="measured steps per round")
    add("--rows", type=int, default=96, metavar="B", help="rows per step of one process")
    add("--length", type=int, default=60, metavar="T", help="maximum length")
    add("--classes", type=int, default=10, metavar="K", help="number of classes")
    add("--symbols", type=int, default=40, metavar="V", help="number of symbols")
    add("--size", type=int, default=128, metavar="H", help="hidden size")
    add("--device", default="cpu", help="device of the model; cuda with --ranks 1")
    add("--sequences", type=float, default=1e8, help="sequences of the projection")
    add("--bandwidth", type=float, default=1.25e9, help="bytes per second")
    add("--latency", type=float, default=5e-5, help="seconds per message")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for _ in range(arguments.rounds):
        for kind in KINDS:
            results[kind].append(launch(arguments, kind))
    summary: dict[str, Any] = {"ranks": arguments.ranks, "rounds": arguments.rounds}
    for kind, records in results.items():
        summary[f"{kind}_rows_per_s"] = median(record["rows_per_s"] for record in records)
    for kind in KINDS[1:]:
        ratios = [
            record["rows_per_s"] / one["rows_per_s"]
            for record, one in zip(results[kind], results["one"], strict=True)
        ]
        summary[f"{kind}_ratio"], summary[f"{kind}_ratios"] = median(ratios), ratios
    summary["bytes"] = results["weak"][0]["bytes"]
    print("| kind | rows per process and step | rows/s | relative to one |")
    print("| --- | --: | --: | --: |")
    for kind in KINDS:
        rows = arguments.rows // (arguments.ranks if kind == "strong" else 1)
        ratio = summary.get(f"{kind}_ratio", 1.0)
        print(f"| {kind} | {rows} | {summary[f'{kind}_rows_per_s']:.0f} | {ratio:.2f} |")
    print(f"each process exchanges {summary['bytes'] / 1e6:.2f} MB in a step")
    summary["plan"] = [plan(arguments, summary, processes) for processes in PROCESSES]
    print("\n| processes | ms per step | ms of exchange | hours per pass | efficiency |")
    print("| --: | --: | --: | --: | --: |")
    for line in summary["plan"]:
        print(
            f"| {line['processes']} | {1e3 * line['step_s']:.1f} | {1e3 * line['exchange_s']:.2f} "
            f"| {line['hours']:.2f} | {line['efficiency']:.3f} |"
        )
    if arguments.json:
        print(json.dumps(summary))


def plan(
    arguments: argparse.Namespace, summary: dict[str, Any], processes: int
) -> dict[str, float]:
    """Project the time of a pass; a ring sends each byte twice, in 2 (N - 1) messages."""
    compute = arguments.rows / summary["one_rows_per_s"]
    others = processes - 1
    exchange = 2 * others * (summary["bytes"] / processes / arguments.bandwidth + arguments.latency)
    step = compute + exchange
    return {
        "processes": processes,
        "step_s": step,
        "exchange_s": exchange,
        "hours": arguments.sequences / (processes * arguments.rows) * step / 3600,
        "efficiency": compute / step,
    }


def launch(arguments: argparse.Namespace, kind: str) -> dict[str, Any]:
    """Run the processes of a kind and return their total rows per second."""
    size = 1 if kind == "one" else arguments.ranks
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": str(1 if kind == "alone" else size),
    }
    context = multiprocessing.get_context("forkserver")  # torch is imported once for all
    queue = context.SimpleQueue()
    processes = [
        context.Process(
            target=put_measured,
            args=(arguments, kind, {**environment, "RANK": str(rank)}, queue),
        )
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a process failed")
    records = [queue.get() for _ in processes]
    return {
        "rows_per_s": sum(record["rows_per_s"] for record in records),
        "bytes": records[0]["bytes"],
    }


def put_measured(
    arguments: argparse.Namespace,
    kind: str,
    environment: dict[str, str],
    queue: "multiprocessing.SimpleQueue[dict[str, float]]",
) -> None:
    """`measure` in a process of its own."""
    os.environ.update(environment)
    queue.put(measure(arguments, kind))


def measure(arguments: argparse.Namespace, kind: str) -> dict[str, float]:
    """Rows per second of this process, among the others of its kind."""
    torch.set_num_threads(1)
    with distributed.joined():
        share = 1 if kind == "strong" else distributed.size()
        rows = arguments.rows * share
        stepper = make_stepper(arguments, rows)
        seconds = []
        for step in range(WARM_UP + arguments.steps):
            start = time.perf_counter()
            stepper.step(step)
            seconds.append(time.perf_counter() - start)
        sharers = distributed.size()
    numbers = sum(parameter.numel() for parameter in stepper.trained)
    return {"rows_per_s": rows / sharers / median(seconds[WARM_UP:]), "bytes": 4 * numbers}


def make_stepper(arguments: argparse.Namespace, num_rows: int) -> Stepper:
    """A stepper over random rows, a third of them labelled."""
    num_labelled = max(1, num_rows // 3)
    parts = [make_rows(arguments, 4 * num_rows, labelled) for labelled in (True, False)]
    settings: dict[str, Any] = {
        "model.encoder_size": arguments.size,
        "model.decoder_size": arguments.size,
        "model.embedding_size": arguments.size // 2,
        "training.teacher": False,
        "training.labelled_batch_size": num_labelled,
        "training.unlabelled_batch_size": max(1, num_rows - num_labelled),
        # the n-gram part is not trained if a teacher initialises it
        "model.ngram_buckets": 0,
    }
    config = override(Config(), settings)
    prepared = Prepared(
        vocabulary=CharacterVocabulary(
            "".join(chr(ord("a") + symbol) for symbol in range(arguments.symbols))
        ),
        labels=Labels(tuple(str(label) for label in range(arguments.classes))),
        labelled=parts[0],
        unlabelled=parts[1],
        dev=parts[0],
        corpus=None,  # type: ignore[arg-type] # not read in a step
    )
    return Stepper(config, build(config, prepared).to(arguments.device), prepared)


def make_rows(arguments: argparse.Namespace, number: int, labelled: bool) -> EncodedRows:
    """Random rows, of lengths from half the maximum to the maximum."""
    generator = np.random.default_rng(labelled)
    lengths = generator.integers(arguments.length // 2, arguments.length + 1, number)
    parts = [
        np.append(generator.integers(NUM_SPECIAL, NUM_SPECIAL + arguments.symbols, length - 1), EOS)
        for length in lengths
    ]
    y = generator.integers(arguments.classes, size=number) if labelled else np.full(number, -1)
    return EncodedRows(
        symbols=np.concatenate(parts).astype(np.int32),
        offsets=np.concatenate([[0], lengths.cumsum()]),
        y=y,
        candidates={},
        ids=[str(row) for row in range(number)],
    )


if __name__ == "__main__":
    main()
