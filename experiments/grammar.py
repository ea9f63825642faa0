"""Every estimator on a known grammar: accuracy and NLL relative to the optimum.

    python data/prepare_grammar.py --out data/grammar
    python experiments/grammar.py --out runs/grammar

Trains a model for each estimator and seed with 10 labels per class, all other rows unlabelled, and
evaluates it on the test rows. Accuracy is that of q(y | x), also as a share of the accuracy of the
Bayes-optimal classifier on the same rows. The NLL is un-annealed and importance-weighted; the table
shows by how much it exceeds the mean of -log p(x) over the same rows, with the standard error of
that difference over parts of the rows. Unless `--teacher` is given, the encoder starts from random
weights (`training.teacher` is off), so that the table compares what the estimators learn; `--m2`
leaves out n-grams too, as the arm `m2` of `seqssvae compare`.
"""

import json
import logging
import math
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np

from seqssvae.cli.parser import Parser
from seqssvae.compare.parts import M2
from seqssvae.config import Config, EstimatorName
from seqssvae.data.prepare import prepare
from seqssvae.data.sources import read_like
from seqssvae.inference.evaluate import evaluate
from seqssvae.overrides import override
from seqssvae.training.fit import train

SETTINGS = {"data.labels_per_class": 10, "training.patience": 0, "training.max_minutes": 60.0}
NUM_SAMPLES = 64  # samples of z per row and label
PARTS = 20  # parts of the test rows for the standard error


def main() -> None:
    """Train, evaluate and print."""
    known = [name for name in get_args(EstimatorName) if name != "auto"]
    parser = Parser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/grammar"))
    parser.add_argument("--estimators", nargs="+", choices=known, default=known)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=Config().training.num_steps)
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--teacher", action="store_true", help="start q(y|x) from n-gram models")
    kinds.add_argument("--m2", action="store_true", help="neither a teacher nor n-grams")
    parser.add_argument("--out", type=Path, default=Path("runs/grammar"))
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    truth = json.loads((arguments.data / "truth.json").read_text(encoding="utf-8"))
    settings = {
        **SETTINGS,
        "training.num_steps": arguments.steps,
        "training.teacher": arguments.teacher,
        **(M2 if arguments.m2 else {}),
        "objective.kl_warmup_steps": min(Config().objective.kl_warmup_steps, arguments.steps),
    }
    records = []
    print(f"{'estimator':24s} seed  accuracy  of Bayes'  NLL above entropy  minutes")
    for name in arguments.estimators:
        for seed in range(arguments.seeds):
            changes = {**settings, "estimator.name": name, "training.seed": seed}
            record = run(override(Config(), changes), arguments.data, truth)
            records.append({"estimator": name, "seed": seed, **record})
            print(
                f"{name:24s} {seed:4d}  {100 * record['accuracy']:7.1f}%  "
                f"{100 * record['of_bayes']:8.1f}%  {100 * record['excess']:+6.2f}% "
                f"+- {100 * record['excess_standard_error']:.2f}%  {record['minutes']:8.1f}",
                flush=True,
            )
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = {"command": sys.argv, "settings": settings, "rows": records}
    (arguments.out / "table.json").write_text(json.dumps(table, indent=1), encoding="utf-8")


def run(config: Config, data: Path, truth: dict[str, Any]) -> dict[str, float]:
    """Train one model and evaluate it on the test rows."""
    prepared = prepare(config, data / "train.jsonl")
    trainer = train(config, prepared)
    model, progress = trainer.model, trainer.progress
    rows = read_like(data / "test.jsonl", config, prepared.vocabulary, prepared.labels)
    figures = evaluate(model, rows, num_samples=NUM_SAMPLES)
    true = true_nll(data / "test_log_prob.jsonl", truth)
    parts = np.array_split(np.arange(len(rows)), PARTS)
    excess = [
        evaluate(model, rows.take(part), num_samples=NUM_SAMPLES)["nll"] - true[part].mean()
        for part in parts
    ]
    entropy = true.mean()
    return {
        "accuracy": figures["accuracy"],
        "of_bayes": figures["accuracy"] / truth["bayes_accuracy"],
        "excess": float((figures["nll"] - entropy) / entropy),
        "excess_standard_error": float(np.std(excess, ddof=1) / math.sqrt(PARTS) / entropy),
        "minutes": progress.minutes,
    }


def true_nll(path: Path, truth: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """-log p(x) of each test row, from log p(x | y) and the prior p(y), `[n]`."""
    grammar = truth["grammar"]
    log_prior = np.log(grammar["prior"])
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    table = np.array(
        [
            [-math.inf if row[label] is None else row[label] for label in grammar["labels"]]
            for row in rows
        ]
    )
    nats: np.ndarray[Any, np.dtype[np.float64]] = -np.logaddexp.reduce(table + log_prior, axis=1)
    return nats


if __name__ == "__main__":
    main()
