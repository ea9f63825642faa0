"""Time and memory of one exact step, compared with a Pyro program, a PyTorch step and a limit.

    python experiments/benchmarks/step.py --json
    python experiments/benchmarks/step.py --device cuda --precision bfloat16 --markdown

A step is the value and gradient of the objective on a batch of unlabelled rows. All models have the
same sizes: two bidirectional encoders and a decoder, E = H, no dropout. Lengths are uniform in
[T/2, T]. Times are medians of interleaved rounds (A B A B). Memory is the peak of a process that
runs one step, less the memory before; on a GPU, that of torch's allocator. All implementations have
the same precision: float32, TF32 products, or autocast to bfloat16.

* ours: `fused-enum`, LSTM (gru: the same with GRUs); sum: `sum-and-sample` with k = 1.
* pyro: `TraceEnum_ELBO`, `config_enumerate(guide, "parallel", expand=True)`, GRU; lstm: with LSTMs;
  seq: with "sequential".
* torch: the exact sum in plain PyTorch with `nn.LSTM` and full logits.
* limit: the floating-point operations of the exact gradient (input projections and encoders once,
  the decoder's recurrence and softmax K times on positions without padding; times 3 for forward
  and backward), at the speed of a matrix product (1024 by 1024, on a GPU 8192 by 8192) in that
  precision, measured in the same rounds.
"""

import argparse
import json
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyro
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments.benchmarks.baselines import Networks, PyroStep, TorchStep  # noqa: E402
from experiments.benchmarks.measure import (  # noqa: E402
    extra_megabytes,
    gpu_megabytes,
    interleaved_seconds,
    matmul_flops,
)
from seqssvae.cli.parser import Parser
from seqssvae.config import ModelConfig  # noqa: E402
from seqssvae.data.batches import Batch  # noqa: E402
from seqssvae.data.vocabulary import EOS, NUM_SPECIAL  # noqa: E402
from seqssvae.estimators import FusedEnum, SumAndSample  # noqa: E402
from seqssvae.model.build import build_model  # noqa: E402
from seqssvae.model.ssvae import SSVAE  # noqa: E402
from seqssvae.nn.precision import Precision, autocast, products  # noqa: E402

LATENT_SIZE = 32
NAMES = (
    "ours", "pyro", "torch", "sum_and_sample", "ours_gru", "pyro_lstm", "pyro_sequential",
)  # fmt: skip
WITH_MEMORY = ("ours", "pyro", "torch")  # whose memory is measured


class Setting(NamedTuple):
    """Sizes of a problem: V, K, B, T, H."""

    V: int
    K: int
    B: int
    T: int
    H: int


SETTINGS = {
    "cpu": (
        Setting(8000, 4, 32, 40, 256),
        Setting(8000, 20, 32, 40, 256),
        Setting(64, 6, 128, 12, 128),
        Setting(64, 6, 128, 60, 256),
        Setting(32000, 4, 32, 40, 512),
    ),
    "cuda": (
        Setting(8000, 4, 32, 40, 256),
        Setting(8000, 20, 32, 40, 256),
        Setting(64, 6, 128, 60, 256),
        Setting(32000, 4, 32, 40, 512),
        Setting(8000, 4, 256, 60, 512),
        Setting(8000, 20, 256, 60, 512),
    ),
}
CPU = torch.device("cpu")


def main() -> None:
    """Run the benchmark and print the results."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--settings", nargs="+", type=_setting, metavar="V,K,B,T,H", help="sizes of the problems"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--precision", choices=typing.get_args(Precision), default="float32", help="of all"
    )
    parser.add_argument("--repeats", type=int, default=0, metavar="N", help="rounds; 0: automatic")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--peak", choices=NAMES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    pyro.enable_validation(False)
    if arguments.peak:
        print(extra_megabytes(make_step(arguments.peak, arguments.settings[0])))
        return
    device = torch.device(arguments.device)
    card = torch.cuda.get_device_name() if device.type == "cuda" else None
    print(*header(arguments.markdown), sep="\n", flush=True)
    records = []
    with products(arguments.precision):
        for setting in arguments.settings or SETTINGS[device.type]:
            records.append(
                measure(setting, arguments.only, arguments.repeats, device, arguments.precision)
            )
            print(line(records[-1], arguments.markdown), flush=True)
    if card:
        print(f"{card}, {arguments.precision}")
    if arguments.json:
        about = {"threads": torch.get_num_threads(), "card": card, "precision": arguments.precision}
        print(json.dumps({**about, "settings": records}))


def measure(
    setting: Setting,
    names: tuple[str, ...],
    repeats: int,
    device: torch.device = CPU,
    precision: Precision = "float32",
) -> dict[str, Any]:
    """Seconds and megabytes of each implementation."""
    repeats = repeats or rounds(setting, device)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    product, operations = matmul_flops(device, dtype)
    steps: dict[str, Callable[[], object]] = {
        name: make_step(name, setting, device, precision) for name in names
    }
    steps["matmul"] = lambda: [product() for _ in range(8)]
    seconds = interleaved_seconds(steps, repeats)
    rate = 8 * operations / seconds.pop("matmul")
    record: dict[str, Any] = setting._asdict()
    record |= {f"{name}_s": value for name, value in seconds.items()}
    record |= {"limit_s": flops(setting) / rate, "gflops": rate / 1e9, "rounds": repeats}
    for name in WITH_MEMORY:
        if name in names:
            is_gpu = device.type == "cuda"
            megabytes = gpu_megabytes(steps[name]) if is_gpu else peak(name, setting)
            record[f"{name}_mb"] = megabytes
    return record


def make_step(
    name: str, setting: Setting, device: torch.device = CPU, precision: Precision = "float32"
) -> Callable[[], object]:
    """A function that computes the gradients of one step, and leaves none behind."""
    torch.manual_seed(0)
    batch = make_batch(setting).to(device)
    model, loss = _make_loss(name, setting, batch)
    model.to(device)

    def step() -> None:
        with autocast(precision, device):
            value = loss()
        value.backward()
        model.zero_grad(set_to_none=True)

    return step


def _make_loss(
    name: str, setting: Setting, batch: Batch
) -> tuple[nn.Module, Callable[[], torch.Tensor]]:
    """An implementation's weights, on the CPU, and its loss of a batch."""
    if name.startswith(("ours", "sum")):
        model = make_model(setting, "gru" if name.endswith("gru") else "lstm")
        elbo = SumAndSample(k=1) if name.startswith("sum") else FusedEnum()
        return model, lambda: elbo.differentiable_loss(model.model, model.guide, batch)
    cell = "lstm" if name in ("torch", "pyro_lstm") else "gru"
    networks = Networks(
        cell=cell,
        vocabulary_size=setting.V,
        num_classes=setting.K,
        size=setting.H,
        latent_size=LATENT_SIZE,
    )
    strategy = "sequential" if name.endswith("sequential") else "parallel"
    baseline = TorchStep(networks) if name == "torch" else PyroStep(networks, strategy)
    return networks, lambda: baseline.loss(batch.x, batch.lengths)


