"""Gradient variance, bias and time per step of every estimator, for several numbers of classes.

    python experiments/estimator_variance.py --out runs/estimators

For each K, a model with random weights and a batch of unlabelled rows of random symbols; once with
q(y | x) nearly uniform, as at the start of training, and once sharpened, as late in training. Every
gradient has new noise of z, as in training. The estimators run in turn, so that other load on the
machine affects all of them equally. Prints a table; writes `table.json` and `variance.png`.

* variance: trace of the gradient's covariance over the squared norm of the exact mean gradient.
* bias: distance between the mean gradient and the exact mean gradient, over the norm of the latter;
  and the distance expected from sampling noise alone.
* time: median time of one value and gradient, relative to `fused-enum`.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from seqssvae.cli.parser import Parser
from seqssvae.config import EstimatorConfig, ModelConfig, ObjectiveConfig
from seqssvae.data.batches import Batch
from seqssvae.data.vocabulary import EOS, NUM_SPECIAL
from seqssvae.estimators import Estimator, build_estimator
from seqssvae.model.build import build_model
from seqssvae.model.ssvae import SSVAE

ESTIMATORS = {
    "fused-enum": EstimatorConfig("fused-enum"),
    "trace-enum": EstimatorConfig("trace-enum"),
    "trace-enum-sequential": EstimatorConfig("trace-enum-sequential"),
    "sum-and-sample k=1": EstimatorConfig("sum-and-sample", k=1),
    "sum-and-sample k=3": EstimatorConfig("sum-and-sample", k=3),
    "sum-and-sample k=1, 3 samples": EstimatorConfig("sum-and-sample", k=1, num_samples=3),
    "score-function, none": EstimatorConfig("score-function", baseline="none"),
    "score-function, running mean": EstimatorConfig("score-function", baseline="running-mean"),
    "score-function, learned": EstimatorConfig("score-function", baseline="learned"),
    "score-function, leave-one-out": EstimatorConfig(
        "score-function", baseline="leave-one-out", num_particles=2
    ),
    "gumbel-softmax 1.0": EstimatorConfig("gumbel-softmax", temperature=1.0),
    "gumbel-softmax 0.3": EstimatorConfig("gumbel-softmax", temperature=0.3),
    "straight-through 1.0": EstimatorConfig("straight-through", temperature=1.0),
    "straight-through 0.3": EstimatorConfig("straight-through", temperature=0.3),
}
REFERENCE = "fused-enum"


@dataclasses.dataclass(frozen=True)
class Row:
    """Results of one estimator at one setting; see the module's docstring."""

    num_classes: int
    posterior: str
    estimator: str
    variance: float
    bias: float
    bias_by_chance: float
    time: float
    seconds: float


