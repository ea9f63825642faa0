"""Ranks: the processes of one job that torchrun started; rank 0 writes.

CPU tensors are exchanged by gloo, those of GPUs by nccl. A single process exchanges nothing and
does not import torch here.

torch's own `DistributedDataParallel` is not used: the loss is no single forward of one module, a
rank with invalid numbers must report them before another one waits for it, and all of a step fits
one buffer. The sum over ranks is the same.
"""

import contextlib
import dataclasses
import json
import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from seqssvae.errors import RankLost, WriterFailed

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

T = TypeVar("T")

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # that torchrun sets
STEP = timedelta(seconds=60)  # timeout of the exchange of a step
WORK = timedelta(hours=3)  # timeout while one rank reads files, fits a teacher or saves


@dataclasses.dataclass(frozen=True)
class _World:
    """This process and the number of all; the group `patient` has a longer timeout."""

    rank: int
    size: int
    patient: "ProcessGroup"


_world: _World | None = None


def launched_rank() -> int | None:
    """This process's rank among those that torchrun started; None if it is alone."""
    if not all(os.environ.get(name) for name in VARIABLES):
        return None
    number, count = os.environ["RANK"], os.environ["WORLD_SIZE"]
    is_one = number.isdecimal() and count.isdecimal() and int(number) < int(count)
    return int(number) if is_one and int(count) > 1 else None


def rank() -> int:
    """This process's number, 0 if it is alone."""
    return 0 if _world is None else _world.rank


def size() -> int:
    """Number of processes that share the work."""
    return 1 if _world is None else _world.size


def is_writer() -> bool:
    """Whether this process writes files and logs."""
    return rank() == 0


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Within it, the processes that torchrun started share the work; alone, nothing changes.

    Ranks other than 0 log errors only.

    Raises:
        RankLost: the other ranks cannot be reached.
    """
    global _world
    number = launched_rank()
    if number is None or _world is not None:
        yield
        return
    import torch
    from torch import distributed

    backend = "gloo"
    if torch.cuda.is_available() and distributed.is_nccl_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    is_ours = not distributed.is_initialized()
    with _exchange():
        if is_ours:
            distributed.init_process_group(backend, timeout=STEP)
        patient = distributed.new_group(backend="gloo", timeout=WORK)
    assert patient is not None  # every rank is in it
    logger = logging.getLogger("seqssvae")
    level = logger.level
    if number:
        logger.setLevel(logging.ERROR)
    _world = _World(number, distributed.get_world_size(), patient)
    try:
        yield
    except RankLost:
        if threading.current_thread() is threading.main_thread():
            # torchrun may send it before the error is logged
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    finally:
        _world = None
        logger.setLevel(level)
        if is_ours:
            distributed.destroy_process_group()


def add_gradients(parameters: Sequence["Tensor"], numbers: Sequence[float]) -> list[float]:
    """Add up gradients and some numbers over the ranks, in one exchange of one buffer.

    A parameter without a gradient on any rank stays without one; if other ranks have one, a
    missing gradient counts as 0.

    Args:
        parameters: The same ones on every rank, of one dtype and device.
        numbers: As many on every rank; they are rounded to the parameters' dtype.

    Returns:
        The sums of the numbers; all ranks get the same bits.

    Raises:
        RankLost: another rank is gone, or did not answer for a minute.
    """
    if _world is None:
        return list(numbers)
    import torch
    from torch import distributed

    like = parameters[0].detach()
    sizes = [parameter.numel() for parameter in parameters]
    known = [float(parameter.grad is not None) for parameter in parameters]
    buffer = torch.cat(
        [
            like.new_zeros(count) if parameter.grad is None else parameter.grad.reshape(-1)
            for parameter, count in zip(parameters, sizes, strict=True)
        ]
        + [like.new_tensor([*known, *numbers])]
    )
    with _exchange():
        distributed.all_reduce(buffer)
    *gradients, rest = buffer.split([*sizes, len(known) + len(numbers)])
    sums: list[float] = rest.tolist()
    for parameter, gradient, count in zip(parameters, gradients, sums, strict=False):
        parameter.grad = gradient.view_as(parameter) if count else None
    return sums[len(known) :]


def add_named(values: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Sums over the ranks of the tensors with the same name; a rank may lack some.

    Args:
        values: On the CPU, each with the same shape and dtype on every rank that has it.
    """
    if _world is None:
        return dict(values)
    import torch
    from torch import distributed

    own: dict[str, tuple[str, list[int]]] = {
        name: (str(value.dtype).split(".")[1], list(value.shape)) for name, value in values.items()
    }
    kinds: dict[str, tuple[str, list[int]]] = {}
    for of_rank in gather(own):
        kinds.update(of_rank)
    sums = {}
    for name, (dtype, shape) in sorted(kinds.items()):
        value = values.get(name)
        if value is None:
            value = torch.zeros(shape, dtype=getattr(torch, dtype))
        sums[name] = value.clone()
        with _exchange():
            distributed.all_reduce(sums[name], group=_world.patient)
    return sums


