"""Write each row's latent vector.

A csv, tsv, jsonl or parquet file, by its ending, with the columns id, loc and scale of q(z|x,y) at
the most probable y, label and probabilities.

Under torchrun the processes share the rows. If a run is killed, the same command computes only the
rows that are missing.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqssvae.cli.settings import add_columns, add_rows, load_run
from seqssvae.storage.records import FILE, join_of, kind_of, to_parquet, to_text

if TYPE_CHECKING:
    import pyarrow

    from seqssvae.data.encoded import EncodedRows
    from seqssvae.trained import TrainedModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows(parser, "--data", required=True, help="rows")
    add_columns(parser)
    parser.add_argument("--out", required=True, metavar=FILE, type=Path, help="output")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from seqssvae.storage.slices import write_in_slices
    from seqssvae.training.resume import checksum_ids, checksum_rows

    kind = kind_of(arguments.out)
    model = load_run(arguments)
    model.require_decoder("encode")
    rows = model.read(arguments.data)
    ids = (id for part in rows.parts() for id in part.ids)

    def make(some: slice) -> bytes:
        columns = table(model, rows.take(np.arange(some.start, some.stop)))
        if kind == "parquet":
            return to_parquet(columns)
        return to_text(columns.to_pylist(), kind, is_first=not some.start)

    key = {"run": model.checksum, "rows": checksum_rows(rows), "ids": checksum_ids(ids)}
    key["kind"] = kind
    write_in_slices(
        arguments.out, len(rows), key=key, make=make, join=join_of(kind), what="rows encoded"
    )
    print(f"{len(rows)} rows written to {arguments.out}")
    return {"num_rows": len(rows), "out": str(arguments.out)}


def table(model: "TrainedModel", rows: "EncodedRows") -> "pyarrow.Table":
    """The columns of these rows."""
    import pyarrow as pa

    encoded = model.encode_rows(rows)
    names = model.labels.names
    columns = {
        "id": pa.array(rows.ids),
        "loc": pa.array(list(encoded["loc"])),
        "scale": pa.array(list(encoded["scale"])),
    }
    if names:
        best = encoded["probabilities"].argmax(1)
        columns["label"] = pa.array([names[i] for i in best])
        columns["probabilities"] = pa.array(list(encoded["probabilities"]))
    return pa.table(columns)
