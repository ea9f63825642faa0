"""Write each row's latent vector.

A parquet file with the columns id, loc and scale of q(z|x,y) at the most probable y, label and
probabilities.

Under torchrun the processes share the rows. If a run is killed, the same command computes only the
rows that are missing.
"""

import argparse
import contextlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from seqssvae.cli.settings import add_columns, add_rows, load_run

if TYPE_CHECKING:
    from seqssvae.data.encoded import EncodedRows
    from seqssvae.trained import TrainedModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows(parser, "--data", required=True, help="rows")
    add_columns(parser)
    parser.add_argument("--out", required=True, metavar="FILE.parquet", type=Path, help="output")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from seqssvae.storage.slices import write_in_slices
    from seqssvae.training.resume import checksum_ids, checksum_rows

    model = load_run(arguments)
    rows = model.read(arguments.data)
    ids = (id for part in rows.parts() for id in part.ids)
    write_in_slices(
        arguments.out,
        len(rows),
        key={"run": model.checksum, "rows": checksum_rows(rows), "ids": checksum_ids(ids)},
        make=lambda some: table(model, rows.take(np.arange(some.start, some.stop))),
        join=join,
    )
    print(f"{len(rows)} rows written to {arguments.out}")
    return {"num_rows": len(rows), "out": str(arguments.out)}


def table(model: "TrainedModel", rows: "EncodedRows") -> bytes:
    """A parquet file of these rows."""
    import pyarrow as pa
    from pyarrow import parquet

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
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def join(parts: Iterable[BinaryIO], whole: BinaryIO) -> None:
    """Concatenate parquet files, with a row group for each."""
    from pyarrow import parquet

    with contextlib.ExitStack() as stack:
        writer: Any = None
        for part in parts:
            rows = parquet.read_table(part)
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(whole, rows.schema))
            writer.write_table(rows)
