"""From a file to a run: prepare, train, save."""

import dataclasses
import hashlib
import importlib.metadata
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqssvae.building import build
from seqssvae.config import Config, InputError, to_mapping
from seqssvae.corpora import Source
from seqssvae.costs import (
    available_megabytes,
    cheapest_exact_or_sampled,
    describe,
    estimate,
    flops_per_second,
)
from seqssvae.encoded import EncodedRows
from seqssvae.preparation import Prepared, prepare
from seqssvae.runs import (
    RunContents,
    append_metrics,
    load_checkpoint,
    remove_checkpoint,
    save_checkpoint,
    save_run,
)
from seqssvae.scalars import check_tensorboard, write_scalars
from seqssvae.training import Trainer

__all__ = ["fit", "with_estimator"]

logger = logging.getLogger(__name__)

RECORDED_PACKAGES = ("seqssvae", "torch", "pyro-ppl", "numpy", "sentencepiece", "datasets")


def fit(
    config: Config,
    source: Source,
    out: Path,
    *,
    unlabelled: Source | None = None,
    resume: bool = False,
    show_bar: bool = False,
) -> dict[str, Any]:
    """Train a model on a file and save it.

    Nothing is written before the input is read and found good; `out` holds a checkpoint from the
    first evaluation on, which `resume` goes on from, to the same weights as an unbroken run.

    Args:
        config: The settings.
        source: A file, `hub:NAME`, or a `datasets.Dataset`.
        out: The run's folder.
        unlabelled: More rows, their labels unread.
        resume: Go on from the checkpoint in `out`, if there is one.
        show_bar: Draw a progress bar on stderr.

    Returns:
        A summary of the run, plain values only.

    Raises:
        InputError: bad input, or a checkpoint of other settings or rows.
    """
    if config.training.tensorboard:
        check_tensorboard()
    prepared = prepare(config, source, unlabelled_source=unlabelled)
    logger.info(
        "%d labelled rows, %d unlabelled, %d held out; %d classes, %d symbols",
        len(prepared.labelled),
        len(prepared.unlabelled),
        len(prepared.dev),
        len(prepared.labels.names),
        len(prepared.vocabulary),
    )
    if prepared.labelled.num_truncated + prepared.unlabelled.num_truncated:
        logger.info(
            "%d rows are longer than data.max_length = %d and were cut",
            prepared.labelled.num_truncated + prepared.unlabelled.num_truncated,
            config.data.max_length,
        )
    for oddity in prepared.oddities:
        logger.warning(oddity)
    config = with_estimator(config, prepared)
    identity = {
        "config": to_mapping(config),
        "split": prepared.split,
        "rows": [_digest(rows) for rows in (prepared.labelled, prepared.unlabelled, prepared.dev)],
    }

    def on_evaluation(record: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        append_metrics(out, record)
        if config.training.tensorboard:
            write_scalars(out, record)
        save_checkpoint(out, {**state, "identity": identity})

    checkpoint = load_checkpoint(out) if resume else None
    if checkpoint is not None and checkpoint["identity"] != identity:
        raise InputError(f"{out}: wanted the settings and rows of the checkpoint, got others")
    model = build(config, prepared, taught=checkpoint is None)
    trainer = Trainer(config, model, prepared, show_bar=show_bar, on_evaluation=on_evaluation)
    if checkpoint is not None:
        trainer.restore(checkpoint)
    progress = trainer.train()
    summary = {
        "run": str(out),
        "num_steps": progress.step,
        "best_step": progress.best_step,
        "stopped_by": progress.stopped_by,
        "minutes": round(progress.minutes, 3),
        "num_labelled": len(prepared.labelled),
        "num_unlabelled": len(prepared.unlabelled),
        "dev": progress.figures,
        "warnings": trainer.warnings,
    }
    versions = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    contents = RunContents(
        config=config,
        vocabulary=prepared.vocabulary,
        labels=prepared.labels,
        split=prepared.split,
        weights=trainer.model.state_dict(),
        manifest={"source": prepared.corpus.source, "versions": versions, "summary": summary},
    )
    save_run(out, contents)
    remove_checkpoint(out)
    return summary


def _digest(rows: EncodedRows) -> str:
    """A checksum of what training reads of rows."""
    parts = (rows.symbols, rows.offsets, rows.y)
    content = b"".join(hashlib.sha256(part.tobytes()).digest() for part in parts)
    candidates = repr(sorted(rows.candidates.items())).encode()
    return hashlib.sha256(content + candidates).hexdigest()


def with_estimator(config: Config, prepared: Prepared) -> Config:
    """Tell what a step will take, and choose the estimator where that is left to us."""
    lengths = [*prepared.labelled.lengths.tolist(), *prepared.unlabelled.lengths.tolist()]
    costs = estimate(
        config,
        num_classes=len(prepared.labels.names),
        vocabulary_size=len(prepared.vocabulary),
        mean_length=sum(lengths) / max(1, len(lengths)),
        num_labelled=len(prepared.labelled),
        num_unlabelled=len(prepared.unlabelled),
        speed=flops_per_second(),
    )
    name = config.estimator.name
    if name == "auto":
        name = cheapest_exact_or_sampled(costs, available_megabytes())
    logger.info("estimator %s", describe(costs, name))
    return dataclasses.replace(config, estimator=dataclasses.replace(config.estimator, name=name))
