"""Does a Transformer model sequences better than the recurrent decoder of as many weights?

    python experiments/decoders.py words.jsonl molecules.jsonl --training.num_steps 300

Both are trained alike on each file, with and without the decoder's n-grams; the Transformer is that
of `docs/examples`, with two layers. The NLL is an importance-weighted estimate (Burda et al. 2016)
on the held-out rows.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from seqssvae.cli.parser import Parser
from seqssvae.cli.settings import add_settings, read_settings
from seqssvae.config import Config
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.errors import InputError
from seqssvae.inference.evaluate import evaluate
from seqssvae.model.build import build
from seqssvae.overrides import override
from seqssvae.training.fit import train

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
NUM_SAMPLES, ROWS, HEADS = 20, 1000, 4


def num_weights(config: Config, prepared: Prepared) -> int:
    """Number of the decoder's weights."""
    return sum(weight.numel() for weight in build(config, prepared).decoder.parameters())


def as_large(config: Config, prepared: Prepared) -> Config:
    """The settings with a Transformer of nearly as many weights as the recurrent decoder has."""
    wanted, change = num_weights(config, prepared), {"model.class": "transformer_decoder:build"}
    own = override(config, {**change, "model.decoder_layers": 2})
    sizes = range(HEADS, 4 * config.model.decoder_size + HEADS, HEADS)
    all_sizes = [override(own, {"model.decoder_size": size}) for size in sizes]
    return min(all_sizes, key=lambda one: abs(num_weights(one, prepared) - wanted))


def main(argv: Sequence[str] | None = None) -> None:
    """Train the decoders on each file and print a table."""
    parser = Parser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path)
    add_settings(parser, budget=True)
    arguments = parser.parse_args(argv)
    logging.getLogger("seqssvae.training").setLevel(logging.ERROR)
    sys.path.append(str(EXAMPLES))
    print("| set | n-grams | decoder | weights | NLL per symbol | MI of z | minutes |")
    print("| --- | --: | --- | --: | --: | --: | --: |")
    for path in arguments.data:
        try:
            config = read_settings(arguments)
            prepared = prepare(config, path)
        except InputError as error:
            parser.error(str(error))
        name = path.name.partition(".")[0]
        name = path.absolute().parent.name if name == "train" else name
        for order in (0, config.model.decoder_ngrams):
            recurrent = override(config, {"model.decoder_ngrams": order})
            for decoder in (recurrent, as_large(recurrent, prepared)):
                trainer = train(decoder, prepared)
                dev = prepared.dev.slice(0, ROWS)
                figures = evaluate(trainer.model, dev, num_samples=NUM_SAMPLES)
                kind = "recurrent" if decoder is recurrent else "Transformer"
                print(
                    f"| {name} | {order} | {kind} | {num_weights(decoder, prepared):,} | "
                    f"{figures['nats_per_symbol']:.3f} | {figures['mutual_information']:.2f} | "
                    f"{trainer.progress.minutes:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
