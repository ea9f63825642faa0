"""Write one self-contained HTML page about a run.

What was learned, how good it is and what to do next, in three sentences; then metrics and pictures,
each with what it means, samples with their nearest training rows, and transfers. In the maps of the
latent space, hovering over a row shows its sequence. The page (about 5 MB) loads nothing from the
network.
"""

import argparse
from pathlib import Path
from typing import Any

from seqssvae.cli.settings import add_columns, add_labels, add_rows, data_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows(parser, "--data", help="rows to show (default: held-out rows)")
    add_labels(parser)
    add_columns(parser)
    parser.add_argument(
        "--out", metavar="FILE.html", type=Path, help="output (default: RUN/report.html)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the samples")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from seqssvae.show.plots import require
    from seqssvae.show.portrait import portray
    from seqssvae.show.report import write_report
    from seqssvae.storage.files import check_output, write_atomically

    require("matplotlib")
    require("plotly")
    path = arguments.out or Path(arguments.run) / "report.html"
    check_output(path, "--out")
    page = write_report(
        portray(arguments.run, data_of(arguments), seed=arguments.seed, device=arguments.device)
    )
    write_atomically(path, page.encode())
    print(path)
    return {"out": str(path)}
