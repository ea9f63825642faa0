"""From a file to a run: prepare, train, save."""

import dataclasses
import importlib.metadata
import logging
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from seqssvae import distributed
from seqssvae.config import Config, override
from seqssvae.data.corpus import Source
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.errors import Diverged, InputError, Interrupted
from seqssvae.model.build import build
from seqssvae.runs.checkpoints import load_checkpoint, remove_checkpoints, save_checkpoint
from seqssvae.runs.metrics import append_metrics, cut_metrics, measure_metrics
from seqssvae.runs.run import (
    RunContents,
    check_new_run,
    check_old_run,
    is_finished,
    load_run,
    save_run,
)
from seqssvae.runs.tensorboard import check_tensorboard, write_scalars
from seqssvae.training.costs import (
    available_megabytes,
    cheapest_exact_or_sampled,
    describe,
    estimate,
    flops_per_second,
)
from seqssvae.training.resume import check_identity, check_ranks, fingerprint, identify
from seqssvae.training.signals import StopSignals
from seqssvae.training.step import num_shards
from seqssvae.training.trainer import BAD_NUMBERS, Trainer

__all__ = ["fit", "with_estimator"]

logger = logging.getLogger(__name__)

FORMAT = 2  # of what a checkpoint holds; 1 had the ids of the split, not their checksum
SAME_SIGNAL = 2.0  # seconds in which a signal reaches a rank from several senders
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

    Nothing is written before the input is read and found good. `out` holds a checkpoint from the
    first evaluation on, and after SIGTERM or SIGINT one of the step that was in progress. `resume`
    goes on from it to the same weights and metrics, bit for bit, as an unbroken run on the same
    machine and number of threads; of a finished run it gives the summary again.

    Where torchrun started several processes, they share each step; all of them must see the same
    files. `resume` is as exact with another number of processes, if that number times
    `training.accumulate` is the same; else it is in the order of the rows, not in the noise.

    Args:
        config: The settings. A resumed run may have another `training.max_minutes`.
        source: A file, `hub:NAME`, or a `datasets.Dataset`.
        out: The run's folder; new or empty, unless `resume`.
        unlabelled: More rows, their labels unread.
        resume: Go on from the checkpoint in `out`, if there is one.
        show_bar: Draw a progress bar on stderr.

    Returns:
        A summary of the run, plain values only.

    Raises:
        InputError: bad input, a folder with other files, or a checkpoint of other settings or rows.
        Interrupted: a signal came; the checkpoint, or the finished run, is saved.
        RankLost: another of several processes is gone; `resume` goes on from the checkpoint.
        Diverged: too many steps in a row had numbers that are not finite; the best weights that
            were found before are saved as a finished run.
    """
    with distributed.joined():
        return _judged(_fit(config, source, out, unlabelled, resume=resume, show_bar=show_bar))


def _fit(
    config: Config,
    source: Source,
    out: Path,
    unlabelled: Source | None,
    *,
    resume: bool,
    show_bar: bool,
) -> dict[str, Any]:
    """The summary of a run that was trained, or of one that was finished before."""
    with distributed.writer_first():  # what one writes the others read: a cache, say
        _check(config, out, resume=resume)
        prepared = prepare(config, source, unlabelled_source=unlabelled)
    _tell_sizes(config, prepared)
    if resume and is_finished(out):
        return _finished(out, config, prepared)
    checkpoint = _checkpoint(out) if resume else None
    if checkpoint is not None:
        config = _as_chosen(config, checkpoint["identity"]["config"]["estimator"]["name"])
    chosen = distributed.from_writer(lambda: with_estimator(config, prepared).estimator.name)
    config = override(config, {"estimator.name": chosen})
    identity = identify(config, prepared)
    check_ranks(out, identity, checkpoint)
    if checkpoint is not None:
        check_identity(out, checkpoint["identity"], identity)
        _tell_shards(config, checkpoint)

    def save(state: Mapping[str, Any]) -> None:
        facts = {"format": FORMAT, "identity": identity, "metrics": measure_metrics(out)}
        save_checkpoint(out, {**state, **facts, "shards": num_shards(config)})

    def on_evaluation(record: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        append_metrics(out, record)
        if config.training.tensorboard:
            write_scalars(out, record)
        save(state)

    if resume:
        facts = checkpoint["metrics"] if checkpoint is not None else {"size": 0}
        distributed.from_writer(lambda: cut_metrics(out, facts))
    with StopSignals(same_within=SAME_SIGNAL if distributed.size() > 1 else 0.0) as signals:
        trainer = _trainer(
            config,
            prepared,
            checkpoint,
            out,
            show_bar=show_bar,
            on_evaluation=on_evaluation,
            should_stop=lambda: signals.received is not None,
        )
        progress = trainer.train()
        received = next(
            (one for one in distributed.gather(signals.received) if one is not None), None
        )
        if received is not None and not progress.figures:
            distributed.from_writer(lambda: save(trainer.state()))
            raise Interrupted(
                received, f"{_name(received)}; --resume goes on from step {progress.step}"
            )
        trainer.model.cpu()
        summary = distributed.from_writer(lambda: _save(out, config, prepared, trainer, identity))
        received = signals.received if received is None else received
    if received is not None:
        raise Interrupted(received, f"{_name(received)}; the run is finished")
    return summary


def _check(config: Config, out: Path, *, resume: bool) -> None:
    """Refuse what can be refused before the rows are read."""
    if config.training.tensorboard:
        check_tensorboard()
    if config.training.device == "cuda" and not torch.cuda.is_available():
        raise InputError("training.device: wanted a GPU that torch finds, got none")
    if not distributed.is_writer():
        return  # rank 0 may have begun to write
    if resume:
        check_old_run(out)
    else:
        check_new_run(out)


def _finished(out: Path, config: Config, prepared: Prepared) -> dict[str, Any]:
    """The summary of a finished run, if it is the one that is asked for."""
    finished = load_run(out)
    config = _as_chosen(config, finished.config.estimator.name)
    if finished.manifest.get("identity") != fingerprint(identify(config, prepared)):
        raise InputError(f"{out}: wanted the settings and rows of the finished run, got others")
    distributed.from_writer(lambda: remove_checkpoints(out))
    summary: dict[str, Any] = finished.manifest["summary"]
    return summary


def _tell_shards(config: Config, checkpoint: Mapping[str, Any]) -> None:
    """Say what changes where another number of shards goes on."""
    before, now = checkpoint.get("shards", 1), num_shards(config)
    if before != now:
        logger.warning(
            "each step was computed in %d parts and is in %d now: the same rows in the same order, "
            "other noise; processes times training.accumulate = %d would give the same bits",
            before,
            now,
            before,
        )


def _trainer(
    config: Config,
    prepared: Prepared,
    checkpoint: Mapping[str, Any] | None,
    out: Path,
    *,
    show_bar: bool,
    on_evaluation: Callable[[Mapping[str, Any], Mapping[str, Any]], None],
    should_stop: Callable[[], bool],
) -> Trainer:
    """A trainer that begins, rank 0 with what a teacher taught, or goes on from a checkpoint."""
    with distributed.writer_first():
        taught = checkpoint is None and distributed.is_writer()
        model = build(config, prepared, taught=taught).to(config.training.device)
    trainer = Trainer(
        config,
        model,
        prepared,
        show_bar=show_bar,
        on_evaluation=on_evaluation,
        should_stop=should_stop,
    )
    if checkpoint is not None:
        _restore(trainer, checkpoint, out)
    return trainer


def _judged(summary: dict[str, Any]) -> dict[str, Any]:
    """The summary of a finished run, if it ended well."""
    if summary["stopped_by"] == BAD_NUMBERS:
        raise Diverged(
            f"{summary['run']}: wanted finite numbers, got {summary['skipped_steps']} steps "
            "without; the best weights that were found are saved"
        )
    return summary


def _save(
    out: Path,
    config: Config,
    prepared: Prepared,
    trainer: Trainer,
    identity: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the finished run; returns its summary."""
    progress = trainer.progress
    summary = {
        "run": str(out),
        "num_steps": progress.step,
        "best_step": progress.best_step,
        "stopped_by": progress.stopped_by,
        "skipped_steps": progress.skipped_steps,
        "bad_ids": progress.bad_ids,
        "minutes": round(progress.minutes, 3),
        "num_labelled": len(prepared.labelled),
        "num_unlabelled": len(prepared.unlabelled),
        "dev": progress.figures,
        "dev_labels_learned": progress.dev_labels_learned,
        "warnings": trainer.warnings,
    }
    contents = RunContents(
        config=config,
        vocabulary=prepared.vocabulary,
        labels=prepared.labels,
        split=prepared.split,
        weights=trainer.model.state_dict(),
        manifest={
            "source": prepared.corpus.source,
            "versions": {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES},
            "summary": summary,
            "identity": fingerprint(identity),
        },
    )
    save_run(out, contents)
    remove_checkpoints(out)
    return summary


