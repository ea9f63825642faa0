"""A softmax over symbols whose logits exist for one chunk of positions at a time.

No `[M, V]` tensor is made: the logits of a chunk are computed, used and overwritten by those of the
next one.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqssvae.nn.engine import Buffer, kernels_for, num_workers, share_out, softmax_for
from seqssvae.nn.ngram_lm import Mixture
from seqssvae.shapes import check_below

CHUNK_ELEMENTS = 2**22  # logits that exist at once on a CPU
FEWEST_PRODUCTS = 2**22  # multiplications below which one thread is faster than several
CACHED_ELEMENTS = 2**17  # logits, for each thread of a CPU, that a core's cache holds

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Softmax:
    """Cat(targets; softmax(hidden weight' + bias + table[y])).

    Attributes:
        weight: `[V, H]`.
        bias: `[V]`.
        table: Bias of each class, `[K, V]`, or None.
        y: Class of each row, int64 `[N]`, or weights of the classes, `[N, K]`; None without table.
        row: Row of each position, `[M]`.
        targets: Symbol of each position, `[M]`.
        chunk_elements: Logits that exist at once; None for `CHUNK_ELEMENTS` on a CPU, and as many
            as fit into `memory_share` on a GPU.
        memory_share: Share of the memory of a GPU that was free at first.

    Raises:
        ValueError: a target is not below V, or a class not below K.
    """

    weight: Tensor
    bias: Tensor
    table: Tensor | None
    y: Tensor | None
    row: Tensor
    targets: Tensor
    chunk_elements: int | None = None
    memory_share: float = 0.001

    def __post_init__(self) -> None:
        check_below("targets", self.targets, len(self.bias))
        if self.table is not None and self.y is not None and not self.y.dtype.is_floating_point:
            check_below("y", self.y, len(self.table))

    def log_prob(self, hidden: Tensor) -> Tensor:
        """Log-probability of each position's target, `[M]`, for hidden states `[M, H]`."""
        hidden = hidden.to(self._compute_dtype(hidden))
        with torch.autocast(hidden.device.type, enabled=False):  # buffers have one dtype
            log_prob: Tensor = _LogProb.apply(self, *self._parameters(hidden))  # type: ignore[no-untyped-call]
        return log_prob

    def weighted_log_prob(
        self, hidden: Tensor, weights: Tensor, mixture: Mixture | None = None
    ) -> tuple[Tensor, Tensor]:
        """The weighted sum of `log_prob`, whose gradient is computed in the same pass.

        Args:
            hidden: `[M, H]`.
            weights: `[M]`; they get a gradient.
            mixture: What is mixed with the softmax; it gets a gradient too.

        Returns:
            The sum, a scalar, and the log-probability of each target, `[M]`, without gradient.
        """
        sides = (None, None) if mixture is None else mixture
        hidden = hidden.to(self._compute_dtype(hidden))
        with torch.autocast(hidden.device.type, enabled=False):
            total, log_prob = _WeightedLogProb.apply(  # type: ignore[no-untyped-call]
                self, weights, *sides, *self._parameters(hidden)
            )
        return total, log_prob

    def _parameters(self, hidden: Tensor) -> tuple[Tensor | None, ...]:
        """The tensors that get a gradient, in the order of `_Gradients`."""
        return hidden, self.weight, self.bias, self.table, self._relaxed_y

    def _compute_dtype(self, hidden: Tensor) -> torch.dtype:
        """The dtype of autocast where it is on and no C kernels run, else that of the weights."""
        device = hidden.device.type
        if torch.is_autocast_enabled(device) and kernels_for(self.weight) is None:
            return torch.get_autocast_dtype(device)
        return self.weight.dtype

    def _cast(self, dtype: torch.dtype) -> "Softmax":
        """The same with weights of another dtype."""
        if dtype == self.weight.dtype:
            return self
        parts = {
            "weight": self.weight,
            "bias": self.bias,
            "table": self.table,
            "y": self._relaxed_y,
        }
        known = {name: part for name, part in parts.items() if part is not None}
        cast: Any = {name: part.detach().to(dtype) for name, part in known.items()}
        return dataclasses.replace(self, **cast)

    @property
    def _relaxed_y(self) -> Tensor | None:
        return self.y if self.y is not None and self.y.dtype.is_floating_point else None

    def _chunks(
        self,
        hidden: Tensor,
        upstream: Tensor | None,
        windows: Sequence[slice],
        mixture: Mixture | None = None,
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield each chunk, its log-probabilities, and the gradient of its logits.

        The gradient is the one for `upstream`, the gradient of each position's log-probability,
        `[M]`, or of that of the mixture; it is undefined without `upstream`, and overwritten by the
        next chunk's. The log-probabilities are those without the mixture.
        """
        size = len(self.bias)
        longest = max((window.stop - window.start for window in windows), default=0)
        memory = Buffer(hidden, (longest, size))
        transposed = self.weight.t()
        kernel = softmax_for(hidden, self.weight, *([] if self.table is None else [self.table]))
        if upstream is not None:
            upstream = upstream.to(_sum_dtype(hidden)).contiguous()
        for window in windows:
            logits = memory.tensor[: window.stop - window.start]
            torch.addmm(self.bias, hidden[window], transposed, out=logits)
            table, classes = self._class_bias(logits, window)
            rest = (table, classes, self.targets[window])
            gradient = None if upstream is None else upstream[window]
            sides = None if mixture is None else Mixture(*(side[window] for side in mixture))
            if kernel is None:
                log_prob = _log_softmax(logits, *rest, gradient, sides)
            else:
                log_prob = kernel(logits, *rest, gradient, *(sides or (None, None)))
            yield window, log_prob, logits

    def _class_bias(self, logits: Tensor, window: slice) -> tuple[Tensor | None, Tensor | None]:
        """Add the bias of relaxed classes; return the table and classes that are not relaxed."""
        if self.table is None or self.y is None:
            return None, None
        y = self.y[self.row[window]]
        if y.dtype.is_floating_point:
            logits.addmm_(y, self.table)
            return None, None
        return self.table, y

    def _chunk_elements(self, hidden: Tensor) -> int:
        if self.chunk_elements is None and hidden.is_cuda:
            return int(self.memory_share * _free_memory(hidden.device)) // hidden.itemsize
        return self.chunk_elements or CHUNK_ELEMENTS

    def _share_out(self, hidden: Tensor, work: Callable[[list[slice]], Result]) -> list[Result]:
        """Do work on all chunks, on several threads of a CPU."""
        num_positions, size = len(hidden), len(self.bias)
        workers = num_workers(hidden.device)
        if num_positions * size * hidden.shape[1] < FEWEST_PRODUCTS:
            workers = 1
        longest = max(64, self._chunk_elements(hidden) // (size * workers))
        num_chunks = -(-num_positions // longest)
        num_chunks += -num_chunks % workers  # each thread has the same number of them
        chunk = max(1, -(-num_positions // max(1, num_chunks)))
        windows = [
            slice(start, min(start + chunk, num_positions))
            for start in range(0, num_positions, chunk)
        ]
        sizes = [window.stop - window.start for window in windows]
        return share_out(work, windows, sizes, workers)


@functools.cache
def _free_memory(device: torch.device) -> int:
    """Bytes of a GPU's memory that are free now; the same ever after, as chunks keep their size."""
    return torch.cuda.mem_get_info(device)[0]


def _sum_dtype(value: Tensor) -> torch.dtype:
    """Sums and log-probabilities have at least 32 bits."""
    return torch.promote_types(value.dtype, torch.float32)


def _log_softmax(
    logits: Tensor,
    table: Tensor | None,
    classes: Tensor | None,
    targets: Tensor,
    upstream: Tensor | None,
    mixture: Mixture | None,
) -> Tensor:
    """As `Kernels.log_softmax`, by torch's operations, on positions that fit the cache."""
    cached = len(logits)
    if logits.device.type == "cpu":
        cached = max(8, CACHED_ELEMENTS * torch.get_num_threads() // logits.shape[1])
    log_probs = [logits.new_zeros(0, dtype=_sum_dtype(logits))]
    for first in range(0, len(logits), cached):
        part = slice(first, first + cached)
        here, target = logits[part].to(_sum_dtype(logits)), targets[part].unsqueeze(1)
        if table is not None and classes is not None:
            here += table[classes[part]]
        chosen = here.gather(1, target)
        largest = here.amax(1, keepdim=True)
        sums = here.sub_(largest).exp_().sum(1, keepdim=True)
        log_prob = (chosen - largest - sums.log()).squeeze(1)
        if upstream is not None:
            given = upstream[part]
            if mixture is not None:
                given = given * mixture.responsibility(log_prob, part)
            given = given.unsqueeze(1)
            here.mul_(-given / sums).scatter_add_(1, target, given)
            if here.dtype != logits.dtype:
                logits[part] = here
        log_probs.append(log_prob)
    return torch.cat(log_probs)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a product to a sum, which may have more bits."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total.add_(a @ b)


class _Gradients(NamedTuple):
    """Gradients of `Softmax._parameters`, in their order."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor
    table: Tensor | None
    y: Tensor | None

    @classmethod
    def zeros(cls, softmax: Softmax, d_hidden: Tensor) -> "_Gradients":
        """Sums to add chunks to; `d_hidden` is filled, not added to."""
        _, *summed = softmax._parameters(d_hidden)
        weight, bias, table, y = (None if s is None else torch.zeros_like(s) for s in summed)
        assert weight is not None and bias is not None
        return cls(d_hidden, weight, bias, table, y)

    def add(self, softmax: Softmax, hidden: Tensor, window: slice, logits: Tensor) -> None:
        """Add a chunk's gradients, from the gradient of its logits; `softmax` has their dtype."""
        torch.mm(logits, softmax.weight, out=self.hidden[window])
        _add_product(self.weight, logits.t(), hidden[window])
        self.bias.add_(logits.sum(0, dtype=self.bias.dtype))
        if self.table is None or softmax.table is None or softmax.y is None:
            return
        y = softmax.y[softmax.row[window]]
        if self.y is not None:
            self.y.index_add_(0, softmax.row[window], (logits @ softmax.table.t()).to(self.y.dtype))
        elif logits.device.type == "cpu":
            self.table.index_add_(0, y, logits.to(self.table.dtype))
            return
        else:  # a product reads the logits once; a GPU would add row after row of a class
            y = torch.nn.functional.one_hot(y, len(self.table)).to(logits.dtype)
        _add_product(self.table, y.t(), logits)

    @classmethod
    def total(cls, parts: "Sequence[_Gradients]") -> "_Gradients":
        """The sum over threads, in memory of the first."""
        for other in parts[1:]:
            for total, term in zip(parts[0][1:], other[1:], strict=True):
                if total is not None and term is not None:
                    total.add_(term)
        return parts[0]


class _LogProb(torch.autograd.Function):
    """`Softmax.log_prob`; the backward pass computes the logits again."""

    @staticmethod
    def forward(ctx: Any, softmax: Softmax, hidden: Tensor, *_: Tensor | None) -> Tensor:
        ctx.softmax = softmax
        ctx.save_for_backward(hidden)
        log_prob = hidden.new_empty(len(hidden), dtype=_sum_dtype(hidden))
        cast = softmax._cast(hidden.dtype)

        def run(windows: list[slice]) -> None:
            for window, chunk, _logits in cast._chunks(hidden, None, windows):
                log_prob[window] = chunk

        softmax._share_out(hidden, run)
        return log_prob

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (hidden,) = ctx.saved_tensors
        softmax: Softmax = ctx.softmax
        d_hidden, cast = torch.empty_like(hidden), softmax._cast(hidden.dtype)

        def run(windows: list[slice]) -> _Gradients:
            gradients = _Gradients.zeros(softmax, d_hidden)
            for window, _, logits in cast._chunks(hidden, upstream, windows):
                gradients.add(cast, hidden, window, logits)
            return gradients

        return (None, *_Gradients.total(softmax._share_out(hidden, run)))


class _WeightedLogProb(torch.autograd.Function):
    """`Softmax.weighted_log_prob`: value and gradient in one pass over the logits."""

    @staticmethod
    def forward(
        ctx: Any,
        softmax: Softmax,
        weights: Tensor,
        log_share: Tensor | None,
        log_rest: Tensor | None,
        hidden: Tensor,
        *_: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        with_gradient, mixture = any(ctx.needs_input_grad[4:]), None
        if log_share is not None and log_rest is not None:
            sum_dtype = _sum_dtype(hidden)
            mixture = Mixture(*(s.to(sum_dtype).contiguous() for s in (log_share, log_rest)))
        log_prob = hidden.new_empty(len(hidden), dtype=_sum_dtype(hidden))
        memory, cast = Buffer(hidden, hidden.shape), softmax._cast(hidden.dtype)

        def run(windows: list[slice]) -> _Gradients | None:
            gradients = _Gradients.zeros(softmax, memory.tensor) if with_gradient else None
            upstream = weights if with_gradient else None
            for window, chunk, logits in cast._chunks(hidden, upstream, windows, mixture):
                log_prob[window] = chunk
                if gradients is not None:
                    gradients.add(cast, hidden, window, logits)
            return gradients

        parts = [part for part in softmax._share_out(hidden, run) if part is not None]
        gradients: tuple[Tensor | None, ...] = _Gradients.total(parts) if parts else ()
        if not hidden.is_cuda:  # the gradient of `hidden` is valid as long as the buffer exists
            ctx.memory = memory
        share = None
        if mixture is not None:
            share = mixture.responsibility(log_prob)
            log_prob = mixture.log_prob(log_prob)
        # saved ones are freed before the backward pass of the recurrent layers takes memory
        ctx.save_for_backward(weights, log_prob, share, *gradients)
        ctx.mark_non_differentiable(log_prob)
        return (weights * log_prob).sum(), log_prob

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        weights, log_prob, share, *gradients = ctx.saved_tensors
        scaled = (None if part is None else part * upstream for part in gradients or [None] * 5)
        sides = (None, None)
        if share is not None:
            sides = (upstream * weights * share, upstream * weights * (1 - share))
        return (None, upstream * log_prob, *sides, *scaled)
