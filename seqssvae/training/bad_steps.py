"""Steps whose numbers are not finite: the weights before them, and the rows that cause it."""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

MAX_BAD_ROWS = 8  # that are searched for; with broken networks all rows are bad


class LastGood:
    """A copy of the last finite weights of a model.

    Args:
        model: Its weights are read and restored in place.

    Raises:
        ValueError: a weight is not finite already.
    """

    def __init__(self, model: nn.Module) -> None:
        self._weights = {
            n: w for n, w in model.state_dict().items() if w.is_floating_point() and w.numel()
        }
        trained = {n for n, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
        self._trained = trained & self._weights.keys()
        self._copies = {name: weight.clone() for name, weight in self._weights.items()}
        bad = self.bad_weights()
        if bad:
            raise ValueError(f"wanted finite weights, got others in {', '.join(bad)}")

    @torch.no_grad()
    def norm(self) -> Tensor:
        """The norm of all weights that training changes: if finite, then all of them are."""
        return torch.nn.utils.get_total_norm([self._weights[name] for name in self._trained])

    def is_finite(self) -> bool:
        """Whether all weights that training changes are finite."""
        return math.isfinite(float(self.norm())) or not self.bad_weights()

    def bad_weights(self) -> list[str]:
        """Names of the weights that hold a NaN or an infinity."""
        return [name for name, w in self._weights.items() if not bool(w.isfinite().all())]

    @torch.no_grad()
    def keep(self) -> None:
        """Copy the weights that training changes; the others were copied once."""
        names = list(self._trained)
        torch._foreach_copy_([self._copies[n] for n in names], [self._weights[n] for n in names])

    @torch.no_grad()
    def restore(self) -> None:
        """Set all weights to the copy."""
        for name, copied in self._copies.items():
            self._weights[name].copy_(copied)


def find_bad_rows(is_bad: Callable[[list[int]], bool], num_rows: int) -> list[int]:
    """Rows of a batch that are bad by themselves, found by bisection; at most 8.

    Args:
        is_bad: Whether a batch of the given rows gives numbers that are not finite.
        num_rows: B.

    Returns:
        Ascending indices; none if several rows together cause it, or no row does.
    """
    bad: list[int] = []
    pending = [range(num_rows)]
    while pending and len(bad) < MAX_BAD_ROWS:
        rows = pending.pop()
        if not rows or not is_bad(list(rows)):
            continue
        if len(rows) == 1:
            bad += rows
        else:
            middle = len(rows) // 2
            pending += [rows[middle:], rows[:middle]]
    return bad


@contextlib.contextmanager
def not_finite_allowed() -> Iterator[list[ValueError]]:
    """Catch the errors of distributions about parameters that are not finite; ignore warnings.

    Yields:
        A list to which the error is appended, if there is one.

    Raises:
        ValueError: any other error.
    """
    errors: list[ValueError] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Encountered (NaN|\\+?-?inf)")
        try:
            yield errors
        except ValueError as error:
            if "found invalid values" not in str(error):
                raise
            errors.append(error)