def _tell_sizes(config: Config, prepared: Prepared) -> None:
    logger.info(
        "%d labelled rows, %d unlabelled, %d held out; %d classes, %d symbols",
        len(prepared.labelled),
        len(prepared.unlabelled),
        len(prepared.dev),
        len(prepared.labels.names),
        len(prepared.vocabulary),
    )
    num_truncated = prepared.labelled.num_truncated + prepared.unlabelled.num_truncated
    if num_truncated:
        logger.info(
            "%d rows are longer than data.max_length = %d and were cut",
            num_truncated,
            config.data.max_length,
        )
    for warning in prepared.warnings:
        logger.warning(warning)


def _checkpoint(out: Path) -> dict[str, Any] | None:
    checkpoint = load_checkpoint(out)
    if checkpoint is not None and checkpoint.get("format") != FORMAT:
        raise InputError(
            f"{out}: wanted a checkpoint of format {FORMAT}, got {checkpoint.get('format')!r:.100}"
        )
    return checkpoint


def _restore(trainer: Trainer, checkpoint: Mapping[str, Any], out: Path) -> None:
    try:
        trainer.restore(checkpoint)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{out}: wanted a checkpoint of this model, got {type(error).__name__}: {error}"
        ) from error


def _as_chosen(config: Config, name: str) -> Config:
    """The estimator that a run began with, where the choice is left to us: machines differ."""
    if config.estimator.name != "auto":
        return config
    return override(config, {"estimator.name": name})


def _name(number: int) -> str:
    return signal.Signals(number).name


def with_estimator(config: Config, prepared: Prepared) -> Config:
    """Tell what a step will take, and choose the estimator where that is left to us."""
    parts = (prepared.labelled, prepared.unlabelled)
    num_symbols, num_rows = (sum(map(size, parts)) for size in (_num_symbols, len))
    costs = estimate(
        config,
        num_classes=len(prepared.labels.names),
        vocabulary_size=len(prepared.vocabulary),
        mean_length=num_symbols / max(1, num_rows),
        num_labelled=len(prepared.labelled),
        num_unlabelled=len(prepared.unlabelled),
        speed=flops_per_second(),
    )
    name = config.estimator.name
    if name == "auto":
        name = cheapest_exact_or_sampled(costs, available_megabytes())
    logger.info("estimator %s", describe(costs, name))
    return dataclasses.replace(config, estimator=dataclasses.replace(config.estimator, name=name))


def _num_symbols(rows: EncodedRows) -> int:
    return sum(int(part.lengths.sum()) for part in rows.parts())
