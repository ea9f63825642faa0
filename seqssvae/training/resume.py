"""What makes a run the run that it is: the settings and rows that must be the same to go on."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seqssvae import distributed
from seqssvae.config import Config, to_mapping
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared
from seqssvae.errors import InputError

FREE = ("max_minutes", "accumulate")  # settings of `training` that may change on the way


def identify(config: Config, prepared: Prepared) -> dict[str, Any]:
    """What must be the same when a run goes on.

    How long it may last need not, nor how many processes share its steps.
    """
    settings = to_mapping(config)
    for name in FREE:
        del settings["training"][name]
    parts = (prepared.labelled, prepared.unlabelled, prepared.dev)
    return {
        "config": settings,
        "split": {part: digest_ids(ids) for part, ids in prepared.split.items()},
        "rows": [digest(rows) for rows in parts],
    }


def check_identity(out: Path, wanted: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    """Make sure that a run can go on.

    Args:
        out: Its folder.
        wanted: What the checkpoint says.
        got: What is there now.

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
    found = f"another {others[0]}" if others else "other rows"
    raise InputError(f"{out}: wanted the settings and rows of the checkpoint, got {found}")


def check_ranks(
    out: Path, identity: Mapping[str, Any], checkpoint: Mapping[str, Any] | None
) -> None:
    """Make sure that all ranks read the same, from one disk or from copies.

    Args:
        out: The run's folder.
        identity: Of `identify`.
        checkpoint: What the run goes on from, or None.

    Raises:
        InputError: they did not.
    """
    step = None if checkpoint is None else checkpoint["progress"]["step"]
    found = distributed.gather([fingerprint(identity), step])
    for number, (content, at) in enumerate(found):
        if content != found[0][0]:
            raise InputError(f"rank {number}: wanted the settings and rows of rank 0, got others")
        if at != found[0][1]:
            raise InputError(
                f"{out}: wanted the checkpoint of step {found[0][1]}, as rank 0 has it, "
                f"got that of step {at} on rank {number}"
            )


def fingerprint(identity: Mapping[str, Any]) -> str:
    """A checksum of what `identify` found."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def digest(rows: EncodedRows) -> str:
    """A checksum of what training reads of rows, taken a part of them at a time."""
    symbols, offsets, y = (hashlib.sha256() for _ in range(3))
    offsets.update(bytes(8))
    end = 0
    for part in rows.parts():
        symbols.update(part.symbols.tobytes())
        offsets.update((end + part.offsets[1:]).tobytes())
        y.update(part.y.tobytes())
        end += int(part.offsets[-1])
    content = b"".join(part.digest() for part in (symbols, offsets, y))
    candidates = repr(sorted(rows.candidates.items())).encode()
    return hashlib.sha256(content + candidates).hexdigest()


def digest_ids(ids: Iterable[str]) -> str:
    """A checksum of ids in their order."""
    found = hashlib.sha256()
    for id in ids:
        found.update(f"{len(id)}:{id}".encode("utf-8", "surrogatepass"))
    return found.hexdigest()
