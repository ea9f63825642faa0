"""How many sequences a second `generate` writes, beside the same network in plain PyTorch.

    seqssvae train --data molecules.jsonl --data.unlabelled_only true --out runs/molecules
    python experiments/benchmarks/generate.py runs/molecules -n 100000 --threads 2

`plain` is a loop over `nn.LSTM` or `nn.GRU` with the weights of the run's decoder, a softmax and
`torch.multinomial`, for `--batch` rows at once until all of them have ended; `dropping` leaves out
rows that have ended. Neither has the decoder's n-grams, which `ours` has. All write as many
sequences in turn, `--repeats` times, as text; the table has the medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

import seqssvae
from seqssvae.data.vocabulary import BOS, EOS, PAD, UNK
from seqssvae.nn.recurrent_decoder import RecurrentDecoder


@torch.no_grad()
def write_plain(
    decoder: RecurrentDecoder, num: int, longest: int, *, drops: bool
) -> list[list[int]]:
    """Sample from the recurrent network, as one would without this package."""
    z = torch.randn(num, decoder.latent_size)
    states = decoder.initial_state(z, None)
    fed = decoder.context(z, None)
    symbol, rows = torch.full((num,), BOS), torch.arange(num)
    written, is_open = torch.full((num, longest), EOS), torch.ones(num, dtype=torch.bool)
    for step in range(longest):
        inputs = decoder.embedding(symbol)
        inputs = (inputs if fed is None else torch.cat([inputs, fed], 1)).unsqueeze(0)
        hidden, states = decoder.rnn(inputs, states if len(states) > 1 else states[0])
        states = states if isinstance(states, tuple) else (states,)
        logits = decoder.output(hidden[0])
        logits[:, [PAD, UNK, BOS]] = -torch.inf
        symbol = torch.multinomial(logits.softmax(-1), 1).squeeze(1)
        written[rows, step] = symbol
        is_open = is_open & (symbol != EOS)
        if not is_open.any():
            break
        if drops:
            kept = is_open.nonzero().squeeze(1)
            rows, symbol, is_open = rows[kept], symbol[kept], is_open[kept]
            states = tuple(state[:, kept] for state in states)
            fed = None if fed is None else fed[kept]
    return [row[: row.index(EOS)] if EOS in row else row for row in written.tolist()]


def main(argv: Sequence[str] | None = None) -> None:
    """Time all of them and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run of unlabelled rows")
    parser.add_argument("-n", type=int, default=100_000, help="sequences")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4096, help="rows of the plain loop at once")
    parser.add_argument("--longest", type=int, default=128, help="symbols at most")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    trained = seqssvae.load(arguments.run, "cpu")
    decoder, n = trained.model.decoder, arguments.n
    if not isinstance(decoder, RecurrentDecoder) or decoder.num_classes:
        parser.error(f"{arguments.run}: wanted a run of the recurrent decoder without labels")

    def plain(drops: bool) -> int:
        sizes = [min(arguments.batch, n - start) for start in range(0, n, arguments.batch)]
        paths = (
            path
            for size in sizes
            for path in write_plain(decoder, size, arguments.longest, drops=drops)
        )
        return len([trained.vocabulary.decode(path) for path in paths])

    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: trained.generate(n=n, seed=0, max_length=arguments.longest),
        "plain": lambda: plain(False),
        "dropping": lambda: plain(True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, write in ways.items():
            start = time.perf_counter()
            write()
            seconds[name].append(time.perf_counter() - start)
    print("| | seconds | sequences a second | times as long as ours |")
    print("| --- | --: | --: | --: |")
    ours = statistics.median(seconds["ours"])
    for name, of_way in seconds.items():
        median = statistics.median(of_way)
        print(f"| {name} | {median:.1f} | {n / median:,.0f} | {median / ours:.2f} |")


if __name__ == "__main__":
    main()
