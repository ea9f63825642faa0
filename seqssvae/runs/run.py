"""The folder of a run, which a kill at any moment leaves whole or refused.

| file | holds |
| --- | --- |
| `SHA256SUMS` | checksums of the files, for `sha256sum -c` |
| `manifest.json` | source of the rows, versions, a summary; written last |
| `config.json` | the settings |
| `vocabulary.json`, `sentencepiece.model` | the vocabulary |
| `labels.json` | the classes, in the order of their numbers |
| `split.json` | ids of the rows by their use in training |
| `weights.safetensors` | the weights |
| `metrics.jsonl` | an evaluation a line |
| `checkpoints/` | state to resume an unfinished run from; removed when it is finished |
"""

import dataclasses
import glob
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from seqssvae.config import Config
from seqssvae.data.columns import voters_of
from seqssvae.data.corpus import SEPARATOR, Corpus
from seqssvae.data.labels import Labels
from seqssvae.data.tables import HUB_PREFIX
from seqssvae.data.vocabulary import Vocabulary, load_vocabulary
from seqssvae.errors import InputError
from seqssvae.model.build import build_networks, meta_weights
from seqssvae.model.ssvae import SSVAE
from seqssvae.overrides import override, to_mapping
from seqssvae.runs.checkpoints import CHECKPOINTS, has_checkpoint, remove_leftovers
from seqssvae.runs.metrics import METRICS
from seqssvae.storage.checksums import (
    CheckedFolder,
    parse_sums,
    read_small,
    refuse_unsafe,
    seal,
)
from seqssvae.storage.files import (
    flush,
    line_of,
    parse_json,
    readable,
    remove_folder,
    to_json,
    writable,
    write_new,
)
from seqssvae.storage.tensors import check_header, from_bytes, to_bytes

FORMAT = 3
OLD_FORMAT = 2  # the manifest lists the checksums, its own last
# values of settings that older configs do not have
OLDER = {
    "model": {"ngram_words": False, "decoder_ngrams": 0},
    "data": {"ngram_reach": 1},
}
CONFIG, LABELS, SPLIT, WEIGHTS = "config.json", "labels.json", "split.json", "weights.safetensors"
MANIFEST, VOCABULARY = "manifest.json", "vocabulary.json"
REQUIRED = (CONFIG, VOCABULARY, LABELS, SPLIT)
STAGING = ".unfinished"  # files of a save that is in progress, or was killed
HEADER_BYTES = 2**20  # of a weights file, and some more for each tensor
BYTES_PER_NUMBER = 8
NGRAM_TABLES = ("decoder.ngrams.keys", "decoder.ngrams.counts")  # a row for each n-gram
NGRAM_BACKOFF = "decoder.ngrams.backoff"  # earlier versions had none


@dataclasses.dataclass(frozen=True)
class RunContents:
    """Contents of a finished run.

    Attributes:
        config: The settings.
        vocabulary: Symbols to ids and back.
        labels: The classes; none for the plain VAE.
        split: Ids of the rows by their use in training.
        weights: A state dict; tied weights are stored once for each name.
        manifest: Plain values: versions, source, a summary.
        checksum: SHA-256 of the checksums of a loaded run's files.
    """

    config: Config
    vocabulary: Vocabulary
    labels: Labels
    split: Mapping[str, Sequence[str]]
    weights: dict[str, Tensor]
    manifest: dict[str, Any]
    checksum: str = ""


def check_new_run(folder: Path) -> None:
    """Check, before training, that a new run can be written; nothing is created.

    Raises:
        InputError: the folder holds something, is no folder, or cannot be written to.
    """
    with readable(folder):
        if folder.is_dir() and any(folder.iterdir()):
            hint = "; --resume continues from its checkpoint"
            got = f"one with files{hint if has_checkpoint(folder) else ''}"
            raise InputError(f"{folder}: wanted a new or an empty folder, got {got}")
        existing = folder.absolute()
        while not (existing.exists() or existing.is_symlink()):
            existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{folder}: wanted a folder, got the file {existing}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: wanted write permission for {existing}, got none")


