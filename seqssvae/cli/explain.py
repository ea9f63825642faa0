"""Explain labels: what of a text speaks for its label and against the next likeliest, in nats.

Shares of symbols, words and n-grams in the difference of log-probabilities that `classify` gives;
in a terminal, green speaks for the label and red against it. Tokens are separated by spaces.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from seqssvae.cli.settings import load_for_texts

SHADES = ((194, 157, 120, 83), (224, 217, 210, 203))  # of a terminal: greens, reds
NUM_LISTED = 8  # words, and n-grams


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("texts", metavar="TEXT", nargs="+", help="texts to explain")
    parser.add_argument("--label", metavar="L", help="label (default: the likeliest)")
    parser.add_argument("--against", metavar="L", help="other label (default: the next likeliest)")
    parser.add_argument("--mode", choices=("q", "posterior", "mix"), help="as of classify")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    model = load_for_texts(arguments)
    explanations = model.explain(
        model.reader.split_texts(arguments.texts),
        label=arguments.label,
        against=arguments.against,
        mode=arguments.mode,
    )
    has_colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    between = " " * (model.vocabulary.kind == "tokens")
    for one in explanations:
        _print(one, between, has_colours=has_colours)
    return {"mode": arguments.mode or model.default_mode, "explanations": explanations}


def _print(one: Mapping[str, Any], between: str, *, has_colours: bool) -> None:
    """The sums by source, the text, and the greatest shares of words and n-grams."""
    symbols: Sequence[Mapping[str, Any]] = one["symbols"]
    names = {"ngrams": "n-grams", "encoder": "encoder", "decoder": "decoder"}
    parts = [f"{name} {sum(s[key] for s in symbols):+.2f}" for key, name in names.items()]
    parts.append(f"rest {one['rest']:+.2f}")
    print(f"{one['label']} against {one['against']}: {one['difference']:+.2f} = {', '.join(parts)}")
    texts = [s["text"] for s in symbols]
    if has_colours:
        most = max(abs(s["share"]) for s in symbols) or 1.0
        texts = [_shade(s["text"], s["share"] / most) for s in symbols]
    print(between.join(texts))
    for kind in ("words", "ngrams"):
        greatest = sorted(one[kind], key=lambda found: -abs(found["share"]))[:NUM_LISTED]
        if greatest:
            listed = (f"{found['text']!r} {found['share']:+.2f}" for found in greatest)
            print(f"{'n-grams' if kind == 'ngrams' else kind}: {', '.join(listed)}")


def _shade(text: str, share: float) -> str:
    """A text on a background for its share of the greatest one, from -1 to 1."""
    depth = round(abs(share) * 4)
    if not depth:
        return text
    return f"\x1b[30;48;5;{SHADES[share < 0][depth - 1]}m{text}\x1b[0m"
