"""Types of the fixtures in `conftest.py`."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

FixNoise: TypeAlias = Callable[[Tensor], None]
SmallRun: TypeAlias = tuple[Path, Path]
"""Folder of a trained run, and the file of its rows."""
