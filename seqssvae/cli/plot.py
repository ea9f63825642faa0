"""Draw pictures of a run.

Training curves, the latent space by t-SNE and by principal components, confusion matrix,
reliability, transfer and interpolation, KL of each dimension of z. The rows are those that training
held out, with the labels of the data; --data gives other rows, or the new path of the run's data.
"""

import argparse
from pathlib import Path
from typing import Any

from seqssvae.cli.settings import add_columns, add_labels, add_rows, data_of
from seqssvae.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows(parser, "--data", help="rows to show (default: held-out rows)")
    add_labels(parser)
    add_columns(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="output folder (default: RUN/plots)"
    )
    parser.add_argument("--format", choices=("png", "svg"), default="png", help="file format")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the samples")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from seqssvae.show.plots import draw_all, figure_to_bytes, require
    from seqssvae.show.portrait import portray
    from seqssvae.storage.files import check_output, write_atomically

    require("matplotlib")
    folder = arguments.out or Path(arguments.run) / "plots"
    check_output(folder, "--out", makes_folders=True)
    figures = draw_all(
        portray(arguments.run, data_of(arguments), seed=arguments.seed, device=arguments.device)
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: wanted a folder to write to, got {error.strerror}") from error
    files = []
    for name, figure in figures.items():
        path = folder / f"{name}.{arguments.format}"
        write_atomically(path, figure_to_bytes(figure, arguments.format))
        files.append(str(path))
    print("\n".join(files))
    return {"files": files}
