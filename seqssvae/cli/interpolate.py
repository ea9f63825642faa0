"""Walk through z from one text to another. Tokens are separated by spaces."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("run", metavar="RUN", help="a trained run's folder")
    parser.add_argument("a", metavar="A", help="where the walk begins")
    parser.add_argument("b", metavar="B", help="where it ends")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="both ends included (5)")
    parser.add_argument("--label", metavar="L", help="y on the way; the likeliest of A by default")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Interpolate."""
    from seqssvae.trained import load

    model = load(arguments.run)
    a, b = model.split_texts([arguments.a, arguments.b])
    sequences = model.interpolate(a, b, arguments.steps, label=arguments.label)
    if not arguments.json:
        for sequence in sequences:
            print(sequence if isinstance(sequence, str) else " ".join(sequence))
    return {"sequences": sequences}
