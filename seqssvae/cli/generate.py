"""Generate sequences of a label, each with its own z from p(z)."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--label", metavar="L", help="label; none for a model without classes")
    parser.add_argument("--prefix", default="", metavar="S", help="prefix of every sequence")
    parser.add_argument("-n", type=int, default=1, metavar="N", help="number of sequences")
    parser.add_argument(
        "--strategy", choices=("sample", "greedy", "beam"), default="sample", help="decoding"
    )
    parser.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="below 1: more probable symbols"
    )
    parser.add_argument(
        "--top-k", type=int, default=0, metavar="K", help="keep the K most probable symbols; 0: all"
    )
    parser.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="keep the most probable, P in total"
    )
    parser.add_argument("--width", type=int, default=8, metavar="W", help="width of the beam")
    parser.add_argument("--max-length", type=int, metavar="N", help="largest number of symbols")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the samples")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from seqssvae.trained import load

    model = load(arguments.run, arguments.device)
    tokens = model.vocabulary.kind == "tokens"
    sequences = model.generate(
        arguments.label,
        arguments.n,
        prefix=arguments.prefix.split() if tokens else arguments.prefix,
        strategy=arguments.strategy,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        width=arguments.width,
        max_length=arguments.max_length,
        seed=arguments.seed,
    )
    for sequence in sequences:
        print(sequence if isinstance(sequence, str) else " ".join(sequence))
    return {"label": arguments.label, "sequences": sequences}
