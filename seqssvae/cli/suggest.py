"""Suggest rows to label next: those that the model doubts, each of another kind, no outliers.

Rows with a label are left out, and rows that are equal to one. The file can be read as data once
labels are written into it, beside the old rows or with `train --from RUN`. With --before, a run
trained with fewer labels, the command says whether more labels still change much: whether both give
the rows the same labels (Cohen's kappa of 0.99; Bloodgood and Vijay-Shanker 2009). Such rows are
not better than random ones on all data: see the documentation.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqssvae.cli.settings import add_columns, add_labels, add_rows, load_run, read_rows
from seqssvae.errors import InputError, check_whole
from seqssvae.storage.records import FILE, in_cells, kind_of, to_parquet, to_text

ENOUGH = 0.99  # kappa of two runs, from which on labels change little
FEW = 20  # held-out labels; by fewer, probabilities are hardly calibrated


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows(parser, "--data", required=True, help="rows to choose from")
    add_labels(parser)
    add_columns(parser)
    parser.add_argument("-n", type=int, default=20, metavar="N", help="number of rows")
    parser.add_argument("--out", required=True, metavar=FILE, type=Path, help="file to label")
    parser.add_argument("--before", metavar="RUN", type=Path, help="run with fewer labels")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the choice")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    check_whole("-n", arguments.n, 1, 10**6)
    check_whole("--seed", arguments.seed, 0, 2**32 - 1)
    kind_of(arguments.out)
    if arguments.out.exists():  # it may have labels in it
        raise InputError(f"--out {arguments.out}: wanted a new file, got one that exists")
    from seqssvae.data.sources import read_without_label, written_columns
    from seqssvae.inference.suggest import agreement, suggest
    from seqssvae.trained import load

    model = load_run(arguments)
    model.require_decoder("suggest")
    names = model.labels.names
    if not names:
        raise InputError(f"{arguments.run}: wanted a model with classes, got one without")
    data = read_rows(arguments, model.config)
    may_miss = not hasattr(arguments, "data.label_column")  # unless it is named here
    corpus, rows = read_without_label(data, model.config, model.vocabulary, may_miss=may_miss)
    found = suggest(
        model.model,
        rows,
        arguments.n,
        mode=model.default_mode,
        weights=model.weights(),
        seed=arguments.seed,
    )
    predicted = [names[best] for best in found.probabilities.argmax(1)]
    sequences = [corpus.sequence(row) for row in rows.index[found.seen].tolist()]
    result: dict[str, Any] = {"num_rows": len(found.chosen), "out": str(arguments.out)}
    result["expected_accuracy"] = found.expected_accuracy
    if arguments.before is not None:
        before = load(arguments.before, arguments.device).classify(sequences)
        kappa = agreement(predicted, [row["label"] for row in before])
        result |= {"kappa": kappa, "is_enough": kappa >= ENOUGH}
    sequence, labels = written_columns(model.config.data, is_tokens=corpus.is_tokens)
    records = [
        {
            "id": rows.take(found.seen[i : i + 1]).ids[0],
            sequence: sequences[i],
            **dict.fromkeys(labels, ""),
            "predicted": predicted[i],
            "probability": float(found.probabilities[i].max()),
            "doubt": float(found.doubt[i]),
        }
        for i in found.chosen.tolist()
    ]
    _write(arguments.out, records)
    label = ", ".join(labels)
    print(f"{len(records)} of {len(rows)} rows without a label: {arguments.out}, column {label}")
    num_held_out = len(model.held_out.y) if model.has_sets else 0
    note = f" (likely too high: {num_held_out} labels were held out)" if num_held_out < FEW else ""
    print(f"expected accuracy on rows without a label: {found.expected_accuracy:.3f}{note}")
    if arguments.before is not None:
        says = "more labels change little: stop" if result["is_enough"] else "go on"
        print(f"agreement with {arguments.before}: kappa {result['kappa']:.3f}; {says}")
    return result


def _write(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write records in the format of the file's ending; lists are JSON in a cell of csv or tsv."""
    from seqssvae.storage.files import write_atomically

    kind = kind_of(path)
    if kind == "parquet":
        import pyarrow

        content = to_parquet(pyarrow.Table.from_pylist(records))
    else:
        content = to_text([in_cells(one, kind) for one in records], kind, is_first=True)
    write_atomically(path, content)
