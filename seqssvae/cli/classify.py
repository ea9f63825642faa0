"""Classify texts or the rows of a file.

Modes: q is the encoder's q(y|x); posterior is Bayes' rule with importance samples of z; mix is
their product with fitted weights. By default the one that was best on held-out labels.

With --coverage each row gets a set of labels that holds the true one with that probability, by the
labels that were held out in training. --abstain leaves a row undecided whose best label is less
probable; --novel calls a row `none of the classes` if no more than that share of the held-out rows
are as unlikely under p(x), which takes the time of --mode posterior.

With several columns of labels each row has the label and the probability of each column.

Under torchrun the processes share the rows of a file. If a run with --out is killed, the same
command computes only the rows that are missing.
"""

import argparse
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqssvae import distributed
from seqssvae.cli.settings import add_columns, add_rows, load_run
from seqssvae.errors import InputError
from seqssvae.storage.records import FILE, in_cells, join_of, kind_of, to_parquet, to_text

if TYPE_CHECKING:
    from seqssvae.data.encoded import EncodedRows
    from seqssvae.trained import TrainedModel

logger = logging.getLogger(__name__)

UNDECIDED = "(undecided)"
SAMPLES = "samples of z; 0: z at its mean"
SHARES = {
    "coverage": "add sets of labels that hold the true one with this probability",
    "abstain": "leave rows undecided whose best label has less than this probability",
    "novel": "add novelty, and call rows with a lower p-value none of the classes",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="texts to classify")
    add_rows(parser, "--data", help="rows to classify instead")
    add_columns(parser)
    parser.add_argument("--mode", choices=("q", "posterior", "mix"), help="see above")
    parser.add_argument("--num-samples", type=int, default=0, metavar="S", help=SAMPLES)
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the samples")
    for name, help in SHARES.items():
        parser.add_argument(f"--{name}", type=float, metavar="P", help=help)
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
    reader, data = model.reader, arguments.data
    rows = reader.read(data) if data else reader.read_texts(arguments.texts)
    options = {name: getattr(arguments, name) for name in ("num_samples", "seed", *SHARES)}
    options["mode"] = mode = arguments.mode or model.default_mode
    predictions = model.classify_rows(rows, **options)  # refuses options before anything is written
    warn_of_few_rows(model, options)
    if arguments.out is not None:
        write(model, rows, arguments, options)
        return {"num_rows": len(rows), "mode": mode, "out": str(arguments.out)}
    if arguments.json:
        return {"num_rows": len(rows), "mode": mode, "predictions": list(predictions)}
    for row in predictions:
        cells = []
        for end in [f"_{column}" for column in model.labels.columns] or [""]:
            cells += [row[f"label{end}"] or UNDECIDED, f"{row[f'probability{end}']:.4f}"]
        cells += [", ".join(row["set"])] if "set" in row else []
        cells += [f"{row['novelty']:.4f}"] if "novelty" in row else []
        print("\t".join(cells))
    return {"num_rows": len(rows)}


def warn_of_few_rows(model: "TrainedModel", options: Mapping[str, Any]) -> None:
    """Warn where so few rows were held out that sets are full, or no row can be new."""
    coverage, novel, mode = (options[name] for name in ("coverage", "novel", "mode"))
    if coverage is not None and all(map(math.isinf, model.greatest_losses(coverage, mode))):
        logger.warning(
            f"--coverage {coverage}: every label is in every set, since only "
            f"{len(model.held_out.y)} labels were held out in training"
        )
    if novel is not None and round((len(model.held_out.reference) + 1) * novel, 9) < 1:
        logger.warning(
            f"--novel {novel}: no row is none of the classes, since only "
            f"{len(model.held_out.reference)} rows were held out in training"
        )


def write(
    model: "TrainedModel",
    rows: "EncodedRows",
    arguments: argparse.Namespace,
    options: Mapping[str, Any],
) -> None:
    """Write a record for each row, its id first, in the format of the file's ending."""
    import numpy as np

    from seqssvae.data.sources import read_corpus_like
    from seqssvae.storage.slices import write_in_slices
    from seqssvae.training.resume import checksum_ids, checksum_rows

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
                record["sequence"] = one if isinstance(one, str) else one.as_py()
        predictions = model.classify_rows(part, **options)
        pairs = zip(records, predictions, strict=True)
        records = [in_cells(one | found, kind) for one, found in pairs]
        if kind == "parquet":
            import pyarrow

            table = pyarrow.Table.from_pylist(records)
            if options["abstain"] is not None and records:  # of which all may be undecided
                for name in ("label", *(f"label_{column}" for column in model.labels.columns)):
                    place = table.column_names.index(name)
                    table = table.set_column(place, name, table[name].cast(pyarrow.string()))
            return to_parquet(table)
        return to_text(records, kind, is_first=not some.start)

    key = {"run": model.checksum, "rows": checksum_rows(rows), "kind": kind, **options}
    key["ids"] = checksum_ids(id for part in rows.parts() for id in part.ids)
    key["sequences"] = arguments.keep_sequence and checksum_ids(map(str, sequences))
    write_in_slices(
        arguments.out, len(rows), key=key, make=make, join=join_of(kind), what="rows classified"
    )
