"""Speed of classifying many short sequences, of generation, and of cold starts.

    python experiments/benchmarks/use.py --json
    python experiments/benchmarks/use.py --device cuda

* classify: time and peak memory of `seqssvae classify RUN --data FILE` on short random sequences,
  including start and reading; and the speed of the model alone on the first rows, in batches of
  similar length and in padded batches in file order, as a default data loader makes them.
* generate: sampling and beam search, a thousand sequences at once and one at a time (fewer of
  these, extrapolated).
* cold starts: `import torch`, `--help`, and classification of one text, each in a new process.
"""

import json
import os
import random
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from seqssvae.cli.parser import Parser
from seqssvae.config import Config
from seqssvae.data.batches import Batch, collate
from seqssvae.data.encoded import EncodedRows
from seqssvae.inference.classify import classify
from seqssvae.inference.predict import classify_table
from seqssvae.overrides import override
from seqssvae.trained import TrainedModel, load
from seqssvae.training.fit import fit

LABELS = ("first", "second", "third", "fourth")
SETTINGS = {
    "training.num_steps": 5,
    "training.teacher": False,
    "objective.kl_warmup_steps": 1,
    "data.vocabulary": "characters",
}
PADDED_ROWS = 64  # batch size in file order
LONGEST = 60
ONE_AT_A_TIME = 20


def main() -> None:
    """Run the benchmarks and print the results."""
    parser = Parser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="where the model runs")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the file")
    parser.add_argument("--alone", type=int, default=50_000, help="rows for the model alone")
    parser.add_argument("--number", type=int, default=1000, help="sequences to generate")
    parser.add_argument("--starts", type=int, default=3, help="cold starts of each kind")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HF_HOME"] = name  # the cache is deleted with the folder
        write_rows(folder / "train.jsonl", 400)
        write_rows(folder / "many.jsonl", arguments.rows)
        device = arguments.device
        config = override(Config(), {**SETTINGS, "training.device": device})
        fit(config, folder / "train.jsonl", folder / "run")
        model = load(folder / "run", device)
        results = {
            **time_command(folder, arguments.rows, device),
            **time_batches(model, folder / "many.jsonl", arguments.alone),
            **time_generation(model, arguments.number),
            **time_cold_starts(folder, arguments.starts),
        }
    for key, value in results.items():
        print(f"{key:36s} {value:12.3f}")
    if arguments.json:
        print(json.dumps(results))


def write_rows(path: Path, num_rows: int) -> None:
    """Write random sequences of letters; most are short, some are long."""
    generator = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_rows):
            size = min(LONGEST, 1 + int(generator.expovariate(1 / 8)))
            text = "".join(generator.choices(string.ascii_lowercase, k=size))
            row = {"text": text, "label": LABELS[number % len(LABELS)]}
            file.write(json.dumps(row) + "\n")


def time_command(folder: Path, num_rows: int, device: str) -> dict[str, float]:
    """Time and peak memory of the command on the whole file, including the cold start."""
    words = ["classify", folder / "run", "--data", folder / "many.jsonl"]
    words += ["--out", folder / "predictions.jsonl", "--device", device]
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "seqssvae", *map(str, words)])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"seqssvae classify: exit status {os.waitstatus_to_exitcode(status)}")
    return {
        "classify a file, s": seconds,
        "classify a file, rows a second": num_rows / seconds,
        "classify a file, peak MB": usage.ru_maxrss * 1024 / 1e6,
    }


def time_batches(model: TrainedModel, path: Path, num_rows: int) -> dict[str, float]:
    """Speed of the model alone, in batches of similar length and in padded file order."""
    rows = model.read(path)
    rows = rows.take(np.arange(min(num_rows, len(rows))))
    ours, padded = (
        _seconds(run, 3)
        for run in (lambda: classify_table(model.model, rows), lambda: classify_padded(model, rows))
    )
    return {
        "classify by length, rows a second": len(rows) / ours,
        "classify in file order, rows a second": len(rows) / padded,
        "by length over file order": padded / ours,
    }


def classify_padded(model: TrainedModel, rows: EncodedRows) -> None:
    """Classify batches in file order; the encoder also reads the padding of shorter rows."""
    num_classes = model.model.num_classes
    for start in range(0, len(rows), PADDED_ROWS):
        indices = np.arange(start, min(start + PADDED_ROWS, len(rows)))
        batch = collate(rows, indices, num_classes=num_classes)
        full = torch.full_like(batch.lengths, batch.x.shape[1])
        classify(model.model, Batch(x=batch.x, lengths=full, y=batch.y))


def time_generation(model: TrainedModel, number: int) -> dict[str, float]:
    """Speed of generating many sequences at once and one at a time."""
    results: dict[str, float] = {}
    few = min(ONE_AT_A_TIME, number)
    for strategy in ("sample", "beam"):

        def make(n: int, seed: int, strategy: str = strategy) -> object:
            return model.generate(LABELS[0], n, strategy=strategy, max_length=30, seed=seed)

        make(few, 0)
        together = _seconds(lambda: make(number, 0), 1)
        alone = _seconds(lambda: [make(1, seed) for seed in range(few)], 1) * number / few
        results |= {
            f"{strategy} {number}, s": together,
            f"{strategy} one at a time, s": alone,
            f"{strategy}, times faster together": alone / together,
        }
    return results


def time_cold_starts(folder: Path, repeats: int) -> dict[str, float]:
    """Median seconds of new processes."""
    command = [sys.executable, "-m", "seqssvae"]
    starts = {
        "import torch": [sys.executable, "-c", "import torch"],
        "--help": [*command, "--help"],
        "classify one text": [*command, "classify", str(folder / "run"), "text"],
    }

    def start(words: list[str]) -> Callable[[], object]:
        return lambda: subprocess.run(words, check=True, capture_output=True)

    return {f"start: {name}, s": _seconds(start(words), repeats) for name, words in starts.items()}


def _seconds(run: Callable[[], Any], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


if __name__ == "__main__":
    main()
