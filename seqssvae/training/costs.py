"""What a training step will take, told before training begins; `--estimator auto` goes by it.

Operations are counted, and divided by the speed of a matrix product on this machine. Measured
steps take one and a half to three times as long: the count is for comparing estimators and for
seeing in time that a setting is out of reach.
"""

import dataclasses
import time

import torch

from seqssvae.config import Config, EstimatorName, ModelConfig
from seqssvae.model.likelihood import CHUNK_ELEMENTS

__all__ = [
    "Cost",
    "available_megabytes",
    "cheapest_exact_or_sampled",
    "describe",
    "estimate",
    "flops_per_second",
]

BYTES = 4
GATES = {"lstm": 4, "gru": 3}
LARGEST_EXACT_SECONDS = 2.0  # an exact step longer than this makes "auto" sample


@dataclasses.dataclass(frozen=True)
class Cost:
    """One estimator's step.

    Attributes:
        estimator: Its name.
        decoder_rows: Rows of the expanded batch that the decoder sees at once.
        flops: Floating-point operations, forward and backward.
        seconds: Those at the speed of a matrix product.
        megabytes: Activations and logits at once, besides weights.
    """

    estimator: str
    decoder_rows: int
    flops: float
    seconds: float
    megabytes: float


def flops_per_second() -> float:
    """The speed of a matrix product of middling size on this machine, measured in 0.1 s."""
    a, b = torch.randn(256, 512), torch.randn(512, 1024)
    a @ b
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < 0.1:
        a @ b
        count += 1
    return 2 * a.shape[0] * a.shape[1] * b.shape[1] * count / (time.perf_counter() - start)


def estimate(
    config: Config,
    *,
    num_classes: int,
    vocabulary_size: int,
    mean_length: float,
    num_labelled: int,
    num_unlabelled: int,
    speed: float,
) -> list[Cost]:
    """What a step with each estimator takes.

    Args:
        config: The settings; sizes of the networks and of the batches.
        num_classes: K.
        vocabulary_size: V.
        mean_length: Symbols of a row, EOS included.
        num_labelled: Labelled rows there are; 0 means none in a batch.
        num_unlabelled: Unlabelled rows there are.
        speed: Operations a second, as of `flops_per_second`.
    """
    model, training = config.model, config.training
    labelled = training.labelled_batch_size * (num_labelled > 0)
    unlabelled = training.unlabelled_batch_size * (num_unlabelled > 0)
    k = max(num_classes, 1)
    sampled = min(k, config.estimator.k + config.estimator.num_samples)
    gates = GATES[model.cell]
    encoding, encoder_kept = _encode(model, num_classes, (labelled + unlabelled) * mean_length)
    size = model.decoder_size
    recurrence = 6.0 * model.decoder_layers * gates * size * size
    found = []
    for name, rows, passes, calls in (
        ("trace-enum", labelled + k * unlabelled, 4, 1),
        ("trace-enum-sequential", labelled + k * unlabelled, 4, k),
        ("fused-enum", labelled + k * unlabelled, 3, 1),
        ("sum-and-sample", labelled + sampled * unlabelled, 3, 1),
        ("score-function", labelled + unlabelled, 3, 1),
        ("gumbel-softmax", labelled + unlabelled, 3, 1),
        ("straight-through", labelled + unlabelled, 3, 1),
    ):
        rows *= config.estimator.num_particles
        symbols = rows * mean_length
        flops = encoding + symbols * (recurrence + 2 * passes * size * vocabulary_size)
        kept = symbols / calls * model.decoder_layers * (gates + 5) * size
        logits = min(CHUNK_ELEMENTS, symbols * vocabulary_size)
        weights = 3 * vocabulary_size * size
        found.append(
            Cost(
                estimator=name,
                decoder_rows=int(rows / calls),
                flops=flops,
                seconds=flops / speed,
                megabytes=BYTES * (kept + logits + weights + encoder_kept) / 1e6,
            )
        )
    return found


def _encode(model: ModelConfig, num_classes: int, symbols: float) -> tuple[float, float]:
    """Operations that encoding so many symbols takes, forward and backward, and numbers kept."""
    encoders = 1 if model.shared_encoder or not num_classes else 2
    loops = encoders * (2 if model.bidirectional else 1)
    gates, size = GATES[model.cell], model.encoder_size
    products = model.encoder_layers * gates * size * (size + model.embedding_size)
    return 6 * symbols * loops * products, symbols * loops * (gates + 4) * size


def cheapest_exact_or_sampled(costs: list[Cost], available_megabytes: float) -> EstimatorName:
    """What `--estimator auto` takes.

    "fused-enum", unless a step would not fit in half of the memory or would take longer than
    2 seconds; then "sum-and-sample".
    """
    exact = next(cost for cost in costs if cost.estimator == "fused-enum")
    fits = exact.megabytes < available_megabytes / 2
    return "fused-enum" if fits and exact.seconds <= LARGEST_EXACT_SECONDS else "sum-and-sample"


def describe(costs: list[Cost], chosen: str) -> str:
    """The costs in one line, the chosen estimator first."""
    shown = [cost for cost in costs if cost.estimator == chosen]
    shown += [cost for cost in costs if cost.estimator in ("fused-enum", "sum-and-sample")]
    parts = []
    for cost in dict.fromkeys(shown):
        parts.append(
            f"{cost.estimator} {cost.decoder_rows} decoder rows, at least "
            f"{cost.seconds:.2g} s and {cost.megabytes:.0f} MB a step"
        )
    return "; ".join(parts)


def available_megabytes() -> float:
    """Memory that this machine can still give; 4 GB where it does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable"):
                    return int(line.split()[1]) / 1e3
    except OSError:
        pass
    return 4e3
