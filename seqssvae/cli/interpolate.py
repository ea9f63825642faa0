"""Interpolate between two texts in the latent space. Tokens are separated by spaces.

By default the best of several samples at each step, and another one at each step where they differ.
"""

import argparse
from typing import Any

from seqssvae.cli.generate import shown
from seqssvae.cli.settings import add_decoding, decoding_options, load_for_texts


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
    add_decoding(parser, temperature=0.8, best_of=32)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    model = load_for_texts(arguments)
    options = decoding_options(arguments, model.vocabulary.kind)
    a, b = model.reader.split_texts([arguments.a, arguments.b])
    sequences = model.interpolate(a, b, arguments.steps, label=arguments.label, **options)
    return {"sequences": shown(sequences)}
