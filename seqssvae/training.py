"""The training loop: batch and noise are functions of (seed, step), so a run can go on exactly."""

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

from seqssvae.config import Config
from seqssvae.estimators import RelaxedLabels, ScoreFunction, build_estimator
from seqssvae.evaluation import evaluate
from seqssvae.model import SSVAE
from seqssvae.preparation import Prepared
from seqssvae.schedules import kl_weight, learning_rate, temperature
from seqssvae.streams import TwoStreams

__all__ = ["Progress", "Trainer", "format_metrics"]

logger = logging.getLogger(__name__)

CLEARLY = 2.0  # standard errors
IGNORED_NATS = 0.1  # a KL or a y-gap below this means that z or y does nothing


@dataclasses.dataclass
class Progress:
    """Where a run stands; with the weights, all that going on needs.

    Attributes:
        step: Steps done.
        first_accuracy: Before the first step, on labelled dev rows.
        best_score: The best evaluation's score and ELBO.
        best_step: When that was.
        best_weights: The weights then, of q(y | x).
        best_elbo: The best ELBO.
        best_elbo_weights: The weights then, of all else.
        evaluations_since: Evaluations since either was found.
        figures: What was measured of the weights that were kept in the end.
        minutes: Time spent in the loop.
        stopped_by: "steps", "patience" or "time"; None while it runs.
    """

    step: int = 0
    first_accuracy: float | None = None
    best_score: tuple[float, float] = (-math.inf, -math.inf)
    best_step: int = 0
    best_weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    best_elbo: float = -math.inf
    best_elbo_weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    evaluations_since: int = 0
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    minutes: float = 0.0
    stopped_by: str | None = None


