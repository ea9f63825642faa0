"""Interpolate between two texts in the latent space. Tokens are separated by spaces."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="first text")
    parser.add_argument("b", metavar="B", help="last text")
    parser.add_argument(
        "--steps",
        type=int,
        default=5,
        metavar="N",
        help="number of sequences, both ends included",
    )
    parser.add_argument(
        "--label", metavar="L", help="label of all (default: the most probable of A)"
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from seqssvae.trained import load

    model = load(arguments.run, arguments.device)
    a, b = model.reader.split_texts([arguments.a, arguments.b])
    sequences = model.interpolate(a, b, arguments.steps, label=arguments.label)
    for sequence in sequences:
        print(sequence if isinstance(sequence, str) else " ".join(sequence))
    return {"sequences": sequences}
