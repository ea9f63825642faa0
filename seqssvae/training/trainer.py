"""The training loop: steps, evaluations, and what they leave to go on from exactly."""

import copy
import dataclasses
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from seqssvae import distributed
from seqssvae.config import Config
from seqssvae.data.prepare import Prepared
from seqssvae.errors import Diverged
from seqssvae.inference.evaluate import evaluate
from seqssvae.model.ssvae import SSVAE
from seqssvae.teacher.distil import distil
from seqssvae.training.bad_steps import not_finite_allowed
from seqssvae.training.step import Stepper

__all__ = ["Progress", "Trainer", "format_metrics"]

logger = logging.getLogger(__name__)

BAD_NUMBERS = "bad-numbers"
CLEARLY = 2.0  # standard errors
IGNORED_NATS = 0.1  # a mutual information or a y-gap below this means that z or y does nothing


@dataclasses.dataclass
class Progress:
    """Where a run stands; with the weights, all that going on needs.

    Attributes:
        step: Steps done, those that were skipped included.
        evaluated_step: Of the last evaluation; -1 before the first.
        first_accuracy: Before the first step, on labelled dev rows.
        best_score: The best evaluation's score and ELBO.
        best_step: When that was.
        best_weights: The weights then, of q(y | x).
        best_elbo: The best ELBO.
        best_elbo_weights: The weights then, of all else.
        evaluations_since: Evaluations since either was found.
        figures: What was measured of the weights that were kept in the end, before they learned
            labels of dev rows; empty before that.
        dev_labels_learned: Whether they learned them.
        skipped_steps: Steps that were skipped, for their numbers were not finite.
        skipped_in_a_row: Those of them since the last good step.
        bad_ids: Ids of the sequences that did it, each once.
        minutes: Time spent in the loop, before a checkpoint too.
        stopped_by: "steps", "patience", "time" or "bad-numbers"; None while it runs, and where it
            was stopped from outside.
    """

    step: int = 0
    evaluated_step: int = -1
    first_accuracy: float | None = None
    best_score: tuple[float, float] = (-math.inf, -math.inf)
    best_step: int = 0
    best_weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    best_elbo: float = -math.inf
    best_elbo_weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    evaluations_since: int = 0
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    dev_labels_learned: bool = False
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    bad_ids: list[str] = dataclasses.field(default_factory=list)
    minutes: float = 0.0
    stopped_by: str | None = None


