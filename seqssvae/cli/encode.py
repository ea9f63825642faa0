"""Write each row's place in the latent space.

A parquet file with the columns id, loc and scale of q(z | x, y) at the likeliest y, label and
probabilities.
"""

import argparse
import io
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("run", metavar="RUN", help="a trained run's folder")
    parser.add_argument("--data", required=True, metavar="FILE", help="rows to encode")
    parser.add_argument("--out", required=True, metavar="FILE.parquet", type=Path)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Encode."""
    import pyarrow as pa
    from pyarrow import parquet

    from seqssvae.files import write_atomically
    from seqssvae.trained import load

    model = load(arguments.run)
    rows = model.read(arguments.data)
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
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    write_atomically(arguments.out, buffer.getvalue())
    if not arguments.json:
        print(f"{len(rows)} rows written to {arguments.out}")
    return {"num_rows": len(rows), "out": str(arguments.out)}
