"""Reuse of memory: fresh pages from the system cost as much time as the work on them."""

import math
import threading
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

MOST_FREE = 12  # pieces of free memory that are kept

_free: list[Tensor] = []
_lock = threading.RLock()  # a buffer may be deleted while its own thread takes another


@final
class Buffer:
    """Memory for a tensor; when the buffer is deleted, a later one reuses the memory.

    The tensor may be used as long as the buffer exists. On a GPU, whose allocator reuses memory
    itself, it is a new tensor.

    Args:
        like: Tensor that gives dtype and device.
        shape: Shape of the tensor.

    Attributes:
        tensor: Tensor of that shape, uninitialised.
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
    """The smallest free piece that is large enough, else a new one that replaces a free one."""
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
