"""A file that is computed slice by slice, by one process or by several, and the same either way.

The slices have one size, whoever computes them. Each is a file in a folder beside the output, whole
or absent, until all of them are there; what was killed goes on with those that are missing.
"""

import hashlib
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from seqssvae import distributed
from seqssvae.errors import InputError
from seqssvae.storage.files import writable, write_atomically, write_atomically_by

logger = logging.getLogger(__name__)

SLICE_ROWS = 2**14
KEY = "key"

Join = Callable[[Iterable[BinaryIO], BinaryIO], None]


def write_in_slices(
    out: Path,
    num_rows: int,
    *,
    key: Mapping[str, Any],
    make: Callable[[slice], bytes],
    join: Join,
) -> None:
    """Write a file of many rows.

    Args:
        out: In a folder that exists; every rank sees the same one.
        num_rows: Of the whole.
        key: What the content depends on, plain values; slices of another key are computed anew.
        make: The content of some rows' slice.
        join: Writes what all slices hold, in order.

    Raises:
        InputError: the folder is missing or cannot be written to.
        RankLost: another rank is gone.
    """
    starts = range(0, max(num_rows, 1), SLICE_ROWS)
    slices = [slice(start, min(start + SLICE_ROWS, num_rows)) for start in starts]
    is_file = out.is_file() or not out.exists()
    if not is_file and distributed.size() > 1:
        raise InputError(f"{out}: wanted a file for slices to stand beside, got a pipe or a folder")
    if len(slices) == 1 or not is_file:
        made = (io.BytesIO(make(rows)) for rows in slices)
        distributed.from_writer(lambda: write_atomically_by(out, lambda file: join(made, file)))
        return
    target = out.resolve()
    folder = target.with_name(f".{target.name[:100]}.slices")
    distributed.from_writer(lambda: _prepare(out, folder, key, len(slices)))
    for number in range(distributed.rank(), len(slices), distributed.size()):
        path = folder / str(number)
        if not path.exists():
            write_atomically(path, make(slices[number]))
    distributed.gather(None)  # all are there
    distributed.from_writer(lambda: _finish(out, folder, len(slices), join))


def concatenate(parts: Iterable[BinaryIO], whole: BinaryIO) -> None:
    """Write one part after the other."""
    for part in parts:
        shutil.copyfileobj(part, whole)


def _prepare(out: Path, folder: Path, key: Mapping[str, Any], num_slices: int) -> None:
    """Make the folder, or leave it if it holds slices of the same content."""
    text = json.dumps({**key, "slice_rows": SLICE_ROWS}, sort_keys=True)
    wanted = hashlib.sha256(text.encode()).hexdigest().encode()
    path = folder / KEY
    with writable(out):
        if folder.is_dir() and not (path.exists() and path.read_bytes() == wanted):
            shutil.rmtree(folder)
        folder.mkdir(exist_ok=True)
        for debris in folder.glob(".*"):  # of a kill
            debris.unlink()
        if not path.exists():
            write_atomically(path, wanted)
        found = sum((folder / str(number)).exists() for number in range(num_slices))
    if found:
        logger.info("%d of %d slices are there already", found, num_slices)


def _finish(out: Path, folder: Path, num_slices: int, join: Join) -> None:
    parts = _opened(folder / str(number) for number in range(num_slices))
    write_atomically_by(out, lambda file: join(parts, file))
    with writable(folder):
        shutil.rmtree(folder)


def _opened(paths: Iterable[Path]) -> Iterator[BinaryIO]:
    for path in paths:
        with path.open("rb") as file:
            yield file