class Trainer:
    """Trains a model on prepared rows.

    What it keeps are the weights of q(y | x) from the evaluation with the best score (accuracy,
    say), and all others from the one with the best ELBO; all from the former if both share an
    encoder. A q(y | x) that a teacher has started is left for one that is more accurate by more
    than two standard errors, no other: labelled dev rows are few, and they are asked often. Where
    it is not left, it starts anew in the end from the labels of dev rows too.

    A step whose loss, gradient or weights hold a NaN or an infinity is skipped and told; after
    `training.max_bad_steps` of them in a row training ends, with weights that are finite.

    Of several ranks each has a trainer of the same rows; they begin with the weights of rank 0,
    and are told the same all the way, by rank 0's clock. Any of them may ask to stop.

    Args:
        config: The settings.
        model: Its weights are changed in place.
        prepared: The rows.
        show_bar: Draw a progress bar on stderr, if that is a terminal; rank 0 alone draws.
        on_evaluation: Called with every evaluation's figures and with the state to go on from, on
            rank 0 alone.
        should_stop: Asked between steps; once it says so, `train` returns, and `state` is what to
            go on from.

    Raises:
        ValueError: a weight is not finite.
    """

    def __init__(
        self,
        config: Config,
        model: SSVAE,
        prepared: Prepared,
        *,
        show_bar: bool = False,
        on_evaluation: Callable[[Mapping[str, Any], Mapping[str, Any]], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.config, self.model, self.prepared = config, model, prepared
        self.show_bar = show_bar and sys.stderr.isatty() and distributed.is_writer()
        self.on_evaluation = on_evaluation
        self.should_stop = should_stop or (lambda: False)
        self.stepper = Stepper(config, model, prepared, tell=self._tell)
        self.progress = Progress()
        self.warnings: list[str] = []
        self._spent = self._start = 0.0

    def state(self) -> dict[str, Any]:
        """All that `restore` needs."""
        return {**self.stepper.state(), "progress": dataclasses.asdict(self.progress)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, as if the loop had never stopped.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: it is no state of this model's training.
        """
        self.stepper.restore(state)
        self.progress = Progress(**state["progress"])

    def train(self) -> Progress:
        """Train until the steps, the patience or the time are spent, and keep the best weights.

        Raises:
            Diverged: the model's first weights cannot be evaluated.
            RankLost: another rank is gone.
        """
        settings, progress = self.config.training, self.progress
        if settings.num_threads:
            torch.set_num_threads(settings.num_threads)
        bar = tqdm(
            total=settings.num_steps, initial=progress.step, disable=not self.show_bar, unit="step"
        )
        with bar, logging_redirect_tqdm():
            self._loop(bar)
        if self._must_stop():
            return progress
        best = {**progress.best_elbo_weights, **progress.best_weights}
        self.model.load_state_dict({**self.model.state_dict(), **best})
        progress.figures = self._measure()
        if self.model.ngrams_are_fixed and progress.best_step == 0:
            logger.info(
                "q(y|x) stays as it started: no step made it clearly better on labelled dev rows"
            )
            self._read_dev_labels()
        self.warnings = ignored_variables(progress.figures, self.model)
        for warning in self.warnings:
            logger.warning(warning)
        return progress

    def _read_dev_labels(self) -> None:
        """Start q(y | x) anew from all labels: dev rows have judged what they were kept for."""
        ngrams, everything = self.model.ngrams, self.prepared.with_dev_labels()
        if ngrams is None or everything is self.prepared:
            return
        logger.info("its n-gram models learn again, from the labels of dev rows too")
        with distributed.writer_first():  # minutes that once are enough
            if distributed.is_writer():
                distil(ngrams, everything, self.config.training.seed)
        distributed.share(ngrams.state_dict().values())
        self.progress.dev_labels_learned = True

    def _loop(self, bar: "tqdm[Any]") -> None:
        """Take steps and evaluate, until something says that it is enough."""
        settings, progress = self.config.training, self.progress
        self._spent, self._start = progress.minutes, time.monotonic()
        while not self._must_stop():
            is_due = progress.step % settings.evaluate_every == 0 or progress.stopped_by is not None
            if is_due and progress.evaluated_step != progress.step:
                self._evaluate()
            if progress.stopped_by is not None or self._must_stop():
                return
            loss = self.step(progress.step)
            progress.step += 1
            progress.minutes = self._minutes() if distributed.size() == 1 else self.stepper.heard[1]
            bar.update()
            bar.set_postfix(loss=f"{loss:.2f}", refresh=False)
            if progress.step >= settings.num_steps:
                progress.stopped_by = "steps"
            elif progress.minutes >= settings.max_minutes:
                progress.stopped_by = "time"
            if progress.skipped_in_a_row >= settings.max_bad_steps:
                progress.stopped_by = BAD_NUMBERS

    def _minutes(self) -> float:
        return self._spent + (time.monotonic() - self._start) / 60

    def _tell(self) -> tuple[float, ...]:
        """What this rank adds to a step's exchange: its wish to stop, and rank 0's clock."""
        if distributed.size() == 1:
            return ()
        return float(self.should_stop()), self._minutes() if distributed.is_writer() else 0.0

    def _must_stop(self) -> bool:
        """Whether some rank wished to stop; all of them heard of it in the same step."""
        if distributed.size() == 1:
            return self.should_stop()
        return bool(self.stepper.heard and self.stepper.heard[0])

    def step(self, step: int) -> float:
        """One step of the optimiser; returns the loss in nats per row, NaN if it was skipped."""
        progress = self.progress
        loss, bad = self.stepper.step(step)
        if bad is None:
            progress.skipped_in_a_row = 0
            return loss
        progress.skipped_steps += 1
        progress.skipped_in_a_row += 1
        progress.bad_ids += [id for id in bad.ids if id not in progress.bad_ids]
        logger.warning(
            "step %d skipped, %d in a row: %s", step, progress.skipped_in_a_row, bad.reason
        )
        return loss

    def _evaluate(self) -> None:
        """Measure the held-out rows, keep the weights if they are the best so far."""
        progress, settings = self.progress, self.config.training
        progress.evaluated_step = progress.step
        with not_finite_allowed() as refusals:
            figures = self._measure()
        if refusals:
            if not progress.best_elbo_weights | progress.best_weights:
                raise Diverged("the first weights give figures that are not finite")
            progress.stopped_by = BAD_NUMBERS
            return
        record = {"step": progress.step, "skipped_steps": progress.skipped_steps, **figures}
        score, elbo = self._score(figures), figures["elbo"]
        progress.evaluations_since += 1
        if score > progress.best_score and self._outdoes_teacher(figures):
            progress.best_score, progress.best_step = score, progress.step
            progress.best_weights = self._weights(of_classifier=True)
            progress.evaluations_since = 0
        if elbo > progress.best_elbo:
            progress.best_elbo = elbo
            progress.best_elbo_weights = self._weights(of_classifier=False)
            progress.evaluations_since = 0
        warmed = progress.step >= self.config.objective.kl_warmup_steps
        spent = settings.patience and progress.evaluations_since >= settings.patience
        if warmed and spent and progress.stopped_by is None:
            progress.stopped_by = "patience"
        logger.info(format_metrics(record))
        distributed.from_writer(lambda: self._hand_on(record))

    def _hand_on(self, record: Mapping[str, Any]) -> None:
        if self.on_evaluation is not None:
            self.on_evaluation(record, self.state())

    def _measure(self) -> dict[str, Any]:
        """Figures of the held-out rows, or of some training rows where none were held out."""
        rows = self.prepared.dev
        if not len(rows):
            parts = (self.prepared.unlabelled, self.prepared.labelled)
            rows = next(part for part in parts if len(part))
            rows = rows.take(np.arange(min(len(rows), 256)))
        return evaluate(self.model, rows, num_samples=1, seed=self.config.training.seed)

    def _weights(self, *, of_classifier: bool) -> dict[str, Tensor]:
        """A copy of the weights of q(y | x), or of all else."""
        weights = self.model.state_dict()
        ours = self.model.classifier_names()
        if not ours:  # one body for both
            return copy.deepcopy(weights) if of_classifier else {}
        return {n: w.clone() for n, w in weights.items() if (n in ours) == of_classifier}

    def _outdoes_teacher(self, figures: Mapping[str, Any]) -> bool:
        """Whether a classifier is clearly better than what a teacher started, if one did."""
        first, taught = self.progress.first_accuracy, self.model.ngrams_are_fixed
        if not taught or first is None or figures.get("accuracy") is None:
            if self.progress.first_accuracy is None:
                self.progress.first_accuracy = figures.get("accuracy")
            return True
        error = math.sqrt(first * (1 - first) / figures["num_labelled"])
        return bool(figures["accuracy"] > first + CLEARLY * error)

    def _score(self, figures: Mapping[str, Any]) -> tuple[float, float]:
        """What early stopping compares; the ELBO decides between equals."""
        key = self.config.training.early_stopping.replace("-", "_")
        first = figures["elbo"] if figures.get(key) is None else figures[key]
        score = (float(first), float(figures["elbo"]))
        return score if all(map(math.isfinite, score)) else (-math.inf, -math.inf)


def ignored_variables(figures: Mapping[str, Any], model: SSVAE) -> list[str]:
    """What to do when the decoder does without z or y, one line each."""
    warnings = []
    if model.latent_size and figures["mutual_information"] < IGNORED_NATS:
        warnings.append(
            f"z is ignored: it tells {figures['mutual_information']:.3f} nats of x. Try a larger "
            "--objective.free_bits, a longer --objective.kl_warmup_steps, or a larger "
            "--model.word_dropout."
        )
    gap = figures.get("y_gap")
    if model.num_classes > 1 and gap is not None and gap < IGNORED_NATS:
        warnings.append(
            f"y is ignored: a wrong label costs {gap:.3f} nats. Try --model.class_bias true, "
            "--model.feed_y true, a larger --model.word_dropout, or more labels."
        )
    return warnings


def format_metrics(record: Mapping[str, Any]) -> str:
    """An evaluation in one line; likelihood, KL and the like in nats per sequence."""
    names = {
        "elbo": "ELBO {:.2f}",
        "likelihood": "log p(x|y,z) {:.2f}",
        "kl": "KL {:.2f}",
        "accuracy": "accuracy {:.3f}",
        "mutual_information": "MI {:.2f}",
        "active_units": "active {}",
        "y_gap": "y-gap {:.2f}",
    }
    shown = [form.format(record[key]) for key, form in names.items() if record.get(key) is not None]
    return f"step {record['step']:5d}  " + "  ".join(shown)
