"""From a file to a run: prepare, train, save."""

import contextlib
import functools
import importlib.metadata
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seqssvae import devices, distributed, progress
from seqssvae.config import Config
from seqssvae.data.corpus import Source
from seqssvae.data.encode import unseen_share
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.errors import Diverged, InputError, Interrupted
from seqssvae.estimators import build_estimator
from seqssvae.extensions import import_object
from seqssvae.model.build import build
from seqssvae.model.ssvae import SSVAE
from seqssvae.overrides import as_config, override, with_class
from seqssvae.runs.checkpoints import load_checkpoint, remove_checkpoints, save_checkpoint
from seqssvae.runs.metrics import METRICS, append_metrics, cut_metrics, measure_metrics
from seqssvae.runs.run import (
    RunContents,
    check_new_run,
    check_old_run,
    describe_sources,
    is_finished,
    load_run,
    save_run,
)
from seqssvae.runs.tensorboard import check_tensorboard, write_scalars
from seqssvae.storage.files import locked
from seqssvae.training.costs import choose_estimator
from seqssvae.training.messages import log_sizes, report_voters
from seqssvae.training.resume import (
    check_identity,
    check_ranks,
    checksum_identity,
    checksum_rows,
    identify,
)
from seqssvae.training.signals import StopSignals
from seqssvae.training.start import StartingRun
from seqssvae.training.step import num_shards
from seqssvae.training.teach import learn_dev_labels, teach
from seqssvae.training.trainer import BAD_NUMBERS, OnEvaluation, Trainer

logger = logging.getLogger(__name__)

# of a classifier alone: networks that it does not read are as small as they can be
UNUSED = {
    **dict.fromkeys(map("model.{}_size".format, ("embedding", "encoder", "decoder")), 1),
    **{"model.latent_size": 0, "model.decoder_ngrams": 0, "model.factorisation": "z-given-y"},
}
FORMAT = 3  # of checkpoints
SAME_SIGNAL = 2.0  # seconds in which several senders may send one signal to a rank
RECORDED_PACKAGES = ("seqssvae", "torch", "pyro-ppl", "numpy", "sentencepiece", "datasets")


def fit(
    config: Config | Mapping[str, Any],
    source: Source,
    out: str | Path,
    *,
    unlabelled: Source | None = None,
    resume: bool = False,
    start: str | Path | StartingRun | None = None,
    build: Callable[..., SSVAE] | str | None = None,
    show_bar: bool = False,
) -> dict[str, Any]:
    """Train a model on a file and save it.

    Nothing is written before the input is read and checked. `out` holds a checkpoint from the first
    evaluation on, and after SIGTERM or SIGINT one of the step in progress. A resumed run has the
    weights and metrics, bit for bit, of an unbroken one on as many threads of the same machine; for
    a finished run the summary is returned again.

    Processes started by torchrun share each step; all of them must see the same files. Resuming is
    exact also with another number of processes if that number times `training.accumulate` is the
    same; otherwise the rows come in the same order with other noise.

    Args:
        config: The settings, or a mapping of those that are not default, or not those of `start`,
            as of `override`. A resumed run may have another `training.max_minutes` or `device`.
        source: A file, `hub:NAME`, or a `datasets.Dataset`.
        out: The run's folder; new or empty, unless `resume`.
        unlabelled: More rows; their labels are not read.
        resume: Continue from the checkpoint in `out`, if there is one.
        start: Folder of a finished run, whose weights are the first; the rows may have more symbols
            and classes. Rows that it generates stand for classes with less than half as many labels
            as its own on average. The summary's `dev` has the accuracy on held-out rows of its
            classes before (`old_accuracy_before`) and after (`old_accuracy`).
        build: Function that builds the networks, or its path: the setting `model.class`.
        show_bar: Show progress on stderr, see `seqssvae.progress`.

    Returns:
        A summary of the run, plain values only.

    Raises:
        InputError: bad input, a folder of others or in use, a checkpoint of other settings or rows.
        Interrupted: a signal came; the checkpoint, or the finished run, is saved.
        RankLost: another process does not answer; `resume` continues from the checkpoint.
        Diverged: too many steps in a row had no finite numbers; the best weights are saved.

    Example:
        >>> summary = seqssvae.fit({"training.num_steps": 2}, data, run.parent / "example")
        >>> summary["num_labelled"], summary["stopped_by"]
        (32, 'steps')
    """
    config = with_class(config, build)
    first = StartingRun.load(Path(start)) if isinstance(start, str | Path) else start
    config = as_config(config) if first is None else first.adapt(config)
    with distributed.joined(), contextlib.ExitStack() as held:
        if show_bar:
            held.enter_context(progress.shown())
        seconds = held.enter_context(progress.timed())
        summary = _fit(config, source, Path(out), unlabelled, held, seconds, first, resume=resume)
    if summary["stopped_by"] == BAD_NUMBERS:
        raise Diverged(
            f"{summary['run']}: wanted finite numbers, got {summary['skipped_steps']} steps "
            "without; the best weights before them are saved"
        )
    return summary


