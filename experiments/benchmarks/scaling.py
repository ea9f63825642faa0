"""How time and memory of a step grow with K, V and T.

    python experiments/benchmarks/scaling.py

From (V, K, B, T, H) = (8000, 4, 8, 20, 128) one size grows at a time: K from 1 to 64, V to 128,000,
T to 160. Steps are those of `step.py`. Memory is the peak of a process that runs one step, less the
memory before; `gradients` is the part of the weights' gradients, which are as large as the weights.
Times are medians of interleaved rounds.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pyro

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments.benchmarks.measure import interleaved_seconds  # noqa: E402
from experiments.benchmarks.step import Setting, make_model, make_step, peak  # noqa: E402
from seqssvae.cli.parser import Parser

START = Setting(8000, 4, 8, 20, 128)
GROWTH = {"K": (1, 4, 16, 64), "V": (8000, 32000, 128000), "T": (20, 40, 80, 160)}
ESTIMATORS = ("ours", "sum_and_sample")


def main() -> None:
    """Measure and print."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--start", type=int, nargs=5, default=START, metavar=("V", "K", "B", "T", "H")
    )
    parser.add_argument("--most", type=int, default=10**9, help="skip larger sizes")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="rounds")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    arguments = parser.parse_args()
    pyro.enable_validation(False)
    print("| grows | size | fused-enum, s | sum-and-sample, s | fused-enum, MB | gradients, MB |")
    print("| --- | --: | --: | --: | --: | --: |")
    records = []
    for key, setting in grown(Setting(*arguments.start), arguments.most):
        seconds = interleaved_seconds(
            {name: make_step(name, setting) for name in ESTIMATORS}, arguments.repeats
        )
        parameters = make_model(setting, "lstm").parameters()
        record = {
            "grows": key,
            **setting._asdict(),
            **{f"{name}_s": value for name, value in seconds.items()},
            "ours_mb": peak("ours", setting),
            "gradients_mb": sum(one.numel() for one in parameters) * 4 / 1e6,
        }
        records.append(record)
        print(
            f"| {key} | {record[key]} | {record['ours_s']:.3f} | {record['sum_and_sample_s']:.3f} "
            f"| {record['ours_mb']:.0f} | {record['gradients_mb']:.0f} |",
            flush=True,
        )
    if arguments.json:
        print(json.dumps({"sizes": records}))


def grown(start: Setting, most: int) -> Iterator[tuple[str, Setting]]:
    """Yield the name of the size that grows, and the setting."""
    for key, sizes in GROWTH.items():
        for size in sizes:
            if size <= most:
                yield key, start._replace(**{key: size})


if __name__ == "__main__":
    main()
