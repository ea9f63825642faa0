"""Time of training on each device, and accuracy in each precision, over draws of the labels.

    python experiments/benchmarks/training.py TRAIN TEST --num-labels 100 --arms cpu cuda cuda:tf32

Each draw has labels of its own, the same for all arms. The time is that of steps and evaluations,
without reading and without the teacher.
"""

import logging
import statistics
from pathlib import Path
from typing import NamedTuple

from seqssvae.cli.parser import Parser
from seqssvae.config import Config
from seqssvae.data.prepare import prepare
from seqssvae.data.sources import read_like
from seqssvae.inference.evaluate import evaluate
from seqssvae.overrides import override
from seqssvae.training.fit import train


class Arm(NamedTuple):
    """A device and a precision."""

    device: str
    precision: str

    @classmethod
    def parse(cls, text: str) -> "Arm":
        """From `cuda:bfloat16`; float32 is left out."""
        device, _, precision = text.partition(":")
        return cls(device, precision or "float32")


def main() -> None:
    """Train in all arms, draw by draw, and print a line for each."""
    parser = Parser(description=__doc__)
    parser.add_argument("data", type=Path, metavar="TRAIN", help="rows to train on")
    parser.add_argument("test", type=Path, metavar="TEST", help="labelled rows to judge by")
    parser.add_argument("--num-labels", type=int, default=100, help="labels of a draw")
    parser.add_argument("--draws", type=int, nargs="+", default=[0], metavar="SEED")
    parser.add_argument("--num-steps", type=int, default=100)
    parser.add_argument("--num-threads", type=int, default=0, help="of a CPU; 0: all")
    parser.add_argument("--arms", nargs="+", type=Arm.parse, default=[Arm("cpu", "float32")])
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    accuracies: dict[Arm, list[float]] = {arm: [] for arm in arguments.arms}
    minutes: dict[Arm, list[float]] = {arm: [] for arm in arguments.arms}
    for seed in arguments.draws:
        config = override(
            Config(),
            {
                "data.num_labels": arguments.num_labels,
                "training.num_steps": arguments.num_steps,
                "training.num_threads": arguments.num_threads,
                "training.max_minutes": 1000.0,
                "training.seed": seed,
                "objective.kl_warmup_steps": arguments.num_steps // 2,
            },
        )
        prepared = prepare(config, arguments.data)
        rows = read_like(arguments.test, config, prepared.vocabulary, prepared.labels)
        for arm in arguments.arms:
            changes = {"training.device": arm.device, "training.precision": arm.precision}
            trainer = train(override(config, changes), prepared)
            figures = evaluate(trainer.model, rows, likelihood_rows=1)
            accuracies[arm].append(figures["accuracy"])
            minutes[arm].append(trainer.progress.minutes)
            print(f"draw {seed} {':'.join(arm)}: accuracy {figures['accuracy']:.4f}", flush=True)
    slowest = max(statistics.mean(values) for values in minutes.values())
    for arm, values in accuracies.items():
        spread = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        seconds = 60 * statistics.mean(minutes[arm])
        print(
            f"{':'.join(arm):15s} {seconds:7.1f} s, {60 * slowest / seconds:5.1f} times as fast as "
            f"the slowest; accuracy {statistics.mean(values):.4f} +- {spread:.4f}"
        )


if __name__ == "__main__":
    main()
