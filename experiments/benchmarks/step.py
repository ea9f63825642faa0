"""The time and memory of one exact step beside a Pyro program, a PyTorch step and the arithmetic.

    python experiments/benchmarks/step.py --json

A step is the value and gradient of the objective on a batch of unlabelled rows. All models have the
same sizes: two encoders of two directions and a decoder, E = H, no dropout. Lengths are uniform in
[T/2, T]. Contestants run in turn, A B A B, and medians are shown; memory is the peak of a process
that runs one step, less what it held before.

* ours: `fused-enum`, LSTM (gru: the same with GRUs); sum: `sum-and-sample` with k = 1.
* forum: Pyro, `TraceEnum_ELBO`, `config_enumerate(guide, "parallel", expand=True)`, GRU; lstm: with
  LSTMs; seq: with "sequential".
* torch: the sum by hand with `nn.LSTM`, full logits, no Pyro.
* limit: the operations that the exact gradient needs (input projections and encoders once,
  the decoder's recurrence and softmax K times on positions that are no padding; times 3 for
  forward and backward), at the speed of a 1024 by 1024 product measured in the same rounds.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyro
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments.benchmarks.measure import (  # noqa: E402
    extra_megabytes,
    matmul_flops,
    seconds_in_turn,
)
from experiments.benchmarks.rivals import ForumProgram, Networks, PlainStep  # noqa: E402
from seqssvae.config import ModelConfig  # noqa: E402
from seqssvae.data.batches import Batch  # noqa: E402
from seqssvae.data.vocabulary import EOS, NUM_SPECIAL  # noqa: E402
from seqssvae.estimators import FusedEnum, SumAndSample  # noqa: E402
from seqssvae.model.build import build_model  # noqa: E402
from seqssvae.model.ssvae import SSVAE  # noqa: E402

LATENT_SIZE = 32
NAMES = (
    "ours", "forum", "torch", "sum_and_sample", "ours_gru", "forum_lstm", "forum_sequential",
)  # fmt: skip
REMEMBERED = ("ours", "forum", "torch")  # whose memory is measured


class Setting(NamedTuple):
    """Sizes of a problem: V, K, B, T, H."""

    V: int
    K: int
    B: int
    T: int
    H: int


SETTINGS = (
    Setting(8000, 4, 32, 40, 256),
    Setting(8000, 20, 32, 40, 256),
    Setting(64, 6, 128, 12, 128),
    Setting(64, 6, 128, 60, 256),
    Setting(32000, 4, 32, 40, 512),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--settings", nargs="+", type=_setting, default=SETTINGS, metavar="V,K,B,T,H"
    )
    parser.add_argument("--repeats", type=int, default=0, metavar="N", help="rounds (0: by size)")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--peak", choices=NAMES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    pyro.enable_validation(False)
    if arguments.peak:
        print(extra_megabytes(contestant(arguments.peak, arguments.settings[0])))
        return
    print(*header(arguments.markdown), sep="\n", flush=True)
    found = []
    for setting in arguments.settings:
        found.append(measure(setting, arguments.only, arguments.repeats))
        print(line(found[-1], arguments.markdown), flush=True)
    if arguments.json:
        print(json.dumps({"threads": torch.get_num_threads(), "settings": found}))


def measure(setting: Setting, names: tuple[str, ...], repeats: int) -> dict[str, Any]:
    """Seconds and megabytes of the contestants."""
    repeats = repeats or rounds(setting)
    product, operations = matmul_flops()
    runs: dict[str, Callable[[], object]] = {name: contestant(name, setting) for name in names}
    seconds = seconds_in_turn({"matmul": lambda: [product() for _ in range(8)], **runs}, repeats)
    rate = 8 * operations / seconds.pop("matmul")
    record: dict[str, Any] = setting._asdict()
    record |= {f"{name}_s": value for name, value in seconds.items()}
    record |= {"limit_s": flops(setting) / rate, "gflops": rate / 1e9, "rounds": repeats}
    for name in REMEMBERED:
        if name in names:
            record[f"{name}_mb"] = peak(name, setting)
    return record


def contestant(name: str, setting: Setting) -> Callable[[], object]:
    """A step that leaves gradients in its own parameters."""
    torch.manual_seed(0)
    batch = make_batch(setting)
    if name.startswith(("ours", "sum")):
        model = make_model(setting, "gru" if name.endswith("gru") else "lstm")
        elbo = SumAndSample(k=1) if name.startswith("sum") else FusedEnum()

        def step() -> None:
            model.zero_grad(set_to_none=True)
            elbo.differentiable_loss(model.model, model.guide, batch).backward()

        return step
    cell = "lstm" if name in ("torch", "forum_lstm") else "gru"
    networks = Networks(
        cell=cell,
        vocabulary_size=setting.V,
        num_classes=setting.K,
        size=setting.H,
        latent_size=LATENT_SIZE,
    )
    strategy = "sequential" if name.endswith("sequential") else "parallel"
    rival = PlainStep(networks) if name == "torch" else ForumProgram(networks, strategy)

    def rival_step() -> None:
        networks.zero_grad(set_to_none=True)
        rival.loss(batch.x, batch.lengths).backward()

    return rival_step


def make_model(setting: Setting, cell: str) -> SSVAE:
    """Our model, without what the rivals do not have."""
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
    )
    return build_model(config, vocabulary_size=setting.V, num_classes=setting.K)


def make_batch(setting: Setting) -> Batch:
    """Unlabelled rows of random symbols; the longest has T."""
    generator = torch.Generator().manual_seed(0)
    size, longest = setting.B, setting.T
    lengths = torch.randint(longest // 2, longest + 1, (size,), generator=generator)
    lengths[0] = longest
    x = torch.randint(NUM_SPECIAL, setting.V, (size, longest), generator=generator)
    x = x.masked_fill(torch.arange(longest) >= lengths.unsqueeze(1), 0)
    x[torch.arange(size), lengths - 1] = EOS
    return Batch(x=x, lengths=lengths, y=torch.full((size,), -1))


def flops(setting: Setting) -> float:
    """Floating-point operations of the exact gradient, with LSTMs."""
    symbols = int(make_batch(setting).lengths.sum())
    gates = 2.0 * 4 * setting.H**2  # of one product with a weight of four gates
    encoders = 2 * 2 * (gates + gates)  # input and recurrence, two directions, two encoders
    decoder = gates + setting.K * (gates + 2.0 * setting.H * setting.V)
    return 3 * symbols * (encoders + decoder)


def rounds(setting: Setting) -> int:
    """As many as some tens of seconds hold."""
    logits = setting.K * setting.B * setting.T * setting.V * setting.H
    return max(3, min(15, int(2e11 / logits)))


def peak(name: str, setting: Setting) -> float:
    """Megabytes, from a process of its own."""
    words = [sys.executable, __file__, "--peak", name, "--settings", ",".join(map(str, setting))]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", check=True)
    return float(done.stdout)


COLUMNS = {
    "ours_s": "ours", "ours_gru_s": "gru", "sum_and_sample_s": "sum", "forum_s": "forum",
    "forum_lstm_s": "lstm", "forum_sequential_s": "seq", "torch_s": "torch", "limit_s": "limit",
    "ours_mb": "ours MB", "forum_mb": "forum MB", "torch_mb": "torch MB",
}  # fmt: skip


def header(markdown: bool) -> list[str]:
    """The names of the columns; seconds but for MB."""
    names = ["V, K, B, T, H", *COLUMNS.values()]
    if markdown:
        return [f"| {' | '.join(names)} |", f"| --- |{' --: |' * len(COLUMNS)}"]
    return [f"{names[0]:>22s} " + " ".join(f"{name:>8s}" for name in names[1:])]


def line(record: dict[str, Any], markdown: bool) -> str:
    """One setting."""
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
