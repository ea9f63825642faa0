"""The folder of a run: what it holds, written so that a kill at any moment leaves nothing torn.

| file | holds |
| --- | --- |
| `manifest.json` | facts of the run, and the SHA-256 of each file but the last two; written last |
| `config.json` | the settings |
| `vocabulary.json`, `sentencepiece.model` | the vocabulary |
| `labels.json` | the classes, in the order of their numbers |
| `split.json` | ids of the rows by what they were used for |
| `weights.safetensors` | the weights |
| `metrics.jsonl` | an evaluation a line |
| `checkpoint.pt` | what an unfinished run goes on from; gone when it is finished |
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import os
import pickle
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from seqssvae.config import Config, InputError, override, to_mapping
from seqssvae.corpora import Labels
from seqssvae.vocabulary import Vocabulary, load_vocabulary

__all__ = [
    "RunContents",
    "append_metrics",
    "check_new_run",
    "load_checkpoint",
    "load_run",
    "read_metrics",
    "remove_checkpoint",
    "save_checkpoint",
    "save_run",
    "write_atomically",
]

FORMAT = 1
MANIFEST, METRICS, CHECKPOINT = "manifest.json", "metrics.jsonl", "checkpoint.pt"
CONFIG, LABELS, SPLIT, WEIGHTS = "config.json", "labels.json", "split.json", "weights.safetensors"
STAGING = ".unfinished"  # files of a save that is under way, or was killed
DIGEST_SIZE = hashlib.sha256().digest_size


@dataclasses.dataclass(frozen=True)
class RunContents:
    """All that a finished run holds.

    Attributes:
        config: The settings.
        vocabulary: Symbols to ids and back.
        labels: The classes; none for the plain VAE.
        split: Ids of the rows by what they were used for.
        weights: A state dict; tied weights are stored once for each name.
        manifest: Facts as plain values: versions, source, sizes. Loading adds `files`, with each
            file's `sha256`, and `format`.
    """

    config: Config
    vocabulary: Vocabulary
    labels: Labels
    split: dict[str, list[str]]
    weights: dict[str, Tensor]
    manifest: dict[str, Any]


def check_new_run(folder: Path) -> None:
    """Make sure, before the work begins, that a new run can be written; nothing is made.

    Raises:
        InputError: the folder holds something, is no folder, or cannot be written to.
    """
    with _readable(folder):
        if folder.is_dir() and any(folder.iterdir()):
            hint = "; --resume goes on from its checkpoint"
            found = f"one with files{hint if (folder / CHECKPOINT).exists() else ''}"
            raise InputError(f"{folder}: wanted a new or an empty folder, got {found}")
        existing = folder.absolute()
        while not (existing.exists() or existing.is_symlink()):
            existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{folder}: wanted a folder, got the file {existing}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: wanted leave to write in {existing}, got none")


def save_run(folder: Path, contents: RunContents) -> None:
    """Write a finished run.

    Every file is first written in full and flushed to the disk, then all are renamed, the manifest
    last. A full disk or a kill before the renames leaves an older run as it was; one between them
    leaves files that `load_run` refuses.

    Args:
        folder: Made if it is not there; its metrics and checkpoint are left alone.
        contents: What to write.

    Raises:
        InputError: the folder cannot be written to.
    """
    with _writable(folder):
        staging = folder / STAGING
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            contents.vocabulary.save(staging)
            _write(staging / CONFIG, _json(to_mapping(contents.config)))
            contents.labels.save(staging / LABELS)
            _write(staging / SPLIT, _json(contents.split))
            _write(staging / WEIGHTS, _weights_to_bytes(contents.weights))
            names = sorted(path.name for path in staging.iterdir())
            files = {name: {"sha256": _sha256((staging / name).read_bytes())} for name in names}
            manifest = {**contents.manifest, "format": FORMAT, "files": files}
            _write(staging / MANIFEST, _json(manifest))
            for name in [*names, MANIFEST]:
                _flush(staging / name)
            _flush(staging)
            for name in [*names, MANIFEST]:
                os.replace(staging / name, folder / name)
            _flush(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        _flush(folder.absolute().parent)


def load_run(folder: Path) -> RunContents:
    """Read a finished run, each file checked against the manifest.

    Raises:
        InputError: no such folder, an unfinished run, or a file that is missing, damaged or of
            another run; the message names it.
    """
    manifest = _read_manifest(folder)
    for name, facts in manifest["files"].items():
        found = _sha256(_read(folder / name))
        if found != facts["sha256"]:
            raise InputError(
                f"{folder / name}: wanted the file that this run wrote, sha256 "
                f"{facts['sha256'][:12]}..., got a damaged or foreign one, {found[:12]}..."
            )
    return RunContents(
        config=override(Config(), _read_json(folder / CONFIG, dict), where=f"{folder / CONFIG}: "),
        vocabulary=load_vocabulary(folder),
        labels=Labels.load(folder / LABELS),
        split=_read_json(folder / SPLIT, dict),
        weights=_read_weights(folder / WEIGHTS),
        manifest=manifest,
    )


def append_metrics(folder: Path, record: Mapping[str, Any]) -> None:
    """Add a line to `metrics.jsonl`, and have it on the disk before returning.

    Args:
        folder: Made if it is not there.
        record: Plain values; what is not finite becomes null. `step` orders the records.

    Raises:
        InputError: the folder cannot be written to.
    """
    line = json.dumps(_plain(record), allow_nan=False).encode() + b"\n"
    path = folder / METRICS
    with _writable(path):
        folder.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            file.seek(0)
            content = file.read()
            if not content.endswith(b"\n"):  # a kill tore the last line
                file.truncate(content.rfind(b"\n") + 1)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The evaluations of a run, in the order of their steps; none if there is no file.

    A last line that a kill tore is left out. A run that went on from a checkpoint may have measured
    a step twice: what it had measured after the checkpoint is replaced.

    Raises:
        InputError: another line is no JSON object; file and line are named.
    """
    path = folder / METRICS
    records: list[dict[str, Any]] = []
    if not path.exists():
        return records
    whole_lines = _read(path).split(b"\n")[:-1]
    for number, line in enumerate(whole_lines, start=1):
        record = _parse(line, dict, f"{path}:{number}")
        while records and records[-1].get("step", -1) >= record.get("step", math.inf):
            records.pop()
        records.append(record)
    return records


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace `checkpoint.pt`; a kill leaves the old one or the new one.

    Args:
        folder: Made if it is not there.
        state: Tensors, numbers, texts and None, in dicts, lists and tuples.

    Raises:
        TypeError: anything else in `state`, which could not be loaded again.
        InputError: the folder cannot be written to.
    """
    buffer = io.BytesIO()
    torch.save(_loadable(state, "state"), buffer)
    content = buffer.getvalue()
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    # torch.load does not notice a flipped bit, so that the file ends with its digest
    write_atomically(folder / CHECKPOINT, content + hashlib.sha256(content).digest())


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, on the CPU, or None if there is no checkpoint.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    content = _read(path)
    body, digest = content[:-DIGEST_SIZE], content[-DIGEST_SIZE:]
    if hashlib.sha256(body).digest() != digest:
        raise InputError(f"{path}: wanted a whole checkpoint, got a damaged one")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(f"{path}: wanted a checkpoint, got {_line(error)}") from error
    return state


def remove_checkpoint(folder: Path) -> None:
    """Delete `checkpoint.pt`, if it is there."""
    with _writable(folder / CHECKPOINT):
        (folder / CHECKPOINT).unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file beside `path`, flush it to the disk, and rename it.

    Whoever reads `path` finds the old content or the new one, whole. What is no regular file
    (`/dev/stdout`, a pipe) is written to as it is, and a link is followed.

    Args:
        path: In a folder that exists.
        content: What to write, as a whole or piece by piece.

    Raises:
        InputError: the folder is missing or cannot be written to.
    """
    with _writable(path):
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                file.writelines(_pieces(content))
            return
        target = path.resolve()
        beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}")
        try:
            _write(beside, content)
            _flush(beside)
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        _flush(target.parent)