def collect(
    columns: Mapping[str, "Tensor"], positions: "Tensor", num_rows: int
) -> dict[str, "Tensor"]:
    """Rows that the ranks computed, in one table that every rank gets.

    Args:
        columns: By name `[n, ...]`, on the CPU; a rank without rows may have none.
        positions: Index in the table of each of this rank's rows, int64 `[n]`; over all ranks each
            index occurs once.
        num_rows: Number of rows of the table.
    """
    tables = {}
    for name, column in columns.items():
        tables[name] = column.new_zeros(num_rows, *column.shape[1:])
        tables[name][positions] = column
    return add_named(tables)


def share(tensors: Iterable["Tensor"]) -> None:
    """Copy the values of rank 0 to every rank, in place.

    Raises:
        RankLost: another rank is gone.
    """
    if _world is None:
        return
    from torch import distributed

    for tensor in tensors:
        value = tensor.detach().cpu().contiguous()
        with _exchange():
            distributed.broadcast(value, 0, group=_world.patient)
        tensor.detach().copy_(value)


def gather(value: T) -> list[T]:
    """The values of all ranks, on every rank, in their order.

    Args:
        value: A value that JSON can represent.

    Raises:
        RankLost: another rank is gone.
    """
    if _world is None:
        return [value]
    import torch
    from torch import distributed

    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(_world.size)]
    with _exchange():
        distributed.all_gather(lengths, torch.tensor([len(text)]), group=_world.patient)
    longest = max(int(length) for length in lengths)
    texts = [torch.zeros(longest, dtype=torch.uint8) for _ in lengths]
    padded = torch.nn.functional.pad(text, (0, longest - len(text)))
    with _exchange():
        distributed.all_gather(texts, padded, group=_world.patient)
    return [
        json.loads(text[: int(length)].numpy().tobytes())
        for text, length in zip(texts, lengths, strict=True)
    ]


def from_writer(work: Callable[[], T]) -> T:
    """Call a function on rank 0 while the others wait for its result.

    Args:
        work: It must call no other function of this module, and return a value of JSON.

    Raises:
        WriterFailed: on the other ranks, if rank 0 raised an error.
        RankLost: another rank is gone.
    """
    if _world is None:
        return work()
    results: list[T] = []
    with writer_first():
        if is_writer():
            results.append(work())
    return gather(results)[0][0]


@contextlib.contextmanager
def writer_first() -> Iterator[None]:
    """Within it, rank 0 works first, and then all others.

    Raises:
        WriterFailed: on the other ranks, if rank 0 raised an error.
        RankLost: another rank is gone.
    """
    if _world is None:
        yield
    elif is_writer():
        try:
            yield
        except BaseException:
            with contextlib.suppress(RankLost):
                gather(False)
            raise
        gather(True)
    else:
        if not gather(True)[0]:
            raise WriterFailed("rank 0 met an error")
        yield


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Within it each rank works by itself; a ValueError of one is raised by all.

    Raises:
        ValueError: this rank's own, or one with the message of another's.
    """
    own: ValueError | None = None
    try:
        yield
    except ValueError as error:
        if _world is None:
            raise
        own = error
    texts = [text for text in gather(None if own is None else str(own)) if text is not None]
    if own is not None:
        raise own
    if texts:
        raise ValueError(texts[0])


@contextlib.contextmanager
def _exchange() -> Iterator[None]:
    """Turn the long messages of gloo and nccl about lost ranks into one line."""
    try:
        yield
    except RuntimeError as error:
        got = re.sub(r"\[\S*\.cc:\d+\] ", "", " ".join(str(error).split()))
        got = got.split(". This is", 1)[0]  # drop the advice for programmers
        raise RankLost(f"wanted all processes of this job, got: {got:.200}") from error
