"""Label texts or a file's rows.

Modes: q is the encoder's q(y|x); posterior is Bayes' rule with importance samples of z; mix is
their geometric mean.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from seqssvae.config import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("run", metavar="RUN", help="a trained run's folder")
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="texts to label")
    parser.add_argument("--data", metavar="FILE", help="rows to label instead; labels are not read")
    parser.add_argument("--mode", choices=("q", "posterior", "mix"), default="q")
    parser.add_argument("--num-samples", type=int, default=8, metavar="S", help="of z (8)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the samples (0)")
    parser.add_argument("--out", metavar="FILE.jsonl", type=Path, help="write the rows here")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Label."""
    if bool(arguments.texts) == bool(arguments.data):
        raise InputError("wanted TEXT ... or --data FILE, got both or neither")
    from seqssvae.files import write_atomically
    from seqssvae.trained import load

    model = load(arguments.run)
    rows = model.read(arguments.data) if arguments.data else model.read_texts(arguments.texts)
    found = model.classify_rows(
        rows, mode=arguments.mode, num_samples=arguments.num_samples, seed=arguments.seed
    )
    if arguments.out is not None:  # row by row: a file may hold many millions
        lines = (f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in found)
        write_atomically(arguments.out, lines)
        return {"num_rows": len(rows), "out": str(arguments.out)}
    if not arguments.json:
        for row in found:
            print(f"{row['label']}\t{row['probability']:.4f}")
        return {"num_rows": len(rows)}
    predictions = list(found)
    return {"num_rows": len(predictions), "predictions": predictions}