def check_old_run(folder: Path) -> None:
    """Check that a run can be resumed or started in a folder; remove files of killed saves.

    Raises:
        InputError: the folder holds files of something else, or `check_new_run` refuses it.
    """
    with readable(folder):
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not (MANIFEST in names or CHECKPOINTS in names or names <= {METRICS, STAGING}):
        raise InputError(f"{folder}: wanted a run to resume, got a folder of other files")
    if not names:
        check_new_run(folder)
    remove_leftovers(folder)
    remove_folder(folder / STAGING)


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a finished run, damaged or not."""
    return (folder / MANIFEST).exists()


def describe_sources(folder: Path, corpus: Corpus) -> dict[str, Any]:
    """A manifest's source of the training rows, and files by their paths from a folder.

    `training_files` finds these.
    """
    vectors = () if corpus.vectors is None else corpus.vectors.files
    files = {
        "files": _split_names(corpus.source),
        "labels": _split_names(corpus.labels_source),
        "vectors": list(vectors),
    }
    return {"source": corpus.source} | {
        kind: [one if one.startswith(HUB_PREFIX) else os.path.relpath(one, folder) for one in names]
        for kind, names in files.items()
    }


def training_files(
    folder: str | Path, manifest: Mapping[str, Any], *, kind: str = "files"
) -> list[str] | None:
    """The files that a run was trained on, from whatever folder it is used; None if some are gone.

    Args:
        folder: Folder of the run.
        manifest: Its manifest. Where the files are not at their place beside the run, as where it
            was copied alone, they are looked for under the names of training.
        kind: "files" of rows, "labels", those with their labels, or "vectors", theirs.
    """
    seen = [
        one if one.startswith(HUB_PREFIX) else os.path.normpath(os.path.join(folder, one))
        for one in manifest.get(kind) or ()
    ]
    named = _split_names(str(manifest.get("source", ""))) if kind == "files" else []
    return next((files for files in (seen, named) if files and all(map(_exists, files))), None)


def _split_names(source: str) -> list[str]:
    if not source or _exists(source):
        return [source] * bool(source)
    return source.split(SEPARATOR)


def _exists(source: str) -> bool:
    """Whether there is such a file or data set, or a file of such a pattern."""
    is_file = Path(source).exists() or bool(glob.glob(source, recursive=True))
    return source.startswith(HUB_PREFIX) or (bool(source) and is_file)


def save_run(folder: Path, contents: RunContents) -> None:
    """Write a finished run.

    Every file is first written in full and flushed to the disk, then all are renamed, the manifest
    last. A full disk or a kill before the renames leaves an older run as it was; one between them
    leaves files that `load_run` refuses.

    Args:
        folder: Created if it does not exist; its metrics are kept, and listed too.
        contents: Contents of the run.

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
            write_new(staging / MANIFEST, to_json({**contents.manifest, "format": FORMAT}))
            metrics = [folder / METRICS] if (folder / METRICS).exists() else []
            for name in sorted(seal(staging, *metrics), key=lambda name: name == MANIFEST):
                os.replace(staging / name, folder / name)
            flush(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        flush(folder.absolute().parent)


def load_run(folder: Path, *, check_weights: bool = False) -> RunContents:
    """Read a finished run, each file checked against its checksum, none of them trusted.

    Args:
        folder: Folder of the run.
        check_weights: Compare the header of the weights file with the weights of the config before
            memory of that size is allocated.

    Raises:
        InputError: no such folder, an unfinished run, one of another format, a file that is
            missing, damaged, or of another run, a link, a pickle, or weights of other shapes than
            the config's; the message names the file.
    """
    files, manifest = _open(folder)
    for name in dict.fromkeys([*REQUIRED, *files.sums]):
        if name != WEIGHTS:
            files.check(name)
    config = parse_json(files.read(CONFIG), dict, folder / CONFIG)
    try:
        contents = RunContents(
            config=override(override(Config(), OLDER), config, where=f"{folder / CONFIG}: "),
            vocabulary=load_vocabulary(folder),
            labels=Labels.load(folder / LABELS),
            split=parse_json(files.read(SPLIT), dict, folder / SPLIT),
            weights={},
            manifest=manifest,
            checksum=hashlib.sha256(repr(sorted(files.sums.items())).encode()).hexdigest(),
        )
    except RecursionError as error:
        raise InputError(f"{folder}: wanted JSON, got brackets too deep") from error
    if check_weights:
        _check_weights(files, contents)
    weights = from_bytes(files.read(WEIGHTS), folder / WEIGHTS)
    return dataclasses.replace(contents, weights=weights)


def restore_model(contents: RunContents, where: str) -> SSVAE:
    """The networks of a run with its weights, in evaluation mode.

    Args:
        contents: Contents of the run.
        where: Folder or name of the run, for errors.

    Raises:
        InputError: the weights are not those of the config, or its `model.class` cannot be
            imported.
    """
    model = build_networks(
        contents.config.model,
        vocabulary_size=len(contents.vocabulary),
        num_classes=len(contents.labels.names),
        label_columns=contents.labels.sizes,
        voters=voters_of(contents.config.data.vote_columns),
        where=f"{where}: ",
    )
    try:
        model.load_state_dict(contents.weights)
    except RuntimeError as error:
        got = str(error).splitlines()[1:2] or [str(error)]
        of = contents.config.model.class_ or CONFIG
        raise InputError(f"{where}: wanted the weights of {of}, got {got[0].strip()}") from error
    return model.eval()


def _open(folder: Path) -> tuple[CheckedFolder, dict[str, Any]]:
    """The files of a finished run, not checked yet, and its manifest."""
    path = folder / MANIFEST
    with readable(folder):
        if not folder.is_dir():
            got = "a file" if folder.exists() else "no such folder"
            raise InputError(f"{folder}: wanted the folder of a run, got {got}")
        if not os.path.lexists(path):
            unfinished = has_checkpoint(folder) or (folder / METRICS).exists()
            got = "an unfinished one" if unfinished else f"a folder without {MANIFEST}"
            raise InputError(f"{folder}: wanted the folder of a finished run, got {got}")
    refuse_unsafe(folder)
    content = read_small(path)
    manifest: dict[str, Any] = parse_json(content, dict, path)
    if manifest.get("format") == FORMAT:
        return CheckedFolder.open(folder), manifest
    if manifest.get("format") != OLD_FORMAT:
        got = f"{manifest.get('format')!r:.100}"
        raise InputError(f"{path}: wanted format {FORMAT}, got {got}")
    body, _, ending = content.rpartition(b',\n "sha256": "')
    if ending != hashlib.sha256(body).hexdigest().encode() + b'"\n}\n':
        raise InputError(f"{path}: wanted the manifest that was written, got a damaged one")
    try:
        lines = [f"{entry['sha256']}  {name}\n" for name, entry in manifest["files"].items()]
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: wanted a checksum of each file, got none") from error
    sums = parse_sums("".join(lines).encode(errors="surrogatepass"), path)
    return CheckedFolder(folder, sums, listed_in=MANIFEST), manifest


def _check_weights(files: CheckedFolder, contents: RunContents) -> None:
    """Compare the weights file with the weights of the config; no tensor is made."""
    path = files.path / WEIGHTS
    if contents.config.model.class_ is not None:  # which need not be able to build without memory
        files.check(WEIGHTS)
        return
    try:
        wanted = meta_weights(contents.config, len(contents.vocabulary), contents.labels)
    except (RuntimeError, OverflowError) as error:  # more numbers than can be counted
        raise InputError(
            f"{files.path / CONFIG}: wanted a model that can be built, got {line_of(error)}"
        ) from error
    numbers = sum(tensor.numel() for tensor in wanted.values())
    limit = BYTES_PER_NUMBER * numbers + HEADER_BYTES
    with readable(path):
        size = path.lstat().st_size
    if size > limit:
        raise InputError(f"{path}: wanted at most {limit} bytes for the config, got {size}")
    files.check(WEIGHTS)
    check_header(path, wanted, growing=NGRAM_TABLES, optional=(NGRAM_BACKOFF,))
