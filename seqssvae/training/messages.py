"""What is said of a training: an evaluation in a line, and warnings with advice."""

import logging
from collections.abc import Mapping
from typing import Any

import torch

from seqssvae import devices
from seqssvae.config import Config, ModelConfig, ObjectiveConfig, list_settings
from seqssvae.data.encode import describe_long_rows
from seqssvae.data.prepare import Prepared
from seqssvae.model.ssvae import SSVAE

logger = logging.getLogger(__name__)

IGNORED_NATS = 0.1  # a mutual information or a y-gap below this means that z or y does nothing

# what a classifier alone reads, and what says how it runs
READ_ALONE = {
    *("model.ngram_buckets", "model.ngram_words", "model.prior", "model.vector_size"),
    *(f"training.{name}" for name in ("seed", "classifier_only", "teacher", "max_minutes")),
    *(f"training.{name}" for name in ("num_threads", "device", "tensorboard")),
}


def warn_of_unread(config: Config) -> None:
    """Warn of settings that are not default and that `training.classifier_only` never reads."""
    default = Config()
    unread = [
        one.key
        for one in list_settings()
        if one.section != "data"
        and one.key not in READ_ALONE
        and getattr(getattr(config, one.section), one.field)
        != getattr(getattr(default, one.section), one.field)
    ]
    if unread:
        logger.warning("--classifier-only does not read " + ", ".join(unread))


def ignored_variables(metrics: Mapping[str, Any], config: Config, *, num_classes: int) -> list[str]:
    """Warnings that the decoder ignores z or y, each with the advice that helps under a config."""
    warnings = []
    has_ngrams, objective = config.model.decoder_ngrams > 0, config.objective
    if config.model.latent_size and metrics["mutual_information"] < IGNORED_NATS:
        advice = "--model.decoder_ngrams 0: the n-grams of the decoder do not read z"
        if not has_ngrams:
            analytic = "--objective.kl analytic " if objective.kl == "sampled" else ""
            advice = f"{analytic}--objective.free_bits {ObjectiveConfig.free_bits:g}"
            if objective.free_bits >= ObjectiveConfig.free_bits:
                advice = f"more steps, --training.num_steps {4 * config.training.num_steps}"
        warnings.append(
            "z is ignored: its mutual information with x is "
            f"{metrics['mutual_information']:.3f} nats. This does not matter for labels. For "
            f"transfer, interpolation and maps of z, try {advice}."
        )
    gap = metrics.get("y_gap")
    if num_classes > 1 and gap is not None and gap < IGNORED_NATS:
        advice = (
            "more labels; if that does not help either, rows of all labels are written alike"
            if has_ngrams
            else f"--model.decoder_ngrams {ModelConfig.decoder_ngrams}: n-grams of each label"
        )
        warnings.append(f"y is ignored: a wrong label costs {gap:.3f} nats. Try {advice}.")
    return warnings


@torch.no_grad()
def report_voters(model: SSVAE) -> dict[str, dict[str, Any]]:
    """What the model believes of each voter, by name, which is logged.

    Returns:
        `accuracy`, the mean over p(y) of the diagonal of its confusion matrix, or p(y | vote) of a
        voter of one label; `num_votes` in training; `confusion`, p(vote | y), rows by label.
    """
    if model.votes is None:
        return {}
    found, prior = {}, model.prior_logits.softmax(-1)
    known = model.votes.share.tolist(), model.votes.only.tolist()
    for name, matrix, share, only in zip(
        model.votes.names, model.votes.matrices(), *known, strict=True
    ):
        right = prior * matrix.diagonal() if only < 0 else prior * matrix[:, only]
        accuracy = float(right.sum() if only < 0 else right[only] / right.sum())
        num_votes = round(1 / share) if share else 0
        logger.info(f"votes of {name!r}: {num_votes:,}, believed right in {accuracy:.1%} of them")
        found[name] = {
            "accuracy": accuracy,
            "num_votes": num_votes,
            "confusion": matrix.tolist(),
        }
    return found


def format_progress(record: Mapping[str, Any], num_steps: int) -> str:
    """An evaluation in one short line: accuracy as `classify` would label, and the ELBO."""
    accuracy = record.get(f"{record.get('best_mode', 'q')}_accuracy", record.get("accuracy"))
    shown = "" if accuracy is None else f"accuracy {accuracy:.3f}, "
    return f"step {record['step']} of {num_steps}: {shown}ELBO {record['elbo']:.1f}"


def format_metrics(record: Mapping[str, Any]) -> str:
    """All of an evaluation in one line; likelihood, KL and the like in nats per sequence."""
    names = {
        "elbo": "ELBO {:.2f}",
        "likelihood": "log p(x|y,z) {:.2f}",
        "kl": "KL {:.2f}",
        "accuracy": "accuracy: q {:.3f}",
        "posterior_accuracy": "posterior {:.3f}",
        "mix_accuracy": "mix {:.3f}",
        "teacher_accuracy": "teacher {:.3f}",
        "mutual_information": "MI {:.2f}",
        "active_units": "active {}",
        "y_gap": "y-gap {:.2f}",
    }
    shown = [form.format(record[key]) for key, form in names.items() if record.get(key) is not None]
    return f"step {record['step']:5d}  " + "  ".join(shown)


def log_sizes(config: Config, prepared: Prepared) -> None:
    """Log what is read, and warn of what is odd about it."""
    labelled, unlabelled, dev = prepared.labelled, prepared.unlabelled, prepared.dev
    logger.info(
        f"{len(labelled)} labelled rows, {len(unlabelled)} unlabelled, {len(dev)} held out; "
        f"{len(prepared.labels.names)} classes, {len(prepared.vocabulary)} symbols; "
        f"device {devices.resolve(config.training.device)}"
    )
    if num_truncated := labelled.num_truncated + unlabelled.num_truncated:
        logger.info(describe_long_rows(num_truncated, config))
    if num_lists := len(labelled.candidates):
        what = "a list of labels: one of these, not all of them"
        if labelled.slice(0, 0).evidence().soft is not None:
            what = "a soft label, or " + what
        if prepared.labels.columns:
            what = "labels of some columns alone, or a list of labels: one of these"
        if prepared.labels.tree:
            what = "a label above the leaves, or a list of labels: one of these"
        logger.info("%d rows have %s", num_lists, what)
    for warning in prepared.warnings:
        logger.warning(warning)
