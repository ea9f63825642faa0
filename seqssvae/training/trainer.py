"""The training loop: steps, evaluations, the best weights, and a state to resume from exactly."""

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqssvae import distributed
from seqssvae.config import Config
from seqssvae.data.prepare import Prepared
from seqssvae.errors import Diverged, Interrupted
from seqssvae.inference.combine import measure_modes, measure_q
from seqssvae.inference.evaluate import LIKELIHOOD_ROWS, evaluate
from seqssvae.model.ssvae import SSVAE
from seqssvae.progress import Task, phase, task
from seqssvae.training.averaging import WeightAverage
from seqssvae.training.bad_steps import not_finite_allowed
from seqssvae.training.counting import Counting, is_counted
from seqssvae.training.messages import format_metrics, format_progress, ignored_variables
from seqssvae.training.signals import interruptible
from seqssvae.training.step import Stepper

logger = logging.getLogger(__name__)

BAD_NUMBERS, CLASSIFIER_ONLY = "bad-numbers", "classifier-only"
FROM_LAST = "--resume continues from the last evaluation"
EARLY = 0.1  # share of the time limit in which the recurrent decoder may be trained alone
CERTAIN = 0.75  # mean probability of the labels that the teacher chooses, for this
FIRST_TEACHER_WEIGHT = 10.0  # at least, as long as it is

OnEvaluation = Callable[[Mapping[str, Any], Mapping[str, Any]], None]


class Mode(NamedTuple):
    """A mode of `classify`, and the weights of q(y | x) and of the posterior in it."""

    mode: str
    weights: tuple[float, float]


@dataclasses.dataclass
class Progress:
    """Progress of a run; saved in checkpoints with the state of model and optimiser.

    Attributes:
        taught: Whether q(y | x) was initialised by a teacher.
        step: Number of steps, skipped ones included.
        evaluated_step: Step of the last evaluation; -1 before the first.
        best_score: Score and ELBO of the evaluation with the best score.
        best_losses: Log-losses of the labelled dev rows in that evaluation, by q(y | x).
        best_step: Step of the last evaluation whose score is the best, or as good; see `Trainer`.
        best_weights: Weights of that evaluation: those of q(y | x), or all.
        best_elbo: Best ELBO.
        best_elbo_weights: Weights with the best ELBO, without those that only q(y | x) reads.
        evaluations_since: Evaluations since the last improvement of score or ELBO.
        metrics: Metrics of the final weights; empty during training.
        held_out: What they say of dev rows with a label, as of `HeldOut`; empty without such rows.
        dev_labels_learned: Whether the labels of dev rows were used after training.
        teacher_weight: That of the model.
        skipped_steps: Number of steps skipped because of numbers that are not finite.
        skipped_in_a_row: Number of steps skipped since the last good step.
        bad_ids: Ids of the sequences that caused skipped steps, without duplicates.
        minutes: Time in the training loop, including that before a run was resumed.
        stopped_by: "steps", "patience", "time", "bad-numbers", or "classifier-only" for a
            classifier alone, which takes none; None during training, and after
            `should_stop`.
    """

    taught: bool = False
    step: int = 0
    evaluated_step: int = -1
    best_score: tuple[float, float] = (-math.inf, -math.inf)
    best_losses: list[float] = dataclasses.field(default_factory=list)
    best_step: int = 0
    best_weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    best_elbo: float = -math.inf
    best_elbo_weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    evaluations_since: int = 0
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    held_out: dict[str, Any] = dataclasses.field(default_factory=dict)
    dev_labels_learned: bool = False
    teacher_weight: float = 0.0
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    bad_ids: list[str] = dataclasses.field(default_factory=list)
    minutes: float = 0.0
    stopped_by: str | None = None

    @property
    def default_mode(self) -> Mode:
        """The mode of `classify` that is best on labelled dev rows."""
        mode = self.metrics.get("best_mode", "q")
        q, posterior = self.metrics.get("mix_weights" if mode == "mix" else "powers", (1.0, 1.0))
        return Mode(mode, (q, posterior))