def train(
    config: Config,
    prepared: Prepared,
    *,
    checkpoint: Mapping[str, Any] | None = None,
    on_evaluation: OnEvaluation | None = None,
    should_stop: Callable[[], bool] | None = None,
    start: StartingRun | None = None,
) -> Trainer:
    """Build a model, initialise it from a teacher, and train it.

    In the end the teacher learns dev labels too, and the decoder's n-grams are counted with them.

    Args:
        config: The settings; `device` and `estimator` among them.
        prepared: The rows.
        checkpoint: A `Trainer.state` to resume from, instead of starting.
        on_evaluation: Called with each evaluation's metrics.
        should_stop: Called between steps.
        start: A run to start from.

    Returns:
        The trainer, with the trained model and its progress.

    Raises:
        InputError: a bad setting, or a checkpoint of another model.
    """
    device = devices.resolve(config.training.device)
    config = override(config, UNUSED if config.training.classifier_only else {})
    name, size = choose_estimator(config, prepared), prepared.vector_size
    config = override(config, {"estimator.name": name, "model.vector_size": size})
    model = build(config, prepared)
    if start is not None:
        start.copy_to(model, prepared)
    if checkpoint is None:
        with progress.phase("teacher"):
            taught = teach(config, model, prepared, reset=start is None)
    elif taught := checkpoint["progress"]["taught"]:
        model.start_from_ngrams()
    trainer = Trainer(
        config,
        model.to(device),
        prepared,
        taught=taught,
        on_evaluation=on_evaluation,
        should_stop=should_stop,
    )
    if checkpoint is not None:
        try:
            trainer.restore(checkpoint)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            got = f"{type(error).__name__}: {error}"
            raise InputError(f"checkpoint: wanted the state of this model, got {got}") from error
    if not config.training.classifier_only:
        logger.info("training: accuracy on held-out rows, and ELBO, how well rows are predicted")
    with progress.phase("steps"):
        trained = trainer.train()
    if trained.metrics:
        if start is not None and model.num_classes:
            trained.metrics |= start.powers(prepared)
            trained.metrics |= start.compare(model, prepared, *trained.default_mode)
        with progress.phase("teacher"):
            trained.dev_labels_learned = learn_dev_labels(config, model, prepared, taught=taught)
    return trainer


