"""Schedules: KL weight and learning rate as functions of the step alone."""

import math

SIGMOID_SPAN = 12.0  # the logistic function is read from -6 to 6


def kl_weight(step: int, *, schedule: str, final: float, warmup_steps: int, cycles: int) -> float:
    """The factor of KL(q(z | x, y) || p(z)) in the objective of a step.

    All but "constant" begin with 0, never exceed `final`, and are `final` from `warmup_steps` on.

    Args:
        step: Steps done before this one; the first step is 0.
        schedule: "constant"; "linear"; "sigmoid", an S from 0 to `final` (Bowman et al. 2016);
            "cyclical", which rises `cycles` times, each time linearly over the first half of the
            cycle, and stays for the second (Fu et al. 2019, eq. 6 and 7 with R = 0.5).
        final: Last value.
        warmup_steps: Length of the rise, or of all cycles together; 0 for no warm-up.
        cycles: Number of cycles of "cyclical", at least 1.

    Returns:
        A number from 0 to `final`.

    Raises:
        ValueError: an unknown schedule.
    """
    done = step / warmup_steps if step < warmup_steps else 1.0
    match schedule:
        case "constant":
            return final
        case "linear":
            return final * done
        case "sigmoid":
            lowest, highest = _logistic(0.0), _logistic(1.0)
            return final * (_logistic(done) - lowest) / (highest - lowest)
        case "cyclical":
            if step >= warmup_steps:
                return final
            within_cycle = step * cycles % warmup_steps / warmup_steps  # from 0 to 1
            return final * min(1.0, 2.0 * within_cycle)
    raise ValueError(f"schedule: wanted constant, linear, sigmoid or cyclical, got {schedule}")


def learning_rate(step: int, *, start: float, final_share: float, steps: int) -> float:
    """The learning rate, falling linearly from `start` to `final_share * start`.

    Args:
        step: Steps done before this one; the first step is 0.
        start: The rate of step 0.
        final_share: Share of it that is left from step `steps` on; 1 for a constant rate.
        steps: How long the fall takes; 0 for none.
    """
    done = step / steps if step < steps else 1.0
    return start * (1 - done * (1 - final_share))


def _logistic(done: float) -> float:
    return 1.0 / (1.0 + math.exp(-SIGMOID_SPAN * (done - 0.5)))