class Trainer:
    """Trains a model on prepared rows.

    It keeps the weights of q(y | x) from the evaluation with the best score of labelled dev rows,
    and all others from the one with the best ELBO; with a shared encoder all from the former,
    unless that is the first one, a teacher's. Where the score is the log-loss, it is the last
    evaluation at most a standard error above the best: few labels tell these apart no better, and
    the later one learned from more rows.

    Evaluations, and so the weights that are kept, are of a running average over the last steps.

    A step whose loss, gradient or weights hold a NaN or an infinity is skipped and logged; after
    `training.max_bad_steps` of them in a row training ends, with weights that are finite.

    Each of several ranks has a trainer of the same rows. They start from the weights of rank 0
    and take the same decisions, by rank 0's clock; `should_stop` of any of them stops all.

    Args:
        config: The settings.
        model: Its weights are changed in place.
        prepared: The rows.
        taught: Whether q(y | x) was initialised by a teacher.
        on_evaluation: Called with the metrics of each evaluation and the state to resume from; on
            rank 0 only.
        should_stop: Called between steps; once it is true, `train` returns.

    Raises:
        ValueError: a weight is not finite.
    """

    def __init__(
        self,
        config: Config,
        model: SSVAE,
        prepared: Prepared,
        *,
        taught: bool = False,
        on_evaluation: OnEvaluation | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.config, self.model, self.prepared = config, model, prepared
        self.on_evaluation = on_evaluation
        self.should_stop = should_stop or (lambda: False)
        is_needed = is_counted(config, model)
        self.counting = Counting(config, model, prepared) if is_needed else None
        self.stepper = Stepper(
            config, model, prepared, counting=self.counting, numbers=self._numbers
        )
        self.average = WeightAverage(self.stepper.trained, config.training.average_steps)
        self.progress = Progress(taught=taught)
        weight = config.objective.teacher_weight
        self._set_teacher_weight(1.0 if weight == "auto" else weight)
        self._spent = self._start = 0.0

    def state(self) -> dict[str, Any]:
        """All that `restore` needs."""
        state = {**self.stepper.state(), "progress": dataclasses.asdict(self.progress)}
        state["average"] = self.average.state()
        if self.counting is not None:
            state["counting"] = self.counting.state()
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from a state, exactly.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: a state of another model.
        """
        self.stepper.restore(state)
        self.average.restore(state["average"])
        if self.counting is not None:
            self.counting.restore(state["counting"])
        self.progress = Progress(**state["progress"])
        self._set_teacher_weight(self.progress.teacher_weight)

    def train(self) -> Progress:
        """Train until steps, patience or time are used up, then load and measure the best weights.

        Raises:
            Diverged: the metrics of the first weights are not finite.
            RankLost: another rank does not answer.
        """
        settings, progress = self.config.training, self.progress
        if settings.num_threads:
            torch.set_num_threads(settings.num_threads)
        if settings.classifier_only:
            progress.stopped_by = CLASSIFIER_ONLY
        else:
            steps = task("steps", settings.num_steps, done=progress.step)
            with contextlib.closing(self.stepper.batches), steps as shown:
                self._loop(shown)
        if not self._must_stop():
            best = {**progress.best_elbo_weights, **progress.best_weights}
            self.model.load_state_dict({**self.model.state_dict(), **best})
            with phase("evaluation"), interruptible(FROM_LAST):
                progress.metrics = self._measure()
            progress.held_out = progress.metrics.pop("held_out", {})
            progress.metrics.pop("q_losses", None)
            for warning in self.warnings():
                logger.warning(warning)
        return progress

    def warnings(self) -> list[str]:
        """Warnings about a finished training, with advice."""
        warnings = ignored_variables(
            self.progress.metrics, self.config, num_classes=self.model.num_classes
        )
        step, objective = self.progress.step, self.config.objective
        is_cut = step < objective.kl_warmup_steps and objective.kl_schedule != "constant"
        if self.progress.stopped_by == "time" and is_cut:
            warnings.append(
                f"the time limit came at step {step}, within the KL's warm-up of "
                f"{objective.kl_warmup_steps} steps: z was trained with less than its full KL. Try "
                f"--training.num_steps {max(step, 1)}, whose warm-up is a third of it, or a larger "
                "--training.max_minutes."
            )
        return warnings

    def _loop(self, steps: Task) -> None:
        """Take steps and evaluate until a limit is reached."""
        settings, progress = self.config.training, self.progress
        self._spent, self._start = progress.minutes, time.monotonic()
        limit = settings.max_minutes or math.inf
        while not self._must_stop():
            if self.counting is not None and progress.step % self.counting.interval == 0:
                self.stepper.batches.forget()  # they have the counts of before
                with self.average.applied(), self._interruptible():
                    self.counting.count()
            is_due = progress.step % settings.evaluate_every == 0 or progress.stopped_by is not None
            if is_due and progress.evaluated_step != progress.step:
                self._evaluate()
            if progress.stopped_by is not None or self._must_stop():
                return
            loss = self.step(progress.step)
            progress.step += 1
            progress.minutes = self._minutes() if distributed.size() == 1 else self.stepper.sums[1]
            in_time = progress.step * limit / max(progress.minutes, 1e-9)
            steps.total = min(settings.num_steps, in_time)  # what ends it first
            steps.advance(note=f"loss {loss:.2f}")
            if progress.step >= settings.num_steps:
                progress.stopped_by = "steps"
            elif progress.minutes >= limit:
                progress.stopped_by = "time"
            if progress.skipped_in_a_row >= settings.max_bad_steps:
                progress.stopped_by = BAD_NUMBERS

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """A signal to stop ends what is inside, which a resumed training does anew."""
        if distributed.size() > 1:  # several ranks do the same
            yield
            return
        try:
            with interruptible(""):
                yield
        except Interrupted:
            if not self.should_stop():
                raise

    def _set_teacher_weight(self, weight: float) -> None:
        self.progress.teacher_weight = weight
        self.model.teacher_weight = weight if self.progress.taught else 0.0

    def _minutes(self) -> float:
        return self._spent + (time.monotonic() - self._start) / 60

    def _numbers(self) -> tuple[float, ...]:
        """Numbers to be summed over the ranks: votes to stop, and rank 0's clock."""
        if distributed.size() == 1:
            return ()
        return float(self.should_stop()), self._minutes() if distributed.is_writer() else 0.0

    def _must_stop(self) -> bool:
        """Whether `should_stop` was true on some rank; the same on all ranks."""
        if distributed.size() == 1:
            return self.should_stop()
        return bool(self.stepper.sums and self.stepper.sums[0])

    def step(self, step: int) -> float:
        """One step of the optimiser; returns the loss in nats per row, NaN for a skipped step."""
        progress = self.progress
        with self._recurrent_first(step):
            loss, bad = self.stepper.step(step)
        if bad is None:
            self.average.update()
            progress.skipped_in_a_row = 0
            return loss
        progress.skipped_steps += 1
        progress.skipped_in_a_row += 1
        progress.bad_ids += [id for id in bad.ids if id not in progress.bad_ids]
        logger.warning(
            "step %d skipped, %d in a row: %s", step, progress.skipped_in_a_row, bad.reason
        )
        return loss

    @contextlib.contextmanager
    def _recurrent_first(self, step: int) -> Iterator[None]:
        """Without the decoder's n-grams in the first steps, if a z is there to be read.

        Beside n-grams, which explain much of x without z, a decoder learns to ignore z; one that
        reads z before they join goes on to do so. As long as it is no judge of y, the teacher is;
        of labels that this one doubts, z would take the place.
        """
        objective, model = self.config.objective, self.model
        is_early = step < objective.recurrent_first * objective.kl_warmup_steps
        limit = self.config.training.max_minutes or math.inf
        is_early &= self.progress.minutes < EARLY * limit and model.latent_size > 0
        teacher = self.counting if self.progress.taught else None
        if not is_early or (teacher and teacher.certainty() < CERTAIN):
            yield
            return
        if objective.teacher_weight == "auto" and self.progress.taught:
            model.teacher_weight = max(FIRST_TEACHER_WEIGHT, self.progress.teacher_weight)
        model.decoder.recurrent_only = True
        try:
            yield
        finally:
            model.decoder.recurrent_only = False
            self._set_teacher_weight(self.progress.teacher_weight)

    def _evaluate(self) -> None:
        """Measure the held-out rows, and keep the weights if they are the best so far."""
        progress, metrics = self.progress, None
        with self.average.applied(), phase("evaluation"):
            with not_finite_allowed() as errors, self._interruptible():
                metrics = self._measure()
                metrics.pop("held_out", None)
            if metrics is None and not errors:
                return
            progress.evaluated_step = progress.step
            if metrics is not None:
                self._keep_best(metrics, metrics.pop("q_losses", []))
        if errors:
            if not progress.best_weights:
                raise Diverged("metrics of the first weights are not finite")
            progress.stopped_by = BAD_NUMBERS
            return
        if self.config.objective.teacher_weight == "auto" and "teacher_weight" in metrics:
            self._set_teacher_weight(metrics["teacher_weight"])
        settings, kl_warmup_steps = self.config.training, self.config.objective.kl_warmup_steps
        is_late = settings.patience and progress.evaluations_since >= settings.patience
        if is_late and progress.step >= kl_warmup_steps and progress.stopped_by is None:
            progress.stopped_by = "patience"
        record = {"step": progress.step, "skipped_steps": progress.skipped_steps, **metrics}
        logger.info(format_progress(record, settings.num_steps))
        logger.debug(format_metrics(record))
        if self.on_evaluation is not None:
            report = self.on_evaluation
            with phase("saving"):
                distributed.from_writer(lambda: report(record, self.state()))

    def _measure(self) -> dict[str, Any]:
        """Metrics of the held-out rows, or of some training rows if none were held out."""
        prepared, seed = self.prepared, self.config.training.seed
        rows = prepared.dev or (prepared.unlabelled or prepared.labelled).slice(0, 256)
        is_alone = self.config.training.classifier_only
        metrics = evaluate(
            self.model,
            rows,
            num_samples=1,
            likelihood_rows=0 if is_alone else LIKELIHOOD_ROWS,
            seed=seed,
        )
        if is_alone:  # by q(y | x), the only mode
            return metrics | measure_q(self.model, prepared.labelled_dev, seed=seed)
        if self.model.num_classes and len(prepared.labelled_dev):
            metrics |= distributed.from_writer(
                lambda: measure_modes(
                    self.model,
                    prepared.labelled_dev,
                    unlabelled=prepared.dev.take(prepared.dev.y < 0),
                    seed=seed,
                )
            )
        return metrics

    def _keep_best(self, metrics: Mapping[str, Any], losses: list[float]) -> None:
        progress, score = self.progress, self._score(metrics)
        of_classifier = self.model.classifier_names()
        progress.evaluations_since += 1
        is_best = score > progress.best_score
        if is_best:
            progress.best_score, progress.best_losses = score, losses
            progress.evaluations_since = 0
        if is_best or self._is_as_good(losses):
            is_teacher = progress.taught and progress.step == 0
            whole = self.model.shares_encoder and not is_teacher
            progress.best_step = progress.step
            progress.best_weights = self._weights(lambda name: whole or name in of_classifier)
        if metrics["elbo"] > progress.best_elbo:
            progress.best_elbo = metrics["elbo"]
            progress.best_elbo_weights = self._weights(lambda name: name not in of_classifier)
            progress.evaluations_since = 0

    def _is_as_good(self, losses: list[float]) -> bool:
        """Whether log-losses of rows are at most a standard error above the best ones."""
        best = self.progress.best_losses  # none in checkpoints of earlier versions
        if self.config.training.early_stopping != "log-loss" or not 1 < len(losses) == len(best):
            return False
        worse = np.subtract(losses, best)
        return bool(worse.mean() <= worse.std(ddof=1) / math.sqrt(len(worse)))

    def _weights(self, is_kept: Callable[[str], bool]) -> dict[str, Tensor]:
        """A copy of some weights."""
        return {n: w.clone() for n, w in self.model.state_dict().items() if is_kept(n)}

    def _score(self, metrics: Mapping[str, Any]) -> tuple[float, float]:
        """The score of early stopping, and the ELBO for ties."""
        key = self.config.training.early_stopping.replace("-", "_")
        first = metrics.get(key)
        if key == "log_loss" and "q_log_loss" in metrics:
            first = -metrics["q_log_loss"]
        first = metrics["elbo"] if first is None else first
        score = (float(first), float(metrics["elbo"]))
        return score if all(map(math.isfinite, score)) else (-math.inf, -math.inf)