class Trainer:
    """Trains a model on prepared rows.

    What it keeps are the weights of q(y | x) from the evaluation with the best score (accuracy,
    say), and all others from the one with the best ELBO; all from the former if both share an
    encoder. A q(y | x) that a teacher has started is left for one that is more accurate by more
    than two standard errors, no other: labelled dev rows are few, and they are asked often.

    Args:
        config: The settings.
        model: Its weights are changed in place.
        prepared: The rows.
        show_bar: Draw a progress bar on stderr, if that is a terminal.
        on_evaluation: Called with every evaluation's figures and with the state to go on from.
    """

    def __init__(
        self,
        config: Config,
        model: SSVAE,
        prepared: Prepared,
        *,
        show_bar: bool = False,
        on_evaluation: Callable[[Mapping[str, Any], Mapping[str, Any]], None] | None = None,
    ) -> None:
        self.config, self.model, self.prepared = config, model, prepared
        self.show_bar = show_bar and sys.stderr.isatty()
        self.on_evaluation = on_evaluation
        self.elbo = build_estimator(config.estimator, config.objective)
        settings = config.training
        trained = [p for p in model.parameters() if p.requires_grad]
        decayed = [p for p in trained if p.dim() > 1]
        plain = [p for p in trained if p.dim() <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.streams = TwoStreams(
            prepared.labelled,
            prepared.unlabelled,
            sizes=(settings.labelled_batch_size, settings.unlabelled_batch_size),
            num_classes=model.num_classes,
            seed=settings.seed,
            mode=settings.streams,
            balanced=settings.balanced,
            w=stream_weights(config, len(prepared.labelled), len(prepared.unlabelled)),
            alpha=config.objective.alpha,
        )
        self.progress = Progress()
        self.warnings: list[str] = []

    def state(self) -> dict[str, Any]:
        """All that `restore` needs."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": dataclasses.asdict(self.progress),
            "estimator": self.elbo.state() if isinstance(self.elbo, ScoreFunction) else {},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, as if the loop had never stopped."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        if isinstance(self.elbo, ScoreFunction):
            self.elbo.restore(state["estimator"])

    def train(self) -> Progress:
        """Train until the steps, the patience or the time are spent, and keep the best weights."""
        settings, progress = self.config.training, self.progress
        if settings.num_threads:
            torch.set_num_threads(settings.num_threads)
        spent, start = progress.minutes, time.monotonic()
        bar = tqdm(
            total=settings.num_steps, initial=progress.step, disable=not self.show_bar, unit="step"
        )
        with bar, logging_redirect_tqdm():
            if progress.step == 0:
                self._evaluate()
            while progress.stopped_by is None:
                loss = self.step(progress.step)
                progress.step += 1
                progress.minutes = spent + (time.monotonic() - start) / 60
                bar.update()
                bar.set_postfix(loss=f"{loss:.2f}", refresh=False)
                if progress.step >= settings.num_steps:
                    progress.stopped_by = "steps"
                elif progress.minutes >= settings.max_minutes:
                    progress.stopped_by = "time"
                if progress.stopped_by or progress.step % settings.evaluate_every == 0:
                    self._evaluate()
        self.model.load_state_dict({**progress.best_elbo_weights, **progress.best_weights})
        progress.figures = self._measure()
        if self.model.ngrams_are_fixed and progress.best_step == 0:
            logger.info(
                "q(y|x) stays as it started: no step made it clearly better on labelled dev rows"
            )
        self.warnings = ignored_variables(progress.figures, self.model)
        for warning in self.warnings:
            logger.warning(warning)
        return progress

    def step(self, step: int) -> float:
        """One step of the optimiser; returns the loss in nats per row."""
        objective, settings = self.config.objective, self.config.training
        torch.manual_seed(_noise_seed(settings.seed, step))
        weight = kl_weight(
            step,
            schedule=objective.kl_schedule,
            final=objective.kl_weight,
            warmup_steps=objective.kl_warmup_steps,
            cycles=objective.kl_cycles,
        )
        if isinstance(self.elbo, RelaxedLabels):
            self.elbo.temperature = temperature(
                step,
                start=self.config.estimator.temperature,
                end=self.config.estimator.final_temperature,
                steps=self.config.estimator.temperature_steps,
            )
        rate = learning_rate(
            step,
            start=settings.learning_rate,
            final_share=settings.final_learning_rate,
            steps=settings.num_steps,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        batch = self.streams.batch(step)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.elbo.differentiable_loss(self.model.model, self.model.guide, batch, weight)
        loss = loss / batch.num_rows
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"step {step}: wanted a finite loss, got {value}")
        if not batch.counts:  # no gradient: neither momentum nor decay may move a weight
            return value
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self.optimizer.step()
        return value

    def _evaluate(self) -> None:
        """Measure the held-out rows, keep the weights if they are the best so far."""
        progress, settings = self.progress, self.config.training
        figures = self._measure()
        record = {"step": progress.step, "minutes": progress.minutes, **figures}
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
        return (float(first), float(figures["elbo"]))


def stream_weights(config: Config, num_labelled: int, num_unlabelled: int) -> tuple[float, float]:
    """w of labelled and of unlabelled rows.

    In steps with rows of both streams, few labelled rows come round many times while the others
    come once. With `objective.w_by_rows` the stream that comes round more often weighs so much
    less that L and U sum over the rows of the data, each counted alike.
    """
    w, settings = config.objective.w, config.training
    if not config.objective.w_by_rows or settings.streams != "both":
        return w, w
    if not num_labelled or not num_unlabelled:
        return w, w
    passes = settings.labelled_batch_size / num_labelled  # in a step
    ratio = passes * num_unlabelled / settings.unlabelled_batch_size
    return w / max(1.0, ratio), w * min(1.0, ratio)


def _noise_seed(seed: int, step: int) -> int:
    """A seed for the noise of one step, the same wherever the run began."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)


def ignored_variables(figures: Mapping[str, Any], model: SSVAE) -> list[str]:
    """What to do when the decoder does without z or y, one line each."""
    warnings = []
    if model.latent_size and figures["kl"] < IGNORED_NATS:
        warnings.append(
            f"z is ignored: its KL is {figures['kl']:.3f} nats. Try --objective.free_bits 0.25, a "
            "longer --objective.kl_warmup_steps, or a larger --model.word_dropout."
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