def _pieces(content: bytes | Iterable[bytes]) -> Iterable[bytes]:
    return (content,) if isinstance(content, bytes) else content


def _write(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a new file, its mode as the umask wants it."""
    with open(path, "xb") as file:
        file.writelines(_pieces(content))


def _flush(path: Path) -> None:
    """Have a file's content, or a folder's entries, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    with _readable(path):
        return path.read_bytes()


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    with _readable(folder):
        if not folder.is_dir():
            found = "a file" if folder.exists() else "no such folder"
            raise InputError(f"{folder}: wanted the folder of a run, got {found}")
        if not path.exists():
            unfinished = (folder / CHECKPOINT).exists() or (folder / METRICS).exists()
            found = "an unfinished one" if unfinished else f"a folder without {MANIFEST}"
            raise InputError(f"{folder}: wanted the folder of a finished run, got {found}")
    manifest: dict[str, Any] = _read_json(path, dict)
    if manifest.get("format") != FORMAT:
        raise InputError(f"{path}: wanted format {FORMAT}, got {manifest.get('format')!r}")
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(
        Path(name).name == name and isinstance(facts, dict) and isinstance(facts.get("sha256"), str)
        for name, facts in files.items()
    ):
        raise InputError(f"{path}: wanted a sha256 for each file, got {files!r:.100}")
    for name in (CONFIG, LABELS, SPLIT, WEIGHTS):
        if name not in files:
            raise InputError(f"{path}: wanted an entry for {name}, got none")
    return manifest


def _read_json(path: Path, kind: type) -> Any:
    return _parse(_read(path), kind, str(path))


def _parse(content: bytes, kind: type, where: str) -> Any:
    try:
        value = json.loads(content)
    except ValueError as error:  # bad UTF-8 too
        raise InputError(f"{where}: wanted JSON, got {_line(error)}") from error
    if not isinstance(value, kind):
        raise InputError(f"{where}: wanted a JSON {kind.__name__}, got {type(value).__name__}")
    return value


def _weights_to_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """A safetensors file; it refuses tensors that share memory, so each is copied."""
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    content: bytes = safetensors.torch.save(copies, metadata={"format": "pt"})
    return content


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(_read(path))
    except SafetensorError as error:
        raise InputError(f"{path}: wanted safetensors, got {_line(error)}") from error


def _json(value: Any) -> bytes:
    return json.dumps(_plain(value), allow_nan=False, indent=1).encode() + b"\n"


def _plain(value: Any) -> Any:
    """What JSON can say: NumPy's numbers as numbers, paths as text, NaN and infinity as None."""
    match value:
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case np.generic():
            return _plain(value.item())
        case float():
            return value if math.isfinite(value) else None
        case Path():
            return str(value)
    return value


def _loadable(value: Any, where: str) -> Any:
    """The same values, of types that `torch.load(weights_only=True)` takes."""
    match value:
        case np.generic():
            return _loadable(value.item(), where)
        case Tensor() | str() | int() | float() | None:
            return value
        case Mapping():
            return {
                _loadable(key, where): _loadable(item, f"{where}[{key!r}]")
                for key, item in value.items()
            }
        case list():
            return [_loadable(item, f"{where}[{i}]") for i, item in enumerate(value)]
        case tuple():
            return tuple(_loadable(item, f"{where}[{i}]") for i, item in enumerate(value))
    raise TypeError(f"{where}: wanted a tensor or a plain value, got {type(value).__name__}")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Turn the system's refusals into one line."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: wanted to write it, got {error.strerror}") from error


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: wanted a readable file, got {error.strerror}") from error
