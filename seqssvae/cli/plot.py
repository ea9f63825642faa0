"""Draw pictures of a run.

Training curves, the latent space by t-SNE and by principal components, confusion, reliability,
transfer and interpolation, KL of each dim of z. Shown are the rows that training held out, with the
labels that the data has for them; --data names other rows, or where the run's data is now.
"""

import argparse
from pathlib import Path
from typing import Any

from seqssvae.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("run", metavar="RUN", help="a trained run's folder")
    parser.add_argument("--data", metavar="FILE", help="rows to show (held-out ones of the run's)")
    parser.add_argument("--out", metavar="DIR", type=Path, help="where to write (RUN/plots)")
    parser.add_argument("--format", choices=("png", "svg"), default="png", help="(png)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of all draws (0)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Draw."""
    from seqssvae.show.plots import draw_all, figure_to_bytes, require
    from seqssvae.show.portrait import portray
    from seqssvae.storage.files import write_atomically

    require("matplotlib", "plots")
    figures = draw_all(portray(arguments.run, arguments.data, seed=arguments.seed))
    folder = arguments.out or Path(arguments.run) / "plots"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: wanted a folder to write to, got {error.strerror}") from error
    files = []
    for name, figure in figures.items():
        path = folder / f"{name}.{arguments.format}"
        write_atomically(path, figure_to_bytes(figure, arguments.format))
        files.append(str(path))
    if not arguments.json:
        print("\n".join(files))
    return {"files": files}
