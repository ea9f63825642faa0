"""What two processes compute together: `python -m tests.support.scenarios FOLDER NAME ...`.

Each scenario is a function that one process runs alone, with two parts to a batch, and two run
together, with one part each; what it returns must be the same.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from seqssvae import distributed
from seqssvae.config import Config
from seqssvae.data.batches import Batch
from seqssvae.data.prepare import Prepared
from seqssvae.errors import WriterFailed
from seqssvae.inference.evaluate import evaluate
from seqssvae.model.build import build
from seqssvae.model.ssvae import SSVAE
from seqssvae.training.step import Stepper
from seqssvae.training.trainer import Trainer
from tests.support.faults import Spoiled, symbols
from tests.support.rows import random_rows
from tests.support.training import config, prepared

ROOT = Path(__file__).parents[2]
NOISY = {"model__dropout": 0.2, "model__word_dropout": 0.2}


def make(**changes: Any) -> Stepper:
    """A stepper whose batches are cut in two, by the processes or by itself."""
    data = prepared()
    settings = config(training__accumulate=2 // distributed.size(), **changes)
    return Stepper(settings, build_shared(settings, data), data)


def make_trainer(changes: Mapping[str, Any], **options: Any) -> Trainer:
    """A trainer whose steps have two parts, by the processes or by itself."""
    data = prepared()
    settings = config(training__accumulate=2 // distributed.size(), **changes)
    return Trainer(settings, build_shared(settings, data), data, **options)


def build_shared(settings: Config, data: Prepared) -> SSVAE:
    """A model, whose weights are shared by the first process: all others begin with wrong ones."""
    model = build(settings, data)
    for value in model.state_dict().values():
        value += distributed.rank()
    return model


def steps(*, num_steps: int = 4, **changes: Any) -> Any:
    """Losses, and the state after some steps."""
    stepper = make(**changes)
    losses = [stepper.step(step)[0] for step in range(num_steps)]
    state = stepper.state()
    return losses, dict(state["model"]), state["optimizer"]["state"], state["estimator"]


def bad_rows() -> Any:
    """A row of the second shard is bad; all skip the step, and name the row."""
    results = []
    for kind in ("loss", "gradient", "refusal"):
        stepper, here = make(estimator__name="score-function"), [0]
        last = stepper.streams.part(2, 2 // distributed.size() - 1)
        assert last is not None
        wanted = tuple(distributed.gather(symbols(last)[0])[-1])

        def is_bad(batch: Batch, here: list[int] = here, wanted: Any = wanted) -> bool:
            return here[0] == 2 and wanted in symbols(batch)

        real: Any = stepper.elbo.differentiable_loss
        spoiled = Spoiled(real, is_bad, kind)
        stepper.elbo.differentiable_loss = spoiled  # type: ignore[method-assign, assignment]
        steps_done = []
        for here[0] in range(4):
            steps_done.append(stepper.step(here[0]))
        problem = steps_done[2][1]
        assert problem is not None and problem.ids
        results.append((steps_done[3], problem.reason, problem.ids, dict(stepper.state()["model"])))
    return results


def bad_weight() -> Any:
    """One process's weight is not finite; all report it, and it is restored."""
    stepper = make()
    stepper.step(0)
    if distributed.rank() == distributed.size() - 1:
        dict(stepper.model.named_parameters())["decoder.output.weight"].data[0, 0] = torch.nan
    _, problem = stepper.step(1)
    assert problem is not None
    stepper.step(2)
    return problem.reason, dict(stepper.state()["model"])


def train() -> Any:
    """A whole training, whose records the first process alone passes on."""
    records: list[Any] = []
    trainer = make_trainer(
        {"training__teacher": False}, on_evaluation=lambda record, _: records.append(dict(record))
    )
    progress = trainer.train()
    assert bool(records) == distributed.is_writer()
    kept = progress.metrics, progress.best_step, progress.best_score, progress.stopped_by
    return kept, dict(trainer.model.state_dict())


def evaluated() -> Any:
    """Metrics of several batches, of a part of the rows, and of one batch, for one process."""
    data = prepared()
    model = build(config(), data)
    many = random_rows([0, 1, -1] * 40, 5)
    return [
        evaluate(model, some, batch_size=30, num_samples=3, likelihood_rows=limit)
        for some, limit in ((many, None), (many, 65), (data.dev, None))
    ]


def stopped() -> Any:
    """The last process alone asks to stop, before its step 3; the step is finished."""
    trainer: Trainer

    def asks() -> bool:
        return distributed.rank() == distributed.size() - 1 and trainer.progress.step >= 3

    trainer = make_trainer({}, should_stop=asks)
    trainer.train()
    later = distributed.size() > 1  # alone it is asked before the step
    assert trainer.progress.step == 3 + later
    return trainer.progress.stopped_by


def spent() -> Any:
    """The first process's clock counts, whatever the others' say."""
    trainer = make_trainer({"training__max_minutes": 5.0})
    trainer._minutes = lambda: 6.0 if distributed.is_writer() else 0.0  # type: ignore[method-assign]
    trainer.train()
    return trainer.progress.stopped_by, trainer.progress.step


def errors() -> Any:
    """Errors of one process are those of all, in three ways."""
    messages: list[str] = []
    try:
        with distributed.together():
            if distributed.rank() == distributed.size() - 1:
                raise ValueError("no such row")
    except ValueError as error:
        messages.append(str(error))

    def fail() -> None:
        raise OSError("disk full")

    try:
        distributed.from_writer(fail)
    except (OSError, WriterFailed) as error:
        assert isinstance(error, OSError) == distributed.is_writer()
    assert distributed.from_writer(lambda: [distributed.rank(), None]) == [0, None]
    assert distributed.gather({"rank": distributed.rank()}) == [
        {"rank": n} for n in range(distributed.size())
    ]
    return messages


ROWS = ("training__labelled_batch_size", "training__unlabelled_batch_size")
STEPS: dict[str, dict[str, Any]] = {  # settings of a few steps, and how many
    "fifty": {"num_steps": 50, **dict(zip(ROWS, (4, 7), strict=True)), **NOISY},
    "learned": {"estimator__name": "score-function", "estimator__num_particles": 2},
    "running_mean": {"estimator__name": "score-function", "estimator__baseline": "running-mean"},
    "pyro": {"estimator__name": "trace-enum", **NOISY},
    "one_row": {  # the second process has no row in any step; neither has a weight in some
        "num_steps": 8,
        "training__streams": "alternate",
        "objective__w": 0.0,
        **dict.fromkeys(ROWS, 1),
    },
    "one_label": dict(zip(ROWS, (1, 3), strict=True)),
}
OTHERS = (bad_rows, bad_weight, train, evaluated, stopped, spent, errors)
SCENARIOS: dict[str, Callable[[], Any]] = {one.__name__: one for one in OTHERS} | {
    name: functools.partial(steps, **settings) for name, settings in STEPS.items()
}


def main(folder: str) -> None:
    """Run all scenarios, and save their results."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    with distributed.joined():
        results = {name: scenario() for name, scenario in SCENARIOS.items()}
        torch.save(results, Path(folder) / f"{distributed.rank()}.pt")


if __name__ == "__main__":
    main(sys.argv[1])
