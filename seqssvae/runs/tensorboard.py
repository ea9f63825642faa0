"""The evaluations of a run for TensorBoard, beside `metrics.jsonl`."""

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqssvae.errors import InputError

FOLDER = "tensorboard"  # of a run


def check_tensorboard() -> None:
    """Check, before training, that the package is installed.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("tensorboard") is None:
        wanted = "the package tensorboard (pip install tensorboard)"
        raise InputError(f"training.tensorboard: wanted {wanted}, got none")


def write_scalars(run: Path, record: Mapping[str, Any]) -> None:
    """Add an evaluation to a run's event files, and flush it to the disk.

    Each evaluation is a file of its own, which no kill can tear, and a step that is measured again
    after `--resume` replaces the earlier measurement.

    Args:
        run: The run's folder.
        record: As in `metrics.jsonl`; its numbers are written under their names, at its `step`.
    """
    from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

    step = int(record["step"])
    with SummaryWriter(str(run / FOLDER), purge_step=step) as writer:
        for name, value in record.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and name != "step" and math.isfinite(value):
                writer.add_scalar(f"dev/{name}", value, step)
