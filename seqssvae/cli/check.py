"""Compare every estimator's value and gradient with the brute-force sum over y."""

import argparse
import dataclasses
from typing import Any

from seqssvae.cli.settings import add_columns, add_rows, load_run
from seqssvae.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows(parser, "--data", required=True, help="rows")
    add_columns(parser)
    parser.add_argument("--rows", type=int, default=8, metavar="N", help="rows to use")
    parser.add_argument("--draws", type=int, default=200, metavar="N", help="samples of y")
    parser.add_argument("--particles", type=int, default=2, metavar="S", help="samples of z")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the samples")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    for flag in ("rows", "draws", "particles"):
        least = 2 if flag == "draws" else 1
        if getattr(arguments, flag) < least:
            raise InputError(f"--{flag}: wanted at least {least}, got {getattr(arguments, flag)}")
    if not 0 <= arguments.seed < 2**63:
        raise InputError(f"--seed: wanted 0 or more, below 2**63, got {arguments.seed}")
    import numpy as np

    from seqssvae.data.batches import collate
    from seqssvae.estimators.check import check

    trained = load_run(arguments)
    if not trained.labels.names:
        raise InputError(f"{arguments.run}: wanted a model with classes, got one without")
    rows = trained.read(arguments.data, labels=True)
    batch = collate(
        rows, np.arange(min(arguments.rows, len(rows))), num_classes=trained.model.num_classes
    )
    table = check(
        trained.model,
        batch,
        num_draws=arguments.draws,
        num_particles=arguments.particles,
        seed=arguments.seed,
    )
    print(
        f"{'estimator':40s} {'value':>11s} {'error':>10s} {'s.e.':>9s} "
        f"{'gradient':>9s} {'s.e.':>9s} {'ms':>7s}"
    )
    for row in table:
        mark = "" if row.agrees() else "  DISAGREES"
        print(
            f"{row.estimator:40s} {row.value:11.4f} {row.error:10.2e} "
            f"{row.standard_error:9.2e} {row.relative_gradient_error:9.2e} "
            f"{row.relative_gradient_standard_error:9.2e} {1000 * row.seconds:7.1f}{mark}"
        )
    return {
        "num_rows": batch.num_rows,
        "estimators": [{**dataclasses.asdict(row), "agrees": row.agrees()} for row in table],
    }
