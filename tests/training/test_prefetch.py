"""Batches that a thread makes ahead are the same ones."""

import functools
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from seqssvae.data.batches import Batch
from seqssvae.model.build import build
from seqssvae.training import step as steps
from seqssvae.training.prefetch import Prefetcher
from seqssvae.training.step import Stepper
from seqssvae.training.trainer import Trainer
from tests.support.faults import Spoiled, symbols
from tests.support.training import assert_same_bits, config, prepared

CPU = torch.device("cpu")


def make_ahead(make: Callable[[int, int], Any], num_parts: int = 1) -> Any:
    return Prefetcher(make, num_parts, CPU, is_ahead=True)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps use the thread on the CPU too."""
    monkeypatch.setattr(steps, "Prefetcher", functools.partial(Prefetcher, is_ahead=True))


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("batches"):
            thread.join(5)
            assert not thread.is_alive()


def test_parts_come_as_they_were_asked_for() -> None:
    """In order, repeated, and with steps left out."""
    batches = make_ahead(lambda step, part: (step, part), num_parts=2)
    asked = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 1), (5, 0), (5, 1), (4, 1), (5, 0)]
    assert [batches.part(*one) for one in asked] == asked


def test_the_next_part_is_made_before_it_is_asked_for() -> None:
    """By another thread, which is one part ahead and no more."""
    made: list[tuple[int, int, str]] = []
    known = threading.Semaphore(0)

    def make(step: int, part: int) -> None:
        made.append((step, part, threading.current_thread().name))
        known.release()

    batches = make_ahead(make, num_parts=2)
    batches.part(0, 0)
    assert known.acquire(timeout=5) and known.acquire(timeout=5)
    batches.part(0, 1)
    assert known.acquire(timeout=5)
    assert [one[:2] for one in made] == [(0, 0), (0, 1), (1, 0)]
    assert {name.split("_")[0] for *_, name in made} == {"batches"}


def test_on_the_cpu_nothing_is_made_ahead() -> None:
    made: list[str] = []
    batches = Prefetcher(lambda *_: made.append(threading.current_thread().name), 1, CPU)
    batches.part(0, 0)
    assert made == [threading.current_thread().name]


def test_an_error_is_raised_where_the_part_is_asked_for() -> None:
    def make(step: int, part: int) -> int:
        if step == 2:
            raise ValueError("row 7: wanted at least one symbol")
        return step

    batches = make_ahead(make)
    assert [batches.part(0, 0), batches.part(1, 0)] == [0, 1]
    for _ in range(2):
        with pytest.raises(ValueError, match="row 7: wanted at least one symbol"):
            batches.part(2, 0)
    assert batches.part(3, 0) == 3


def test_forgetting_waits_for_the_thread_and_drops_its_part() -> None:
    values, go = ["old"], threading.Event()

    def make(step: int, part: int) -> str:
        read = values[0]
        assert step == 0 or go.wait(5)
        return read

    batches = make_ahead(make)
    assert batches.part(0, 0) == "old"
    timer = threading.Timer(0.1, go.set)
    timer.start()
    batches.forget()
    assert go.is_set()  # no part is being made now
    values[0] = "new"
    assert batches.part(1, 0) == "new"
    timer.join()


def test_after_closing_parts_are_made_at_once() -> None:
    threads: list[threading.Thread] = []

    def make(step: int, part: int) -> int:
        threads.append(threading.current_thread())
        return step

    batches = make_ahead(make)
    batches.part(0, 0)
    batches.close()
    assert not threads[0].is_alive()
    assert batches.part(1, 0) == 1 and threads[-1] is threading.current_thread()
    batches.close()


def trained(**changes: Any) -> Trainer:
    settings, data = config(model__decoder_ngrams=2, **changes), prepared()
    trainer = Trainer(settings, build(settings, data), data)
    trainer.train()
    return trainer


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_training_has_the_same_bits(accumulate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where each count of n-grams changes what batches hold."""
    changes: dict[str, Any] = {"training__accumulate": accumulate, "training__num_steps": 12}
    plain = trained(**changes)
    assert plain.counting is not None and plain.counting.interval < 12
    monkeypatch.setattr(steps, "Prefetcher", functools.partial(Prefetcher, is_ahead=True))
    assert_same_bits(dict(plain.model.state_dict()), dict(trained(**changes).model.state_dict()))


def test_the_thread_stops_with_the_training(ahead: None, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_step = Trainer.step

    def step(trainer: Trainer, number: int) -> float:
        if number == 3:
            raise KeyboardInterrupt
        return plain_step(trainer, number)

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(KeyboardInterrupt) as caught:
        trained()
    names = [thread.name for thread in threading.enumerate()]  # the trainer is still alive
    assert not any(name.startswith("batches") for name in names), caught


def test_a_bad_step_is_undone_with_the_rows_that_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the rows of the next step are made: the same is found and skipped as without."""
    results = []
    for is_ahead in (False, True):
        ahead = functools.partial(Prefetcher, is_ahead=is_ahead)
        monkeypatch.setattr(steps, "Prefetcher", ahead)
        settings, data = config(training__accumulate=2), prepared()
        stepper, here = Stepper(settings, build(settings, data), data), [0]
        wanted = symbols(stepper.streams.part(2, 1))[0]  # type: ignore[arg-type]

        def is_bad(batch: Batch, here: list[int] = here, wanted: Any = wanted) -> bool:
            return here[0] == 2 and wanted in symbols(batch)

        real: Any = stepper.elbo.differentiable_loss
        stepper.elbo.differentiable_loss = Spoiled(real, is_bad, "loss")  # type: ignore[method-assign, assignment]
        done = []
        for here[0] in range(5):
            done.append(stepper.step(here[0]))
        problem = done[2][1]
        assert problem is not None and problem.ids
        losses = [loss for loss, _ in done]
        results.append((losses, problem.reason, dict(stepper.model.state_dict())))
        stepper.batches.close()
    assert_same_bits(results[0], results[1])