def make_model(setting: Setting, cell: str) -> SSVAE:
    """Our model, without the parts that the baselines do not have."""
    config = ModelConfig(
        cell="gru" if cell == "gru" else "lstm",
        embedding_size=setting.H,
        encoder_size=setting.H,
        decoder_size=setting.H,
        latent_size=LATENT_SIZE,
        pooling="last",
        dropout=0.0,
        encoder_word_dropout=0.0,
        feed_y=False,
        feed_z=False,
        class_bias=False,
        ngram_buckets=0,
        decoder_ngrams=0,
    )
    return build_model(config, vocabulary_size=setting.V, num_classes=setting.K)


def make_batch(setting: Setting) -> Batch:
    """Unlabelled rows of random symbols; the longest has T symbols."""
    generator = torch.Generator().manual_seed(0)
    size, longest = setting.B, setting.T
    lengths = torch.randint(longest // 2, longest + 1, (size,), generator=generator)
    lengths[0] = longest
    x = torch.randint(NUM_SPECIAL, setting.V, (size, longest), generator=generator)
    x = x.masked_fill(torch.arange(longest) >= lengths.unsqueeze(1), 0)
    x[torch.arange(size), lengths - 1] = EOS
    return Batch(x=x, lengths=lengths, y=torch.full((size,), -1))


def flops(setting: Setting) -> float:
    """Number of floating-point operations of the exact gradient, with LSTMs."""
    symbols = int(make_batch(setting).lengths.sum())
    gates = 2.0 * 4 * setting.H**2  # one product with the weights of four gates
    encoders = 2 * 2 * (gates + gates)  # input and recurrence, two directions, two encoders
    decoder = gates + setting.K * (gates + 2.0 * setting.H * setting.V)
    return 3 * symbols * (encoders + decoder)


def rounds(setting: Setting, device: torch.device) -> int:
    """Number of rounds that takes some tens of seconds."""
    if device.type == "cuda":
        return 15
    logits = setting.K * setting.B * setting.T * setting.V * setting.H
    return max(3, min(15, int(2e11 / logits)))


def peak(name: str, setting: Setting) -> float:
    """Peak megabytes of a step, measured in a new process."""
    words = [sys.executable, __file__, "--peak", name, "--settings", ",".join(map(str, setting))]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", check=True)
    return float(done.stdout)


COLUMNS = {
    "ours_s": "ours", "ours_gru_s": "gru", "sum_and_sample_s": "sum", "pyro_s": "pyro",
    "pyro_lstm_s": "lstm", "pyro_sequential_s": "seq", "torch_s": "torch", "limit_s": "limit",
    "ours_mb": "ours MB", "pyro_mb": "pyro MB", "torch_mb": "torch MB",
}  # fmt: skip


def header(markdown: bool) -> list[str]:
    """The names of the columns; times are in seconds."""
    names = ["V, K, B, T, H", *COLUMNS.values()]
    if markdown:
        return [f"| {' | '.join(names)} |", f"| --- |{' --: |' * len(COLUMNS)}"]
    return [f"{names[0]:>22s} " + " ".join(f"{name:>8s}" for name in names[1:])]


def line(record: dict[str, Any], markdown: bool) -> str:
    """The table row of one setting."""
    sizes = ", ".join(str(record[key]) for key in Setting._fields)
    cells = [
        "" if key not in record else f"{record[key]:.0f}" if key.endswith("mb") else
        f"{record[key]:.3f}"
        for key in COLUMNS
    ]  # fmt: skip
    if markdown:
        return f"| {' | '.join([sizes, *cells])} |"
    return f"{sizes:>22s} " + " ".join(f"{cell:>8s}" for cell in cells)


def _setting(text: str) -> Setting:
    try:
        return Setting(*map(int, text.split(",")))
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"wanted V,K,B,T,H, got {text}") from error


if __name__ == "__main__":
    main()