def _fit(
    config: Config,
    source: Source,
    out: Path,
    unlabelled: Source | None,
    held: contextlib.ExitStack,
    seconds: dict[str, float],
    start: StartingRun | None,
    *,
    resume: bool,
) -> dict[str, Any]:
    """The summary of a run that is trained now, or was finished before.

    `held` has its folder, and `seconds` the time of its phases.
    """
    # the first may write a cache that the others read
    with progress.phase("reading"), distributed.writer_first():
        _check(config, out, held, resume=resume)
        of_rows = None if start is None else start.of_rows
        prepared = prepare(config, source, unlabelled_source=unlabelled, start=of_rows)
    log_sizes(config, prepared)
    of_run = None if start is None else start.contents.checksum
    if resume and is_finished(out):
        return _finished(out, config, prepared, of_run)
    checkpoint = _checkpoint(out) if resume else None
    if checkpoint is not None:
        config = _with_estimator(config, checkpoint["identity"]["config"]["estimator"]["name"])
    name = distributed.from_writer(lambda: choose_estimator(config, prepared))
    config = _with_estimator(config, name)
    identity = identify(config, prepared, of_run)
    check_ranks(out, identity, checkpoint)
    if checkpoint is not None:
        check_identity(out, checkpoint["identity"], identity)
        _warn_of_shards(config, checkpoint)
        for name, before in checkpoint.get("seconds", {}).items():
            seconds[name] = seconds.get(name, 0.0) + before
    if resume:
        until = {"size": 0} if checkpoint is None else checkpoint[METRICS]
        distributed.from_writer(lambda: cut_metrics(out, until))

    def save(state: Mapping[str, Any]) -> None:
        run = {"format": FORMAT, "identity": identity, "shards": num_shards(config)}
        spent = {"seconds": dict(seconds)}
        save_checkpoint(out, {**state, **run, **spent, METRICS: measure_metrics(out)})

    def on_evaluation(record: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        append_metrics(out, record)
        if config.training.tensorboard:
            write_scalars(out, record)
        save(state)

    with StopSignals(same_within=SAME_SIGNAL if distributed.size() > 1 else 0.0) as signals:
        trainer = train(
            config,
            prepared,
            checkpoint=checkpoint,
            on_evaluation=on_evaluation,
            should_stop=lambda: signals.received is not None,
            start=start,
        )
        received = next(filter(None, distributed.gather(signals.received)), None)
        if received is not None and not trainer.progress.metrics:
            distributed.from_writer(lambda: save(trainer.state()))
            raise Interrupted(received, f"--resume continues from step {trainer.progress.step}")
        with progress.phase("saving"):
            save_all = functools.partial(_save, out, prepared, trainer, identity, seconds)
            summary = distributed.from_writer(save_all)
        spent = (f"{name} {value:.1f} s" for name, value in seconds.items())
        logger.info("time: %s", ", ".join(spent))
        received = signals.received if received is None else received
    if received is not None:
        raise Interrupted(received, "the run is finished")
    return summary


def _check(config: Config, out: Path, held: contextlib.ExitStack, *, resume: bool) -> None:
    """Check settings and folder, before the rows are read."""
    if config.training.tensorboard:
        check_tensorboard()
    devices.resolve(config.training.device)
    if config.model.class_ is not None:
        import_object(config.model.class_, "model.class")
    if config.estimator.name != "auto":
        build_estimator(config.estimator, config.objective)
    if distributed.is_writer():  # rank 0 may already write when others get here
        if not (resume and out.is_dir()):
            check_new_run(out)
        held.enter_context(locked(out))
        if resume:
            check_old_run(out)


def _finished(out: Path, config: Config, prepared: Prepared, start: str | None) -> dict[str, Any]:
    """The summary of a finished run of the same settings and rows."""
    finished = load_run(out)
    config = _with_estimator(config, finished.config.estimator.name)
    identity = identify(config, prepared, start)
    if finished.manifest.get("identity") != checksum_identity(identity):
        kept = override(config, UNUSED) if config.training.classifier_only else config
        before, now = (identify(one, prepared, start) for one in (finished.config, kept))
        check_identity(out, {**before, "rows": "others, unless a setting differs"}, now)
    distributed.from_writer(lambda: remove_checkpoints(out))
    return dict(finished.manifest["summary"])


def _warn_of_shards(config: Config, checkpoint: Mapping[str, Any]) -> None:
    """Warn where a run is resumed with another number of shards."""
    before, now = checkpoint["shards"], num_shards(config)
    if before != now:
        logger.warning(
            f"steps have {now} shards and had {before}: same order of rows, other noise; "
            f"processes times training.accumulate = {before} would resume exactly"
        )


def _save(
    out: Path,
    prepared: Prepared,
    trainer: Trainer,
    identity: Mapping[str, Any],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Write the finished run; returns its summary, whose `seconds` are those up to now."""
    summary = {"run": str(out), **summarise(trainer, prepared)}
    summary["seconds"] = {name: round(value, 3) for name, value in seconds.items()}
    contents = RunContents(
        config=trainer.config,
        vocabulary=prepared.vocabulary,
        labels=prepared.labels,
        split=prepared.split,
        weights=trainer.model.state_dict(),
        manifest={
            **describe_sources(out, prepared.corpus),
            "dev_rows": checksum_rows(prepared.from_files(prepared.dev), labels=False),
            "versions": {name: _version(name) for name in RECORDED_PACKAGES},
            "summary": summary,
            # generated rows are no sample of new ones
            "held_out": {} if prepared.corpus.generated else trainer.progress.held_out,
            "identity": checksum_identity(identity),
        },
    )
    save_run(out, contents)
    remove_checkpoints(out)
    return summary


def summarise(trainer: Trainer, prepared: Prepared) -> dict[str, Any]:
    """What is recorded of a finished training, plain values only.

    Where `dev_labels_learned`, the metrics `dev` are those of q(y | x) before that.
    """
    progress = trainer.progress
    return {
        "num_steps": progress.step,
        "best_step": progress.best_step,
        "stopped_by": progress.stopped_by,
        "skipped_steps": progress.skipped_steps,
        "bad_ids": progress.bad_ids,
        "minutes": round(progress.minutes, 3),
        "num_labelled": len(prepared.labelled),
        "num_unlabelled": len(prepared.unlabelled),
        "unseen_share": unseen_share(prepared.vocabulary, prepared.labelled, prepared.unlabelled),
        "dev": progress.metrics,
        "taught": progress.taught,
        "mode": progress.default_mode.mode,
        "mix_weights": progress.metrics.get("mix_weights", [0.5, 0.5]),
        "powers": progress.metrics.get("powers", [1.0, 1.0]),
        "dev_labels_learned": progress.dev_labels_learned,
        "voters": report_voters(trainer.model),
        "warnings": trainer.warnings(),
    }


def _version(package: str) -> str | None:
    """Version of a package; None for one that is not installed, as in a source tree."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _checkpoint(out: Path) -> dict[str, Any] | None:
    checkpoint = load_checkpoint(out)
    if checkpoint is not None and checkpoint.get("format") != FORMAT:
        raise InputError(
            f"{out}: wanted a checkpoint of format {FORMAT}, got {checkpoint.get('format')!r:.100}"
        )
    return checkpoint


def _with_estimator(config: Config, name: str) -> Config:
    """The estimator that a run started with, where the setting is "auto": machines differ."""
    return override(config, {"estimator.name": name}) if config.estimator.name == "auto" else config
