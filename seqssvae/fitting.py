"""From a file to a run: prepare, train, save."""

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seqssvae.building import build
from seqssvae.checkpoints import load_checkpoint, remove_checkpoints, save_checkpoint
from seqssvae.config import Config, InputError, override, to_mapping
from seqssvae.corpora import Source
from seqssvae.costs import (
    available_megabytes,
    cheapest_exact_or_sampled,
    describe,
    estimate,
    flops_per_second,
)
from seqssvae.encoded import EncodedRows
from seqssvae.metrics import append_metrics, cut_metrics, measure_metrics
from seqssvae.preparation import Prepared, prepare
from seqssvae.runs import (
    RunContents,
    check_new_run,
    check_old_run,
    is_finished,
    load_run,
    save_run,
)
from seqssvae.scalars import check_tensorboard, write_scalars
from seqssvae.stopping import Diverged, Interrupted, StopSignals
from seqssvae.training import BAD_NUMBERS, Trainer

__all__ = ["fit", "with_estimator"]

logger = logging.getLogger(__name__)

FORMAT = 2  # of what a checkpoint holds; 1 had the ids of the split, not their checksum
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
        Diverged: too many steps in a row had numbers that are not finite; the best weights that
            were found before are saved as a finished run.
    """
    if config.training.tensorboard:
        check_tensorboard()
    if resume:
        check_old_run(out)
    else:
        check_new_run(out)
    prepared = prepare(config, source, unlabelled_source=unlabelled)
    _tell_sizes(config, prepared)
    finished = load_run(out) if resume and is_finished(out) else None
    checkpoint = _checkpoint(out) if resume and finished is None else None
    if finished is not None:
        config = _as_chosen(config, finished.config.estimator.name)
        wanted, got = finished.manifest.get("identity"), _fingerprint(_identity(config, prepared))
        if wanted != got:
            raise InputError(f"{out}: wanted the settings and rows of the finished run, got others")
        remove_checkpoints(out)
        return _judged(finished.manifest["summary"])
    if checkpoint is not None:
        config = _as_chosen(config, checkpoint["identity"]["config"]["estimator"]["name"])
    config = with_estimator(config, prepared)
    identity = _identity(config, prepared)
    if checkpoint is not None:
        _check_identity(out, checkpoint["identity"], identity)
    if resume:
        cut_metrics(out, checkpoint["metrics"] if checkpoint is not None else {"size": 0})

    def save(state: Mapping[str, Any]) -> None:
        facts = {"format": FORMAT, "identity": identity, "metrics": measure_metrics(out)}
        save_checkpoint(out, {**state, **facts})

    def on_evaluation(record: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        append_metrics(out, record)
        if config.training.tensorboard:
            write_scalars(out, record)
        save(state)

    with StopSignals() as signals:
        trainer = Trainer(
            config,
            build(config, prepared, taught=checkpoint is None),
            prepared,
            show_bar=show_bar,
            on_evaluation=on_evaluation,
            should_stop=lambda: signals.received is not None,
        )
        if checkpoint is not None:
            _restore(trainer, checkpoint, out)
        progress = trainer.train()
        if signals.received is not None and not progress.figures:
            save(trainer.state())
            raise Interrupted(
                signals.received,
                f"{_name(signals.received)}; --resume goes on from step {progress.step}",
            )
        summary = _save(out, config, prepared, trainer, identity)
    if signals.received is not None:
        raise Interrupted(signals.received, f"{_name(signals.received)}; the run is finished")
    return _judged(summary)


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
            "identity": _fingerprint(identity),
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
    for oddity in prepared.oddities:
        logger.warning(oddity)


def _identity(config: Config, prepared: Prepared) -> dict[str, Any]:
    """What must be the same when a run goes on; how long it may last need not."""
    settings = to_mapping(config)
    del settings["training"]["max_minutes"]
    parts = (prepared.labelled, prepared.unlabelled, prepared.dev)
    return {
        "config": settings,
        "split": {part: _digest_ids(ids) for part, ids in prepared.split.items()},
        "rows": [_digest(rows) for rows in parts],
    }


def _check_identity(out: Path, wanted: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    if wanted == got:
        return
    others = [
        f"{section}.{name}"
        for section, settings in got["config"].items()
        for name, value in settings.items()
        if wanted["config"].get(section, {}).get(name) != value
    ]
    found = f"another {others[0]}" if others else "other rows"
    raise InputError(f"{out}: wanted the settings and rows of the checkpoint, got {found}")


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


def _fingerprint(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _name(number: int) -> str:
    return signal.Signals(number).name


def _digest(rows: EncodedRows) -> str:
    """A checksum of what training reads of rows, a part of them at a time."""
    symbols, offsets, y = (hashlib.sha256() for _ in range(3))
    offsets.update(bytes(8))
    end = 0
    for part in rows.parts():
        symbols.update(part.symbols.tobytes())
        offsets.update((end + part.offsets[1:]).tobytes())
        y.update(part.y.tobytes())
        end += int(part.offsets[-1])
    content = b"".join(part.digest() for part in (symbols, offsets, y))
    candidates = repr(sorted(rows.candidates.items())).encode()
    return hashlib.sha256(content + candidates).hexdigest()


def _digest_ids(ids: Iterable[str]) -> str:
    found = hashlib.sha256()
    for id in ids:
        found.update(f"{len(id)}:{id}".encode())
    return found.hexdigest()


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
    return int(rows.lengths.sum())
