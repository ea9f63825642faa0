"""Identity of a run: the settings and rows that must be the same for a run to be resumed."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seqssvae import distributed
from seqssvae.config import Config
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared
from seqssvae.errors import InputError
from seqssvae.overrides import to_mapping

FREE = (
    "max_minutes",
    "accumulate",
    "device",
)  # of `training`, that a resumed run may change


def identify(config: Config, prepared: Prepared, start: str | None = None) -> dict[str, Any]:
    """The settings, checksums of the rows and their ids, and of the run to start from.

    The time limit, the device and the number of processes are left out.
    """
    settings = to_mapping(config)
    for name in FREE:
        del settings["training"][name]
    streams = (prepared.labelled, prepared.unlabelled, prepared.dev)
    return {
        "config": settings,
        "split": {name: checksum_ids(ids) for name, ids in prepared.split.items()},
        "rows": [checksum_rows(rows) for rows in streams],
        **({} if start is None else {"start": start}),
        **({"tree": tree.parents} if (tree := prepared.labels.tree) else {}),
    }


def check_identity(out: Path, wanted: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    """Check that a run can be resumed, or is the one that is wanted.

    Args:
        out: Folder of the run.
        wanted: Identity of the run in it.
        got: Identity of the settings and rows as they are now.

    Raises:
        InputError: they differ; the message names a setting, or says that it is the rows.
    """
    if wanted == got:
        return
    others = [
        f"{section}.{name}"
        for section, settings in got["config"].items()
        for name, value in settings.items()
        if wanted["config"].get(section, {}).get(name) != value
    ]
    difference = f"another {others[0]}" if others else "other rows"
    raise InputError(
        f"{out}: wanted the settings and rows of the run in it, got {difference}; another folder "
        "starts a new run"
    )


def check_ranks(
    out: Path, identity: Mapping[str, Any], checkpoint: Mapping[str, Any] | None
) -> None:
    """Check that all ranks read the same settings, rows and checkpoint.

    Args:
        out: Folder of the run.
        identity: Result of `identify`.
        checkpoint: Checkpoint to resume from, or None.

    Raises:
        InputError: they did not.
    """
    step = None if checkpoint is None else checkpoint["progress"]["step"]
    ranks = distributed.gather([checksum_identity(identity), step])
    for number, (checksum, at) in enumerate(ranks):
        if checksum != ranks[0][0]:
            raise InputError(f"rank {number}: wanted the settings and rows of rank 0, got others")
        if at != ranks[0][1]:
            raise InputError(
                f"{out}: wanted the checkpoint of step {ranks[0][1]}, as rank 0 has it, "
                f"got that of step {at} on rank {number}"
            )


def checksum_identity(identity: Mapping[str, Any]) -> str:
    """SHA-256 of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def checksum_rows(rows: EncodedRows, *, labels: bool = True) -> str:
    """SHA-256 of all that training reads of rows, or all but labels, computed chunk by chunk."""
    rows = rows if labels else rows.with_labels(None)
    symbols, offsets, y, v, weak = (hashlib.sha256() for _ in range(5))
    offsets.update(bytes(8))
    end = 0
    for chunk in rows.parts():
        symbols.update(chunk.symbols.tobytes())
        offsets.update((end + chunk.offsets[1:]).tobytes())
        y.update(chunk.y.tobytes())
        if (vectors := chunk.vectors()) is not None:
            v.update(vectors.tobytes())
        for part in chunk.evidence() if labels else ():
            weak.update(b"" if part is None else part.tobytes())
        end += int(chunk.offsets[-1])
    content = symbols.digest() + offsets.digest() + y.digest()
    if rows.vector_size:
        content += v.digest()
    if labels and any(part is not None for part in rows.slice(0, 0).evidence()):
        content += weak.digest()
    candidates = repr(sorted(rows.candidates.items())).encode()
    return hashlib.sha256(content + candidates).hexdigest()


def checksum_ids(ids: Iterable[str]) -> str:
    """SHA-256 of ids in their order."""
    checksum = hashlib.sha256()
    for id in ids:
        checksum.update(f"{len(id)}:{id}".encode("utf-8", "surrogatepass"))
    return checksum.hexdigest()
