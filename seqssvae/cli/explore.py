"""Open a local page to try a model.

Type a sequence to see its class and how new it is; write new ones; transfer; interpolate; a map of
the latent space. The page is for this machine alone, and asks the network for nothing. Ctrl-C ends
it.
"""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("run", metavar="RUN", help="a trained run's folder")
    parser.add_argument("--data", metavar="FILE", help="rows of the map (held-out ones of the run)")
    parser.add_argument("--port", type=int, default=8050, metavar="P", help="0: a free one (8050)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the map (0)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Serve until Ctrl-C."""
    from seqssvae.show.explorer import open_run
    from seqssvae.show.explorer_page import serve
    from seqssvae.show.plots import require

    require("dash", "explore")
    exploration = open_run(arguments.run, arguments.data, seed=arguments.seed)
    with serve(exploration, arguments.port) as server:
        url = f"http://{server.host}:{server.port}/"
        print(url, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
    return {"url": url}
