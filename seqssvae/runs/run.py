"""The folder of a run: what it holds, written so that a kill at any moment leaves nothing torn.

| file | holds |
| --- | --- |
| `manifest.json` | facts of the run, size and SHA-256 of each file, its own SHA-256; written last |
| `config.json` | the settings |
| `vocabulary.json`, `sentencepiece.model` | the vocabulary |
| `labels.json` | the classes, in the order of their numbers |
| `split.json` | ids of the rows by what they were used for |
| `weights.safetensors` | the weights |
| `metrics.jsonl` | an evaluation a line |
| `checkpoints/` | what an unfinished run goes on from; gone when it is finished |
"""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from seqssvae.config import Config, override, to_mapping
from seqssvae.data.labels import Labels
from seqssvae.data.vocabulary import Vocabulary, load_vocabulary
from seqssvae.errors import InputError
from seqssvae.runs.checkpoints import CHECKPOINTS, has_checkpoint, remove_debris
from seqssvae.runs.metrics import METRICS
from seqssvae.storage.files import (
    flush,
    line_of,
    parse_json,
    readable,
    to_json,
    writable,
    write_new,
)
from seqssvae.storage.manifest import MANIFEST, SealedFolder, open_sealed, refuse_strangers, seal
from seqssvae.storage.tensors import check_header, from_bytes, to_bytes

__all__ = [
    "RunContents",
    "check_new_run",
    "check_old_run",
    "is_finished",
    "load_run",
    "save_run",
]

FORMAT = 2  # 1 had neither sizes nor a checksum of the manifest
OLDER = {"model": {"ngram_words": False}}  # what a config means that does not name these
CONFIG, LABELS, SPLIT, WEIGHTS = "config.json", "labels.json", "split.json", "weights.safetensors"
VOCABULARY = "vocabulary.json"
STAGING = ".unfinished"  # files of a save that is under way, or was killed
HEADER_BYTES = 2**20  # of a weights file, and some more for each tensor
BYTES_PER_NUMBER = 8

