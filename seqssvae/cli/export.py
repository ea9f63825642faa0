"""Write the classifier q(y|x) for programs without torch.

An ONNX file of any number of rows and any length, held to the model at several lengths before it
is written, with its vocabulary and labels beside it.
"""

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("run", metavar="RUN", help="a trained run's folder")
    parser.add_argument("--to", choices=("onnx",), required=True, help="the format")
    parser.add_argument("--out", metavar="DIR", type=Path, help="a folder (RUN/onnx)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Export."""
    from seqssvae.export.onnx import export_onnx
    from seqssvae.trained import load

    out = Path(arguments.run) / "onnx" if arguments.out is None else arguments.out
    facts = export_onnx(load(arguments.run), out)
    if not arguments.json:
        print(
            f"written to {facts['out']}, {facts['difference']:.1e} from the model's probabilities"
        )
    return facts
