"""Steps whose numbers are not finite: the weights before them, and the rows that did it."""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import nn

MOST_CULPRITS = 8  # that are looked for; with broken networks it would be all rows


class LastGood:
    """A copy of a model's weights from when they were last known to be finite.

    Args:
        model: Its weights are looked at in place.

    Raises:
        ValueError: a weight is not finite already.
    """

    def __init__(self, model: nn.Module) -> None:
        weights = {
            n: w for n, w in model.state_dict().items() if w.is_floating_point() and w.numel()
        }
        moving = {n for n, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
        self._weights = weights
        self._moving = [n for n in weights if n in moving]
        self._copies = {name: weight.clone() for name, weight in weights.items()}
        bad = self.bad_weights()
        if bad:
            raise ValueError(f"wanted finite weights, got others in {', '.join(bad)}")

    @torch.no_grad()
    def is_finite(self) -> bool:
        """Whether all weights are finite."""
        # a sum is the cheapest look at each number; one that is finite has only finite terms
        total = torch.stack([weight.sum() for weight in self._weights.values()]).sum()
        return math.isfinite(float(total)) or not self.bad_weights()

    def bad_weights(self) -> list[str]:
        """Names of the weights that hold a NaN or an infinity."""
        return [name for name, w in self._weights.items() if not bool(w.isfinite().all())]

    @torch.no_grad()
    def keep(self) -> None:
        """Copy the weights as they are; those that training leaves alone were copied once."""
        for name in self._moving:
            self._copies[name].copy_(self._weights[name])

    @torch.no_grad()
    def restore(self) -> None:
        """Put all weights back to what they were."""
        for name, copied in self._copies.items():
            self._weights[name].copy_(copied)


def find_culprits(is_bad: Callable[[list[int]], bool], num_rows: int) -> list[int]:
    """Rows of a batch each of which is bad by itself, found by halving; at most 8.

    Args:
        is_bad: Whether some of the rows, taken for a batch, give numbers that are not finite.
        num_rows: B.

    Returns:
        Ascending indices; none if it takes several rows together, or no row at all.
    """
    found: list[int] = []
    parts = [list(range(num_rows))]
    while parts and len(found) < MOST_CULPRITS:
        part = parts.pop()
        if not part or not is_bad(part):
            continue
        if len(part) == 1:
            found += part
        else:
            middle = len(part) // 2
            parts += [part[middle:], part[:middle]]
    return sorted(found)


@contextlib.contextmanager
def not_finite_allowed() -> Iterator[list[ValueError]]:
    """Within it, distributions may refuse parameters that are not finite; the refusal is noted.

    Pyro's warnings of a NaN are left out: whoever uses this looks at the numbers.

    Yields:
        A list that holds the refusal, if there was one.

    Raises:
        ValueError: any other one.
    """
    refusals: list[ValueError] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Encountered (NaN|\\+?-?inf)")
        try:
            yield refusals
        except ValueError as error:
            if "found invalid values" not in str(error):
                raise
            refusals.append(error)
