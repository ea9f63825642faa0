"""Classify texts or the rows of a file.

Modes: q is the encoder's q(y|x); posterior is Bayes' rule with importance samples of z; mix is
their product with fitted weights. By default the one that was best on held-out labels.

Under torchrun the processes share the rows of a file. If a run with --out is killed, the same
command computes only the rows that are missing.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqssvae import distributed
from seqssvae.cli.settings import add_columns, add_rows, load_run
from seqssvae.errors import InputError
from seqssvae.storage.records import DELIMITERS, FILE, join_of, kind_of, to_parquet, to_text

if TYPE_CHECKING:
    from seqssvae.data.encoded import EncodedRows
    from seqssvae.trained import TrainedModel

SAMPLES = "samples of z; 0: z at its mean"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="texts to classify")
    add_rows(parser, "--data", help="rows to classify instead")
    add_columns(parser)
    parser.add_argument("--mode", choices=("q", "posterior", "mix"), help="see above")
    parser.add_argument("--num-samples", type=int, default=0, metavar="S", help=SAMPLES)
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the samples")
    parser.add_argument("--out", metavar=FILE, type=Path, help="write predictions here, with ids")
    parser.add_argument(
        "--keep-sequence", action="store_true", help="write each row's text or tokens there too"
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    if bool(arguments.texts) == bool(arguments.data):
        raise InputError("wanted TEXT ... or --data FILE, got both or neither")
    if arguments.out is None and distributed.size() > 1:
        raise InputError("wanted --out FILE where several processes write, got none")
    if arguments.out is not None:
        kind_of(arguments.out)
    elif arguments.keep_sequence:
        raise InputError("wanted --out FILE beside --keep-sequence, got none")
    model = load_run(arguments)
    rows = model.read(arguments.data) if arguments.data else model.read_texts(arguments.texts)
    mode = arguments.mode or model.default_mode
    if arguments.out is not None:
        write(model, rows, arguments)
        return {"num_rows": len(rows), "mode": mode, "out": str(arguments.out)}
    options = {"num_samples": arguments.num_samples, "seed": arguments.seed}
    predictions = model.classify_rows(rows, mode=mode, **options)
    if arguments.json:
        return {"num_rows": len(rows), "mode": mode, "predictions": list(predictions)}
    for row in predictions:
        print(f"{row['label']}\t{row['probability']:.4f}")
    return {"num_rows": len(rows)}


def write(model: "TrainedModel", rows: "EncodedRows", arguments: argparse.Namespace) -> None:
    """Write a record for each row, its id first, in the format of the file's ending."""
    import numpy as np

    from seqssvae.data.prepare import read_corpus_like
    from seqssvae.storage.slices import write_in_slices
    from seqssvae.training.resume import checksum_ids, checksum_rows

    options = {
        "mode": arguments.mode or model.default_mode,
        "num_samples": arguments.num_samples,
        "seed": arguments.seed,
    }
    kind = kind_of(arguments.out)
    sequences: Sequence[Any] = arguments.texts
    if arguments.keep_sequence and arguments.data:
        corpus = read_corpus_like(arguments.data, model.config, model.vocabulary, read_labels=False)
        sequences = corpus.table.column("sequence")

    def make(some: slice) -> bytes:
        part = rows.take(np.arange(some.start, some.stop))
        records = [{"id": id} for id in part.ids]
        if arguments.keep_sequence:
            for record, one in zip(records, sequences[some], strict=True):
                record["sequence"] = _plain(one, kind)
        predictions = model.classify_rows(part, **options)
        records = [one | found for one, found in zip(records, predictions, strict=True)]
        if kind == "parquet":
            import pyarrow

            return to_parquet(pyarrow.Table.from_pylist(records))
        return to_text(records, kind, is_first=not some.start)

    key = {"run": model.checksum, "rows": checksum_rows(rows), "kind": kind, **options}
    key["ids"] = checksum_ids(id for part in rows.parts() for id in part.ids)
    key["sequences"] = arguments.keep_sequence and checksum_ids(map(str, sequences))
    write_in_slices(
        arguments.out, len(rows), key=key, make=make, join=join_of(kind), what="rows classified"
    )


def _plain(sequence: Any, kind: str) -> Any:
    """A text or a list of tokens, which is JSON in a cell of csv or tsv, as it is read there."""
    value = sequence if isinstance(sequence, str) else sequence.as_py()
    return value if isinstance(value, str) or kind not in DELIMITERS else json.dumps(value)
