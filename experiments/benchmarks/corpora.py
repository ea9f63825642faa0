"""Corpora of growing size: seconds and memory of each thing that is done with them.

    python experiments/benchmarks/corpora.py --rows 50000 500000 5000000 --json

Rows are drawn by `data/prepare_grammar.py`. Each stage is a process of its own with an empty cache
before the first one:

* draw: the file is made;
* prepare: rows are read and checked, labels of 400 rows chosen, rows held out, symbols encoded;
* train: the same from the cache, the n-gram teacher, and 50 steps of a small model;
* evaluate: all rows, with one sample of z;
* classify: `seqssvae classify RUN --data FILE --out FILE` on all rows.

Memory is the peak of RssAnon of `/proc/self/status`, looked at 50 times a second: what the process
holds itself, without the pages of files that are mapped, which the system takes back at will.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STAGES = ("draw", "prepare", "train", "evaluate", "classify")
SETTINGS = {
    "data.labels_per_class": 100,
    "model.embedding_size": 8,
    "model.encoder_size": 16,
    "model.decoder_size": 16,
    "model.latent_size": 4,
    "objective.kl_warmup_steps": 10,
    "training.num_steps": 50,
    "training.evaluate_every": 50,
}
INTERVAL = 0.02  # seconds between two looks


def main() -> None:
    """Run every stage for every size, or one stage in this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = [50_000, 500_000, 5_000_000]
    parser.add_argument("--rows", type=int, nargs="+", default=sizes, help="of the files")
    parser.add_argument("--folder", type=Path, help="for files and runs; deleted if not given")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--stages", choices=STAGES, nargs="+", default=STAGES, help="all of them")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage is not None:
        print(json.dumps(measure(arguments.stage, arguments.folder, arguments.rows[0])))
        return
    found: list[dict[str, Any]] = []
    print("| rows | stage | seconds | rows a second | MB |\n| ---: | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        for num_rows in arguments.rows:
            folder = (arguments.folder or Path(name)) / str(num_rows)
            for stage in arguments.stages:
                figures = run_alone(stage, folder, num_rows)
                found.append({"rows": num_rows, "stage": stage, **figures})
                seconds, megabytes = figures["seconds"], figures["megabytes"]
                speed = num_rows / seconds
                print(
                    f"| {num_rows:,} | {stage} | {seconds:.0f} | {speed:,.0f} | {megabytes:.0f} |",
                    flush=True,
                )
    if arguments.json:
        print(json.dumps({"stages": found}))


def run_alone(stage: str, folder: Path, num_rows: int) -> dict[str, float]:
    """A stage in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["--stage", stage, "--folder", str(folder), "--rows", str(num_rows)]
    done = subprocess.run(
        [sys.executable, __file__, *words],
        env={**os.environ, "HF_HOME": str(folder / "cache")},
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(stage: str, folder: Path, num_rows: int) -> dict[str, float]:
    """Seconds of a stage and the megabytes that this process held at most."""
    runs: dict[str, Callable[[], object]] = {
        "draw": lambda: draw(folder, num_rows),
        "prepare": lambda: prepare(folder),
        "train": lambda: train(folder),
        "evaluate": lambda: evaluate(folder),
        "classify": lambda: classify(folder),
    }
    peak, is_over = [0], threading.Event()

    def look() -> None:
        while not is_over.wait(INTERVAL):
            peak[0] = max(peak[0], anonymous_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    start = time.perf_counter()
    try:
        runs[stage]()
    finally:
        seconds = time.perf_counter() - start
        is_over.set()
        watcher.join()
    return {"seconds": seconds, "megabytes": max(peak[0], anonymous_bytes()) / 1e6}


def anonymous_bytes() -> int:
    """What this process holds in memory beside mapped files; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def draw(folder: Path, num_rows: int) -> None:
    """Make the file, unless it was made before."""
    if (folder / "train.jsonl").exists():
        return
    sys.path.insert(0, str(ROOT))
    from data.prepare_grammar import main

    main(["--out", str(folder), "--train", str(num_rows), "--test", "1000"])


def prepare(folder: Path) -> None:
    """Read, choose and encode."""
    from seqssvae.config import Config, override
    from seqssvae.data import prepare

    prepare.prepare(override(Config(), SETTINGS), folder / "train.jsonl")


def train(folder: Path) -> None:
    """Begin to train, and save what came of it."""
    from seqssvae.config import Config, override
    from seqssvae.training.fit import fit

    fit(override(Config(), SETTINGS), folder / "train.jsonl", folder / "run")


def evaluate(folder: Path) -> None:
    """Measure the model on all rows."""
    from seqssvae.trained import load

    load(folder / "run").evaluate(folder / "train.jsonl", num_samples=1)


def classify(folder: Path) -> None:
    """Label all rows."""
    from seqssvae.cli import main

    words = [folder / "run", "--data", folder / "train.jsonl", "--out", folder / "labels.jsonl"]
    if main(["classify", *map(str, words)]):
        raise SystemExit("seqssvae classify failed")


if __name__ == "__main__":
    main()
