"""Write new sequences of a label, each from a z of its own drawn from p(z)."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("run", metavar="RUN", help="a trained run's folder")
    parser.add_argument("--label", metavar="L", help="the class; none for a model without classes")
    parser.add_argument("--prefix", default="", metavar="S", help="what sequences begin with")
    parser.add_argument("-n", type=int, default=1, metavar="N", help="how many (1)")
    parser.add_argument("--strategy", choices=("sample", "greedy", "beam"), default="sample")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="(1)")
    parser.add_argument("--top-k", type=int, default=0, metavar="K", help="0: all symbols")
    parser.add_argument("--top-p", type=float, default=1.0, metavar="P", help="1: all symbols")
    parser.add_argument("--width", type=int, default=8, metavar="W", help="of the beam (8)")
    parser.add_argument("--max-length", type=int, metavar="N", help="symbols at most")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="(0)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Generate."""
    from seqssvae.trained import load

    model = load(arguments.run)
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
    if not arguments.json:
        for sequence in sequences:
            print(sequence if isinstance(sequence, str) else " ".join(sequence))
    return {"label": arguments.label, "sequences": sequences}
