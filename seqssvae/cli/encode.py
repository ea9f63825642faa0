"""Write each row's place in the latent space.

A parquet file with the columns id, loc and scale of q(z | x, y) at the likeliest y, label and
probabilities.
"""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

    from seqssvae.encoded import EncodedRows
    from seqssvae.trained import TrainedModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("run", metavar="RUN", help="a trained run's folder")
    parser.add_argument("--data", required=True, metavar="FILE", help="rows to encode")
    parser.add_argument("--out", required=True, metavar="FILE.parquet", type=Path)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Encode."""
    from seqssvae.files import write_atomically
    from seqssvae.trained import PART_ROWS, load

    model = load(arguments.run)
    rows = model.read(arguments.data)
    tables = (_encode(model, part) for part in rows.parts(PART_ROWS))
    write_atomically(arguments.out, _as_parquet(tables))
    if not arguments.json:
        print(f"{len(rows)} rows written to {arguments.out}")
    return {"num_rows": len(rows), "out": str(arguments.out)}


def _encode(model: "TrainedModel", rows: "EncodedRows") -> "pyarrow.Table":
    """The columns of some rows."""
    import pyarrow as pa

    found = model.encode_rows(rows)
    names = model.labels.names
    columns = {
        "id": pa.array(list(rows.ids)),
        "loc": pa.array(list(found["loc"])),
        "scale": pa.array(list(found["scale"])),
    }
    if names:
        best = found["probabilities"].argmax(1)
        columns["label"] = pa.array([names[i] for i in best])
        columns["probabilities"] = pa.array(list(found["probabilities"]))
    return pa.table(columns)


def _as_parquet(tables: "Iterator[pyarrow.Table]") -> Iterator[bytes]:
    """A parquet file piece by piece: a file may hold many millions of rows."""
    from pyarrow import parquet

    first = next(tables)
    buffer = io.BytesIO()

    def drain() -> bytes:
        content = buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        return content

    with parquet.ParquetWriter(buffer, first.schema) as writer:
        writer.write_table(first)
        yield drain()
        for table in tables:
            writer.write_table(table)
            yield drain()
    yield drain()
