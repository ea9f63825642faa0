"""Memory that is used again: fresh pages from the system cost as much as the work on them."""

import math
import threading
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

__all__ = ["Buffer"]

MOST_FREE = 12  # pieces of memory kept for later

_free: list[Tensor] = []
_lock = threading.RLock()  # a buffer may die while its own thread takes another


@final
class Buffer:
    """Memory for a tensor; when the buffer is gone, a later one takes the memory over.

    The tensor may be used as long as the buffer lives. On a GPU, whose allocator keeps its memory
    anyway, it is a new tensor.

    Args:
        like: Gives dtype and device.
        shape: Of the tensor, whose values are arbitrary.

    Attributes:
        tensor: Of that shape.
    """

    def __init__(self, like: Tensor, shape: Sequence[int]) -> None:
        self._memory: Tensor | None = None
        if like.device.type != "cpu":
            self.tensor = like.new_empty(tuple(shape))
            return
        size = math.prod(shape)
        self._memory = _take(size, like.dtype)
        self.tensor = self._memory[:size].view(tuple(shape))

    def __del__(self) -> None:
        memory = getattr(self, "_memory", None)
        if memory is not None:
            with _lock:
                _free.append(memory)
                del _free[:-MOST_FREE]


def _take(size: int, dtype: torch.dtype) -> Tensor:
    """The smallest free piece that is large enough, else a new one in the place of a free one."""
    with _lock:
        own = [index for index, memory in enumerate(_free) if memory.dtype == dtype]
        own.sort(key=lambda index: len(_free[index]))
        for index in own:
            if len(_free[index]) >= size:
                return _free.pop(index)
        if own:
            del _free[own[-1]]
    with torch.inference_mode(False):
        return torch.empty(size, dtype=dtype)
