"""Memory leak test: train and classify in a loop, and print the resident memory of each round.

    python experiments/soak.py --minutes 60

Each round reads a file, trains a small model, saves and loads it, classifies with q(y | x) and with
Bayes' rule, encodes, generates and evaluates. The first third of the time is a warm-up, in which
allocators and caches fill. Of the rounds after it, the median resident memory of the last quarter
is compared with that of the first; the exit status is 1 if it grew by more than `--limit` per cent.

Requires Linux (`/proc`).
"""

import json
import logging
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from seqssvae.cli.parser import Parser

WARM_UP = 1 / 3  # fraction of the time
MIN_ROUNDS = 4  # after the warm-up, even if the time is over
CLASSES = {"left": "abc", "right": "bcd", "none": "cde"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the loop, print a line for each round, and print how much memory grew."""
    parser = Parser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="duration")
    parser.add_argument("--rows", type=int, default=200, help="rows of the file")
    parser.add_argument("--steps", type=int, default=40, help="training steps")
    parser.add_argument("--limit", type=float, default=2.0, help="growth, per cent")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HF_HOME"] = str(folder / "cache")  # read when `datasets` is imported
        data = write_rows(folder / "rows.jsonl", arguments.rows)
        start, end = time.monotonic(), 60 * arguments.minutes
        warm: list[float] = []
        number = 0
        while time.monotonic() - start < end or len(warm) < MIN_ROUNDS:
            run_round(folder, data, arguments.steps, seed=number)
            number += 1
            minutes, megabytes = (time.monotonic() - start) / 60, resident_megabytes()
            if minutes >= WARM_UP * arguments.minutes:
                warm.append(megabytes)
            print(f"round {number:5d}  {minutes:6.2f} min  {megabytes:8.1f} MB", flush=True)
    percent = growth(warm)
    grew = percent > arguments.limit
    result = {"rounds": number, "megabytes": warm[-1], "growth_percent": round(percent, 3)}
    print(json.dumps({**result, "limit_percent": arguments.limit, "grew": grew}))
    return int(grew)


def write_rows(path: Path, num_rows: int) -> Path:
    """Write random words of three classes, every second row without its label."""
    generator = random.Random(0)
    with path.open("w", encoding="utf-8") as lines:
        for number in range(num_rows):
            label = list(CLASSES)[number % len(CLASSES)]
            text = "".join(generator.choices(CLASSES[label], k=generator.randint(1, 30)))
            row = {"text": text, "id": str(number)} | ({"label": label} if number % 2 else {})
            lines.write(json.dumps(row) + "\n")
    return path


def run_round(folder: Path, data: Path, steps: int, seed: int) -> None:
    """Train a model on the rows and call each of its methods."""
    import seqssvae
    from seqssvae.overrides import override

    settings = {
        "data.vocabulary": "characters",
        "model.embedding_size": 16,
        "model.encoder_size": 16,
        "model.decoder_size": 16,
        "model.ngram_buckets": 1024,
        "training.seed": seed,
        "training.num_steps": steps,
        "training.evaluate_every": max(1, steps // 2),
        "training.num_threads": 1,
        "objective.kl_warmup_steps": steps // 2,
    }
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    seqssvae.fit(override(seqssvae.Config(), settings), data, run)
    model = seqssvae.load(run)
    model.evaluate(data, num_samples=2)
    texts = [json.loads(line)["text"] for line in data.read_text(encoding="utf-8").splitlines()]
    for mode in ("q", "mix"):
        model.classify(texts, mode=mode, num_samples=2, seed=seed)
    model.encode(texts)
    model.generate("left", 20, seed=seed)


def resident_megabytes() -> float:
    """The resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth(megabytes: Sequence[float]) -> float:
    """Growth in per cent from the median of the first quarter to that of the last."""
    quarter = max(1, len(megabytes) // 4)
    first = statistics.median(megabytes[:quarter])
    return 100 * (statistics.median(megabytes[-quarter:]) / first - 1)


if __name__ == "__main__":
    sys.exit(main())
