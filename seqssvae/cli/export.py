"""Write the classifier q(y|x) for programs without torch.

An ONNX file for any number of rows and any length, with vocabulary and labels in files beside it.
Its output is compared with the model's at several lengths before it is written.
"""

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", choices=("onnx",), required=True, help="format")
    parser.add_argument("--out", metavar="DIR", type=Path, help="output folder (default: RUN/onnx)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from seqssvae.export.onnx import export_onnx
    from seqssvae.storage.files import check_output
    from seqssvae.trained import load

    out = Path(arguments.run) / "onnx" if arguments.out is None else arguments.out
    check_output(out, "--out", makes_folders=True)
    summary = export_onnx(load(arguments.run, "cpu"), out)
    print(f"written to {out}, largest difference of a probability {summary['difference']:.1e}")
    return summary
