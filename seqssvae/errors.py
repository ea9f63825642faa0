"""What ends a command before its time: a user's mistake, a signal, numbers that are not finite."""

import numbers
import signal


class InputError(ValueError):
    """A user's mistake, in one line: where, what was wanted, what was got.

    The command line prints it on stderr and exits with 2; everything else is a bug of ours.

    Example:
        >>> try:
        ...     seqssvae.load("nowhere")
        ... except seqssvae.InputError as error:
        ...     print(error)
        nowhere: wanted the folder of a run, got no such folder
    """


class Interrupted(KeyboardInterrupt):
    """A signal; what training had reached is saved.

    Args:
        number: Number of the signal.
        message: What was saved, in a line; may be empty.

    Attributes:
        status: Exit status, 128 plus the number of the signal: 143 or 130.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__("; ".join(filter(None, (signal.Signals(number).name, message))))
        self.status = 128 + number


class Diverged(ArithmeticError):
    """Training ended because its numbers were not finite; what was finite is saved."""


class RankLost(RuntimeError):
    """Another rank is gone, or did not answer for too long."""


class WriterFailed(RuntimeError):
    """Rank 0 failed; it reports its error itself."""


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Make sure that an argument is a whole number in a range.

    Raises:
        InputError: it is not.
    """
    wanted = "a whole number"
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        if low <= int(value) <= high:
            return
        wanted = f"at least {low}" if int(value) < low else f"at most {high:,}"
    raise InputError(f"{name}: wanted {wanted}, got {value!r:.40}")


def check_share(name: str, value: object) -> None:
    """Make sure that an argument is a number above 0 and below 1.

    Raises:
        InputError: it is not.
    """
    if not (isinstance(value, numbers.Real) and 0 < float(value) < 1):
        raise InputError(f"{name}: wanted a number above 0 and below 1, got {value!r:.40}")
