"""Rewrite texts under another label: the same z, another y. Tokens are separated by spaces.

By default the text, and samples for the label, are edited symbol by symbol for as long as the score
rises: log p(x | y, z) per symbol, length, log q(y | x), and what is kept of the text. The best is
written. With --keep 0 it is the best of the samples.
"""

import argparse
from typing import Any

from seqssvae.cli.generate import shown
from seqssvae.cli.settings import add_decoding, decoding_options, load_for_texts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("texts", metavar="TEXT", nargs="+", help="texts to rewrite")
    parser.add_argument("--to", required=True, metavar="L", help="label to rewrite them under")
    weight = "weight of what is kept of the text; 0: nothing but z is"
    parser.add_argument("--keep", type=float, default=2.0, metavar="K", help=weight)
    add_decoding(parser, temperature=0.8, best_of=32)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    model = load_for_texts(arguments)
    options = decoding_options(arguments, model.vocabulary.kind)
    texts = model.reader.split_texts(arguments.texts)
    sequences = model.transfer(texts, to=arguments.to, keep=arguments.keep, **options)
    return {"to": arguments.to, "sequences": shown(sequences)}