MakeWeights = Callable[[Config, int, int], Mapping[str, Tensor]]


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
            file's `size` and `sha256`, `format` and `sha256`.
    """

    config: Config
    vocabulary: Vocabulary
    labels: Labels
    split: Mapping[str, Sequence[str]]
    weights: dict[str, Tensor]
    manifest: dict[str, Any]


def check_new_run(folder: Path) -> None:
    """Make sure, before the work begins, that a new run can be written; nothing is made.

    Raises:
        InputError: the folder holds something, is no folder, or cannot be written to.
    """
    with readable(folder):
        if folder.is_dir() and any(folder.iterdir()):
            hint = "; --resume continues from its checkpoint"
            found = f"one with files{hint if has_checkpoint(folder) else ''}"
            raise InputError(f"{folder}: wanted a new or an empty folder, got {found}")
        existing = folder.absolute()
        while not (existing.exists() or existing.is_symlink()):
            existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{folder}: wanted a folder, got the file {existing}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: wanted leave to write in {existing}, got none")


def check_old_run(folder: Path) -> None:
    """Make sure that a run can go on, or begin, in a folder; remove what killed saves left.

    Raises:
        InputError: the folder holds something that is no run's, or what `check_new_run` refuses.
    """
    with readable(folder):
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not (MANIFEST in names or CHECKPOINTS in names or names <= {METRICS, STAGING}):
        raise InputError(f"{folder}: wanted a run to go on with, got a folder of other files")
    if not names:
        check_new_run(folder)
    remove_debris(folder)
    with writable(folder / STAGING):
        if (folder / STAGING).is_dir():
            shutil.rmtree(folder / STAGING)


def is_finished(folder: Path) -> bool:
    """Whether a folder says that it holds a finished run."""
    return (folder / MANIFEST).exists()


def save_run(folder: Path, contents: RunContents) -> None:
    """Write a finished run.

    Every file is first written in full and flushed to the disk, then all are renamed, the manifest
    last. A full disk or a kill before the renames leaves an older run as it was; one between them
    leaves files that `load_run` refuses.

    Args:
        folder: Made if it is not there; its metrics are left as they are, and sealed too.
        contents: What to write.

    Raises:
        InputError: the folder cannot be written to.
    """
    with writable(folder):
        staging = folder / STAGING
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            contents.vocabulary.save(staging)
            write_new(staging / CONFIG, to_json(to_mapping(contents.config)))
            contents.labels.save(staging / LABELS)
            write_new(staging / SPLIT, to_json(contents.split))
            write_new(staging / WEIGHTS, to_bytes(contents.weights))
            others = [folder / METRICS] if (folder / METRICS).exists() else []
            for name in seal(staging, contents.manifest, format=FORMAT, others=others):
                os.replace(staging / name, folder / name)
            flush(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        flush(folder.absolute().parent)


def load_run(folder: Path, *, make_weights: MakeWeights | None = None) -> RunContents:
    """Read a finished run, each file checked against the manifest, none of them trusted.

    Args:
        folder: The run's.
        make_weights: Gives the weights that a config, V and K call for, on the meta device. The
            header of the weights file is held to them before anything is made of that size.

    Raises:
        InputError: no such folder, an unfinished run, one of another format, a file that is
            missing, damaged, or of another run, a link, a pickle, or weights that the config does
            not call for; the message names the file.
    """
    sealed = _open(folder)
    for name in sealed.files:
        if name != WEIGHTS:
            sealed.check(name)
    config = parse_json(sealed.read(CONFIG), dict, folder / CONFIG)
    with _no_deep_brackets(folder):
        contents = RunContents(
            config=override(override(Config(), OLDER), config, where=f"{folder / CONFIG}: "),
            vocabulary=load_vocabulary(folder),
            labels=Labels.load(folder / LABELS),
            split=parse_json(sealed.read(SPLIT), dict, folder / SPLIT),
            weights={},
            manifest=sealed.facts,
        )
    if make_weights is not None:
        _check_weights(sealed, contents, make_weights)
    weights = from_bytes(sealed.read(WEIGHTS), folder / WEIGHTS)
    return dataclasses.replace(contents, weights=weights)


def _open(folder: Path) -> SealedFolder:
    with readable(folder):
        if not folder.is_dir():
            found = "a file" if folder.exists() else "no such folder"
            raise InputError(f"{folder}: wanted the folder of a run, got {found}")
        if not os.path.lexists(folder / MANIFEST):
            unfinished = has_checkpoint(folder) or (folder / METRICS).exists()
            found = "an unfinished one" if unfinished else f"a folder without {MANIFEST}"
            raise InputError(f"{folder}: wanted the folder of a finished run, got {found}")
    refuse_strangers(folder)
    return open_sealed(folder, format=FORMAT, required=(CONFIG, VOCABULARY, LABELS, SPLIT, WEIGHTS))


def _check_weights(sealed: SealedFolder, contents: RunContents, make: MakeWeights) -> None:
    """Hold the weights file to what the config calls for; no tensor is made."""
    path = sealed.path / WEIGHTS
    try:
        wanted = make(contents.config, len(contents.vocabulary), len(contents.labels.names))
    except (RuntimeError, OverflowError) as error:  # more numbers than can be counted
        raise InputError(
            f"{sealed.path / CONFIG}: wanted a model that can be, got {line_of(error)}"
        ) from error
    numbers = sum(tensor.numel() for tensor in wanted.values())
    most = BYTES_PER_NUMBER * numbers + HEADER_BYTES
    declared = sealed.files[WEIGHTS]["size"]
    if declared > most:
        raise InputError(f"{path}: wanted at most {most} bytes for the config, got {declared}")
    sealed.check(WEIGHTS)
    check_header(path, wanted)


@contextlib.contextmanager
def _no_deep_brackets(folder: Path) -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise InputError(f"{folder}: wanted JSON, got brackets too deep") from error
