"""Time and memory of each stage on corpora of growing size.

    python experiments/benchmarks/corpora.py --rows 50000 500000 5000000 --json

Rows are sampled by `data/prepare_grammar.py`. Each stage runs in a new process, and the first one
starts with an empty cache:

* draw: write the file;
* prepare: read and check the rows, choose 400 labels, hold out rows, encode the symbols;
* train: the same from the cache, the n-gram teacher, and 50 steps of a small model;
* evaluate: all rows, with one sample of z;
* classify: `seqssvae classify RUN --data FILE --out FILE` on all rows.

Memory is the peak of RssAnon in `/proc/self/status`, sampled 50 times a second: the process's own
memory without the pages of mapped files, which the system can reclaim.
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

from seqssvae.cli.parser import Parser

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
INTERVAL = 0.02  # seconds between two samples of the memory


def main() -> None:
    """Run every stage for every size, or a single stage in this process."""
    parser = Parser(description=__doc__)
    sizes = [50_000, 500_000, 5_000_000]
    parser.add_argument("--rows", type=int, nargs="+", default=sizes, help="sizes of the files")
    parser.add_argument("--folder", type=Path, help="for files and runs (default temporary)")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--stages", choices=STAGES, nargs="+", default=STAGES, help="default all")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage is not None:
        print(json.dumps(measure(arguments.stage, arguments.folder, arguments.rows[0])))
        return
    records: list[dict[str, Any]] = []
    print("| rows | stage | seconds | rows a second | MB |\n| ---: | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        for num_rows in arguments.rows:
            folder = (arguments.folder or Path(name)) / str(num_rows)
            for stage in arguments.stages:
                figures = run_alone(stage, folder, num_rows)
                records.append({"rows": num_rows, "stage": stage, **figures})
                seconds, megabytes = figures["seconds"], figures["megabytes"]
                speed = num_rows / seconds
                print(
                    f"| {num_rows:,} | {stage} | {seconds:.0f} | {speed:,.0f} | {megabytes:.0f} |",
                    flush=True,
                )
    if arguments.json:
        print(json.dumps({"stages": records}))


def run_alone(stage: str, folder: Path, num_rows: int) -> dict[str, float]:
    """Run a stage in a new process."""
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
    """Run a stage and return its seconds and the peak memory of this process in megabytes."""
    runs: dict[str, Callable[[], object]] = {
        "draw": lambda: draw(folder, num_rows),
        "prepare": lambda: prepare(folder),
        "train": lambda: train(folder),
        "evaluate": lambda: evaluate(folder),
        "classify": lambda: classify(folder),
    }
    peak, is_over = [0], threading.Event()

    def sample_memory() -> None:
        while not is_over.wait(INTERVAL):
            peak[0] = max(peak[0], anonymous_bytes())

    sampler = threading.Thread(target=sample_memory)
    sampler.start()
    start = time.perf_counter()
    try:
        runs[stage]()
    finally:
        seconds = time.perf_counter() - start
        is_over.set()
        sampler.join()
    return {"seconds": seconds, "megabytes": max(peak[0], anonymous_bytes()) / 1e6}


def anonymous_bytes() -> int:
    """Memory of this process without mapped files; 0 on systems without `/proc`."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def draw(folder: Path, num_rows: int) -> None:
    """Write the file unless it exists."""
    if (folder / "train.jsonl").exists():
        return
    sys.path.insert(0, str(ROOT))
    from data.prepare_grammar import main

    main(["--out", str(folder), "--train", str(num_rows), "--test", "1000"])


def prepare(folder: Path) -> None:
    """Read the rows, choose labels and encode."""
    from seqssvae.config import Config
    from seqssvae.data import prepare
    from seqssvae.overrides import override

    prepare.prepare(override(Config(), SETTINGS), folder / "train.jsonl")


def train(folder: Path) -> None:
    """Train a model and save it."""
    from seqssvae.config import Config
    from seqssvae.overrides import override
    from seqssvae.training.fit import fit

    fit(override(Config(), SETTINGS), folder / "train.jsonl", folder / "run")


def evaluate(folder: Path) -> None:
    """Evaluate the model on all rows."""
    from seqssvae.trained import load

    load(folder / "run").evaluate(folder / "train.jsonl", num_samples=1)


def classify(folder: Path) -> None:
    """Classify all rows."""
    from seqssvae.cli import main

    words = [folder / "run", "--data", folder / "train.jsonl", "--out", folder / "labels.jsonl"]
    if main(["classify", *map(str, words)]):
        raise SystemExit("seqssvae classify failed")


if __name__ == "__main__":
    main()
