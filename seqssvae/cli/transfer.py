"""Rewrite texts under another label: the same z, another y. Tokens are separated by spaces."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("texts", metavar="TEXT", nargs="+", help="texts to rewrite")
    parser.add_argument("--to", required=True, metavar="L", help="label to rewrite them under")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from seqssvae.trained import load

    model = load(arguments.run, arguments.device)
    sequences = model.transfer(model.reader.split_texts(arguments.texts), to=arguments.to)
    for sequence in sequences:
        print(sequence if isinstance(sequence, str) else " ".join(sequence))
    return {"to": arguments.to, "sequences": sequences}
