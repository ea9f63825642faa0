"""Generate sequences of a label, each with its own z from p(z).

A sample of p(x|y) is accepted with probability q(y|x)^G, else another one is drawn, up to 16 times:
accepted ones are samples of p(x|y) q(y|x)^G / Z. --guidance 0 is plain p(x|y), without the time
that this takes.

--label a=0.7,b=0.3 blends labels. --like draws z near that of a sequence. --constraint decodes only
sequences that match a regular expression, by leaving out the symbols after which none could; of
tokens, it is matched with a space between them.

--out writes a row of each sequence, some thousand at a time, which `train` and `score` read, with
its label, also where it was drawn: of --like, of columns that --label leaves out. That of a blend
is a soft one.
"""

import argparse
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqssvae.cli.settings import add_decoding, decoding_options, load_for_texts
from seqssvae.errors import InputError
from seqssvae.storage.records import (
    DELIMITERS,
    FILE,
    in_cells,
    join_of,
    kind_of,
    to_parquet,
    to_text,
)

if TYPE_CHECKING:
    from seqssvae.data.labels import Labels
    from seqssvae.trained import TrainedModel

PART_ROWS = 4096  # that are written at once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    label = "label, or weights of labels, a=0.7,b=0.3; none for a model without classes"
    parser.add_argument("--label", metavar="L", help=label)
    parser.add_argument("-n", type=int, default=1, metavar="N", help="number of sequences")
    parser.add_argument("--like", metavar="TEXT", help="draw z near that of this sequence")
    parser.add_argument(
        "--radius", type=float, default=0.5, metavar="R", help="how near; 0: exactly its z"
    )
    parser.add_argument("--unique", action="store_true", help="leave out repeated sequences")
    parser.add_argument(
        "--scores", action="store_true", help="add log p(x) and log p(x|y), in nats"
    )
    parser.add_argument("--out", metavar=FILE, type=Path, help="write the sequences here")
    add_decoding(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.out is not None:
        kind_of(arguments.out)
    model = load_for_texts(arguments)
    label = weights_of(arguments.label, model.labels)
    like = None if arguments.like is None else model.reader.split_texts([arguments.like])[0]
    sequences = model.iterate_with_y(
        label,
        arguments.n,
        like=like,
        radius=arguments.radius,
        unique=arguments.unique,
        **decoding_options(arguments, model.vocabulary.kind),
    )
    if arguments.out is not None:
        num_rows = write(model, sequences, label, arguments.out, arguments.scores)
        return {"label": arguments.label, "num_rows": num_rows, "out": str(arguments.out)}
    written = [one for one, _ in sequences]
    if not arguments.scores:
        return {"label": arguments.label, "sequences": shown(written)}
    scores = scored(model, written, label)
    shown(written, [[f"{value:.4f}" for value in one.values()] for one in scores])
    return {"label": arguments.label, "sequences": written, "scores": scores}


def weights_of(label: str | None, labels: "Labels") -> str | Mapping[str, float] | None:
    """A label as it is written, or the weights of labels `a=0.7,b=0.3`.

    Raises:
        InputError: a weight that is no number.
    """
    if label is None or label in labels.names or labels.columns or "=" not in label:
        return label
    weights = {}
    for part in label.split(","):
        name, _, weight = part.rpartition("=")
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            raise InputError(f"--label: wanted LABEL=WEIGHT, got {part!r:.80}") from None
    return weights


def shown(sequences: list[Any], cells: Sequence[Sequence[str]] = ()) -> list[Any]:
    """Print sequences, tokens with spaces between them, and further cells; returns them."""
    for sequence, further in itertools.zip_longest(sequences, cells, fillvalue=()):
        text = sequence if isinstance(sequence, str) else " ".join(sequence)
        print("\t".join([*further, text]))
    return sequences


def scored(
    model: "TrainedModel", sequences: Sequence[Any], label: str | Mapping[str, float] | None
) -> list[dict[str, float]]:
    """log p(x) of each sequence and, of one label, log p(x | y)."""
    if not sequences:
        return []
    columns = {"log_prob": model.log_prob(sequences)}
    if isinstance(label, str) and label in model.labels.names:
        columns["log_prob_of_label"] = model.log_prob(sequences, label)
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def write(
    model: "TrainedModel",
    sequences: Iterable[tuple[Any, int | None]],
    label: str | Mapping[str, float] | None,
    out: Path,
    with_scores: bool,
) -> int:
    """Write a record for each sequence and its y, as they come; returns their number."""
    import io

    from seqssvae.storage.files import write_atomically_by

    kind, num_rows = kind_of(out), 0
    column = "tokens" if model.vocabulary.kind == "tokens" else "text"

    def labels_of(y: int | None) -> dict[str, Any]:
        if isinstance(label, Mapping):  # a soft label
            shares = {name: one / sum(label.values()) for name, one in label.items()}
            in_cell = json.dumps(shares, ensure_ascii=False)
            return {"label": in_cell if kind in DELIMITERS else shares}
        if y is None:
            return {}
        name = model.labels.names[y]
        return model.labels.pairs(name) if model.labels.columns else {"label": name}

    def parts() -> Iterator[io.BytesIO]:
        nonlocal num_rows
        iterator = iter(sequences)
        while (part := list(itertools.islice(iterator, PART_ROWS))) or not num_rows:
            written = [one for one, _ in part]
            scores = scored(model, written, label) if with_scores else itertools.repeat({})
            records = [
                in_cells({column: one, **labels_of(y), **further}, kind)
                for (one, y), further in zip(part, scores, strict=False)
            ]
            if kind == "parquet":
                import pyarrow

                yield io.BytesIO(to_parquet(pyarrow.Table.from_pylist(records)))
            else:
                yield io.BytesIO(to_text(records, kind, is_first=not num_rows))
            num_rows += len(part)
            if not part:
                return

    write_atomically_by(out, lambda file: join_of(kind)(parts(), file))
    print(f"{num_rows} sequences written to {out}")
    return num_rows
