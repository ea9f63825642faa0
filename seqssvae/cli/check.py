"""Compare every estimator's value and gradient with the brute-force sum over y."""

import argparse
import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from seqssvae.cli.settings import add_columns, add_labels, add_rows, load_run, read_rows
from seqssvae.config import EstimatorConfig, ObjectiveConfig
from seqssvae.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from seqssvae.estimators import Estimator

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows(parser, "--data", required=True, help="rows")
    add_labels(parser)
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
    trained.require_decoder("check")
    if not trained.labels.names:
        raise InputError(f"{arguments.run}: wanted a model with classes, got one without")
    rows = trained.read(read_rows(arguments, trained.config), labels=True)
    partial = np.isin(np.arange(len(rows)), list(rows.candidates))
    kinds = {
        "with a label": np.flatnonzero(rows.y >= 0),
        "with several possible labels": np.flatnonzero(partial),
        "without": np.flatnonzero((rows.y < 0) & ~partial),
    }
    numbers = choose_rows(list(kinds.values()), arguments.rows, arguments.seed)
    counts = {kind: int(np.isin(numbers, of_kind).sum()) for kind, of_kind in kinds.items()}
    batch = collate(rows, numbers, num_classes=trained.model.num_classes)
    print("rows: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    if counts["with a label"] == len(numbers):
        logger.warning("all rows have a label: no estimator sums over y, add rows without one")
    table = check(
        trained.model,
        batch,
        num_draws=arguments.draws,
        num_particles=arguments.particles,
        seed=arguments.seed,
        others=_own(trained.config.estimator, arguments.particles),
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
        "rows": counts,
        "estimators": [{**dataclasses.asdict(row), "agrees": row.agrees()} for row in table],
    }


def _own(settings: EstimatorConfig, num_particles: int) -> "dict[str, Estimator]":
    """The estimator of the run, if it is one of the user's own."""
    from seqssvae.estimators import build_estimator

    if ":" not in settings.name:
        return {}
    settings = dataclasses.replace(settings, num_particles=num_particles)
    return {settings.name: build_estimator(settings, ObjectiveConfig(free_bits=0.0))}


def choose_rows(kinds: "list[NDArray[np.int64]]", num_rows: int, seed: int) -> "NDArray[np.int64]":
    """Some rows, as many of each kind as there are of it, up to equal shares; ascending."""
    import numpy as np

    random = np.random.default_rng(seed)
    turns = [(turn, row) for kind in kinds for turn, row in enumerate(random.permutation(kind))]
    turns.sort(key=lambda one: one[0])  # the first of each kind, then the second of each
    return np.sort(np.array([row for _, row in turns[:num_rows]], dtype=np.int64))
