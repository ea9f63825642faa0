"""Write each row's place in the latent space.

A parquet file with the columns id, loc and scale of q(z | x, y) at the likeliest y, label and
probabilities.

Under torchrun the processes share the rows. What a kill left of a large file is not computed again:
run the same command.
"""

import argparse
import contextlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from seqssvae.data.encoded import EncodedRows
    from seqssvae.trained import TrainedModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("run", metavar="RUN", help="a trained run's folder")
    parser.add_argument("--data", required=True, metavar="FILE", help="rows to encode")
    parser.add_argument("--out", required=True, metavar="FILE.parquet", type=Path)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Encode."""
    import numpy as np

    from seqssvae.storage.slices import write_in_slices
    from seqssvae.trained import load
    from seqssvae.training.resume import digest, digest_ids

    model = load(arguments.run)
    rows = model.read(arguments.data)
    ids = (id for part in rows.parts() for id in part.ids)
    write_in_slices(
        arguments.out,
        len(rows),
        key={"run": model.manifest["sha256"], "rows": digest(rows), "ids": digest_ids(ids)},
        make=lambda some: table(model, rows.take(np.arange(some.start, some.stop))),
        join=join,
    )
    if not arguments.json:
        print(f"{len(rows)} rows written to {arguments.out}")
    return {"num_rows": len(rows), "out": str(arguments.out)}


def table(model: "TrainedModel", rows: "EncodedRows") -> bytes:
    """A parquet file of some rows."""
    import pyarrow as pa
    from pyarrow import parquet

    found = model.encode_rows(rows)
    names = model.labels.names
    columns = {
        "id": pa.array(rows.ids),
        "loc": pa.array(list(found["loc"])),
        "scale": pa.array(list(found["scale"])),
    }
    if names:
        best = found["probabilities"].argmax(1)
        columns["label"] = pa.array([names[i] for i in best])
        columns["probabilities"] = pa.array(list(found["probabilities"]))
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def join(parts: Iterable[BinaryIO], whole: BinaryIO) -> None:
    """Write the rows of parquet files into one, a group of rows for each."""
    from pyarrow import parquet

    with contextlib.ExitStack() as stack:
        writer: Any = None
        for part in parts:
            rows = parquet.read_table(part)
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(whole, rows.schema))
            writer.write_table(rows)
