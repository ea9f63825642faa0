"""Open a local page to try a model.

Classify a sequence, with what speaks for it, its novelty and the training rows like it; label rows
and save them; generate; transfer; interpolate; a map of the latent space.
Only this machine can open the page, and it loads nothing from the network. Ctrl-C stops the server.
"""

import argparse
from typing import Any

from seqssvae.cli.settings import add_columns, add_labels, add_rows, data_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows(parser, "--data", help="rows of the map (default: held-out rows)")
    add_labels(parser)
    add_columns(parser)
    parser.add_argument("--port", type=int, default=8050, metavar="P", help="port; 0: any free one")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the map")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from seqssvae.show.plots import require

    require("dash")
    from seqssvae.show.explorer import open_run
    from seqssvae.show.explorer_page import serve

    exploration = open_run(
        arguments.run,
        data_of(arguments),
        seed=arguments.seed,
        device=arguments.device,
    )
    with serve(exploration, arguments.port) as server:
        url = f"http://{server.host}:{server.port}/"
        print(url, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
    return {"url": url}