def main() -> None:
    """Measure, print and plot."""
    parser = Parser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[4, 20, 200])
    parser.add_argument("--draws", type=int, default=40, help="gradients per estimator")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--symbols", type=int, default=30)
    parser.add_argument("--size", type=int, default=64, help="units of each RNN")
    parser.add_argument("--out", type=Path, default=Path("runs/estimators"))
    arguments = parser.parse_args()
    rows = []
    print(
        f"{'K':>4s} {'q(y|x)':>8s}  {'estimator':30s} {'variance':>9s} {'bias':>7s} (chance)   time"
    )
    for num_classes in arguments.classes:
        for posterior, sharpness in (("flat", 1.0), ("sharp", 30.0)):
            torch.manual_seed(0)
            model = make_model(num_classes, arguments.symbols, arguments.size, sharpness)
            batch = make_batch(arguments.rows, arguments.length, arguments.symbols)
            for row in measure(model, batch, posterior, arguments.draws):
                print(
                    f"{row.num_classes:4d} {row.posterior:>8s}  {row.estimator:30s} "
                    f"{row.variance:9.3g} {row.bias:7.3f} ({row.bias_by_chance:.3f})  "
                    f"{row.time:7.2f}",
                    flush=True,
                )
                rows.append(row)
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = {"command": sys.argv, "rows": [dataclasses.asdict(row) for row in rows]}
    (arguments.out / "table.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    plot(rows, arguments.out / "variance.png")
    print(f"written to {arguments.out}")


def make_model(num_classes: int, num_symbols: int, size: int, sharpness: float) -> SSVAE:
    """A model with random weights whose logits of y are multiplied by `sharpness`."""
    settings = ModelConfig(
        embedding_size=size // 2,
        encoder_size=size,
        decoder_size=size,
        latent_size=8,
        ngram_buckets=0,
    )
    model = build_model(
        settings, vocabulary_size=num_symbols + NUM_SPECIAL, num_classes=num_classes
    )
    assert model.head_y is not None
    with torch.no_grad():
        model.head_y.features.weight.mul_(sharpness)
    return model.eval()


def make_batch(num_rows: int, length: int, num_symbols: int) -> Batch:
    """Unlabelled rows of random symbols, of lengths from `length // 2` to `length`."""
    lengths = torch.randint(length // 2, length + 1, (num_rows,))
    x = torch.randint(NUM_SPECIAL, NUM_SPECIAL + num_symbols, (num_rows, length))
    x[torch.arange(num_rows), lengths - 1] = EOS
    return Batch(x=x, lengths=lengths, y=torch.full((num_rows,), -1))


def measure(model: SSVAE, batch: Batch, posterior: str, num_draws: int) -> list[Row]:
    """Compute gradients of all estimators in turn and summarise them."""
    estimators = {name: build_estimator(c, ObjectiveConfig()) for name, c in ESTIMATORS.items()}
    gradients: dict[str, list[Tensor]] = {name: [] for name in estimators}
    seconds: dict[str, list[float]] = {name: [] for name in estimators}
    for draw in range(num_draws + 1):
        for name, elbo in estimators.items():
            torch.manual_seed(draw)
            start = time.perf_counter()
            gradient = gradient_of(elbo, model, batch)
            if draw:  # the first round is a warm-up
                seconds[name].append(time.perf_counter() - start)
                gradients[name].append(gradient)
    exact = torch.stack(gradients[REFERENCE])
    norm = exact.mean(0).norm()
    unit = torch.tensor(seconds[REFERENCE]).median()
    rows = []
    for name in estimators:
        stacked = torch.stack(gradients[name])
        variance = stacked.var(0).sum()
        chance = ((variance + exact.var(0).sum()) / num_draws).sqrt()
        rows.append(
            Row(
                num_classes=model.num_classes,
                posterior=posterior,
                estimator=name,
                variance=float(variance / norm**2),
                bias=float((stacked.mean(0) - exact.mean(0)).norm() / norm),
                bias_by_chance=float(chance / norm),
                time=float(torch.tensor(seconds[name]).median() / unit),
                seconds=float(torch.tensor(seconds[name]).median()),
            )
        )
    return rows


def gradient_of(elbo: Estimator, model: SSVAE, batch: Batch) -> Tensor:
    """The gradient of the loss with respect to all parameters, as one vector."""
    model.zero_grad(set_to_none=True)
    elbo.differentiable_loss(model.model, model.guide, batch).backward()
    return torch.cat(
        [
            (torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1)
            for p in model.parameters()
        ]
    )


def plot(rows: list[Row], path: Path) -> None:
    """Plot variance against time, one panel for each K and posterior."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    settings = list(dict.fromkeys((row.num_classes, row.posterior) for row in rows))
    figure, axes = pyplot.subplots(
        2, -(-len(settings) // 2), figsize=(12, 7), squeeze=False, layout="constrained"
    )
    colours = pyplot.get_cmap("tab20")
    for axis, setting in zip(axes.T.flat, settings, strict=False):
        inside = [row for row in rows if (row.num_classes, row.posterior) == setting]
        for number, row in enumerate(inside):
            axis.scatter(row.time, row.variance, color=colours(number), label=row.estimator)
        axis.set(xscale="log", yscale="log", title=f"K = {setting[0]}, q(y|x) {setting[1]}")
        axis.set(xlabel="time of a step, fused-enum = 1", ylabel="relative gradient variance")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
