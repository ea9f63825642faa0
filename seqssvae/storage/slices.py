"""A file that is computed slice by slice, the same by one process or several.

The slices have one size. Each is a file in a folder beside the output, whole or absent, until all
of them exist; after a kill only the missing ones are computed.
"""

import contextlib
import hashlib
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from seqssvae import distributed, progress
from seqssvae.errors import InputError
from seqssvae.storage.files import (
    locked,
    remove_folder,
    writable,
    write_atomically,
    write_atomically_by,
)

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
    slice_rows: int = SLICE_ROWS,
    what: str = "rows written",
) -> None:
    """Write a file of many rows.

    Args:
        out: File in a folder that exists and is the same for every rank.
        num_rows: Number of all rows.
        key: All that the content depends on, plain values; slices of another key are not used.
        make: Computes the content of a slice of the rows.
        join: Writes the content of all slices, in order.
        slice_rows: Rows in a slice.
        what: Name of the progress of all slices, under which `make` counts the rows of one.

    Raises:
        InputError: the folder is missing or cannot be written to.
        RankLost: another rank is gone.
    """
    starts = range(0, max(num_rows, 1), slice_rows)
    slices = [slice(start, min(start + slice_rows, num_rows)) for start in starts]
    is_file = out.is_file() or not out.exists()
    if not is_file and distributed.size() > 1:
        raise InputError(f"{out}: wanted a file, got a pipe or a folder")
    target = out.resolve()
    folder = target.with_name(f".{target.name[:100]}.slices")
    with contextlib.ExitStack() as held:
        if is_file and folder.parent.is_dir():
            distributed.from_writer(lambda: held.enter_context(locked(folder)))
        if len(slices) == 1 or not is_file:
            made = (io.BytesIO(make(rows)) for rows in slices)
            distributed.from_writer(lambda: write_atomically_by(out, lambda file: join(made, file)))
        else:
            _write_all(out, folder, slices, {**key, "slice_rows": slice_rows}, make, join, what)


def concatenate(parts: Iterable[BinaryIO], whole: BinaryIO) -> None:
    """Write one part after the other."""
    for part in parts:
        shutil.copyfileobj(part, whole)


def _write_all(
    out: Path,
    folder: Path,
    slices: Sequence[slice],
    key: Mapping[str, Any],
    make: Callable[[slice], bytes],
    join: Join,
    what: str,
) -> None:
    """Compute the slices that are missing in a folder, and join all."""
    distributed.from_writer(lambda: _prepare(out, folder, key, len(slices)))
    own = range(distributed.rank(), len(slices), distributed.size())
    missing = {folder / str(number): slices[number] for number in own}
    missing = {path: rows for path, rows in missing.items() if not path.exists()}
    with progress.task(what, sum(rows.stop - rows.start for rows in missing.values())):
        for path, rows in missing.items():
            write_atomically(path, make(rows))
    distributed.gather(None)  # until all slices are written
    distributed.from_writer(lambda: _finish(out, folder, len(slices), join))


def _prepare(out: Path, folder: Path, key: Mapping[str, Any], num_slices: int) -> None:
    """Make the folder, and empty it unless it holds slices of the same key."""
    text = json.dumps(key, sort_keys=True)
    wanted = hashlib.sha256(text.encode()).hexdigest().encode()
    path = folder / KEY
    with writable(out):
        folder.mkdir(exist_ok=True)
        is_other = not (path.exists() and path.read_bytes() == wanted)
        for leftover in folder.glob("*" if is_other else ".*"):  # of another key, of a kill
            leftover.unlink()
        if not path.exists():
            write_atomically(path, wanted)
        num_done = sum((folder / str(number)).exists() for number in range(num_slices))
    if num_done:
        logger.info("%d of %d slices exist already", num_done, num_slices)


def _finish(out: Path, folder: Path, num_slices: int, join: Join) -> None:
    parts = _opened(folder / str(number) for number in range(num_slices))
    write_atomically_by(out, lambda file: join(parts, file))
    remove_folder(folder)


def _opened(paths: Iterable[Path]) -> Iterator[BinaryIO]:
    for path in paths:
        with path.open("rb") as file:
            yield file
