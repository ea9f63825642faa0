"""Write one HTML page about a run, to be sent to a colleague.

Numbers, pictures, samples and transfers; in the maps of the latent space, pointing at a row shows
its sequence. The page holds all it needs (some 5 MB) and asks the network for nothing.
"""

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("run", metavar="RUN", help="a trained run's folder")
    parser.add_argument("--data", metavar="FILE", help="rows to show (held-out ones of the run's)")
    parser.add_argument("--out", metavar="FILE.html", type=Path, help="(RUN/report.html)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of all draws (0)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the page."""
    from seqssvae.show.plots import require
    from seqssvae.show.portrait import portray
    from seqssvae.show.report import write_report
    from seqssvae.storage.files import write_atomically

    require("matplotlib", "report")
    require("plotly", "report")
    page = write_report(portray(arguments.run, arguments.data, seed=arguments.seed))
    path = arguments.out or Path(arguments.run) / "report.html"
    write_atomically(path, page.encode())
    if not arguments.json:
        print(path)
    return {"out": str(path)}
