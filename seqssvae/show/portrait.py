"""The numbers and sequences that pictures of a run show; the pictures are drawn elsewhere."""

import dataclasses
import glob
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqssvae.data.batches import evaluation_batches
from seqssvae.data.encode import encode_corpus
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import read_corpus_like
from seqssvae.errors import InputError
from seqssvae.inference.evaluate import evaluate
from seqssvae.inference.latent import kl_per_dim
from seqssvae.runs.metrics import read_metrics
from seqssvae.runs.run import load_run
from seqssvae.show.projection import Principal, project_tsne
from seqssvae.trained import TrainedModel, load

__all__ = ["HeldOut", "Portrait", "portray", "read_held_out", "show_sequence"]

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

NUM_ROWS = 1000  # rows that are shown, at most: what t-SNE places in seconds
NUM_SAMPLES = 6  # sequences written for each label
NUM_EXAMPLES = 8  # rows that are transferred, at most
NUM_STEPS = 7  # of an interpolation
NUM_WALKS = 3
HELD_OUT = ("dev", "dev_unlabelled")  # parts of the split


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Rows that training did not learn from.

    Attributes:
        rows: They, encoded, with the labels that their file has, n of them.
        sequences: They, as they stand in the file.
        source: The file.
    """

    rows: EncodedRows
    sequences: list[str | list[str]]
    source: str


@dataclasses.dataclass(frozen=True)
class Portrait:
    """What there is to see of a run; n rows, K classes, Z dims.

    Attributes:
        name: The run's folder.
        source: The file of the rows.
        labels: Names of the classes; none for the plain VAE.
        metrics: The evaluations of the training, in the order of their steps.
        figures: Of `evaluate`, over the rows.
        sequences: The rows as they stood.
        y: Their classes, -1 where the file has none, `[n]`.
        probabilities: q(y | x), `[n, K]`.
        z_pca: The means of q(z | x, y) by their principal components, `[n, 2]`.
        z_explained: What share of the variance each of the two holds.
        z_tsne: The same by t-SNE, `[n, 2]`.
        logits_tsne: log q(y | x) by t-SNE, `[n, 2]`.
        kl_nats: Mean KL of each dim of z, `[Z]`.
        transfers: Rows written under every label: the row, its own label by q(y | x), and K
            sequences.
        walks: Sequences on the way between two rows, under the likeliest label of the first.
        samples: New sequences of each label; of the only one, "", without classes.
    """

    name: str
    source: str
    labels: tuple[str, ...]
    metrics: list[dict[str, Any]]
    figures: dict[str, Any]
    sequences: list[str]
    y: NDArray[np.int64]
    probabilities: Floats
    z_pca: Floats
    z_explained: Floats
    z_tsne: Floats
    logits_tsne: Floats
    kl_nats: Floats
    transfers: list[tuple[str, str, list[str]]]
    walks: list[list[str]]
    samples: dict[str, list[str]]


def read_held_out(
    run: Path, trained: TrainedModel, data: str | Path | None = None, *, seed: int = 0
) -> HeldOut:
    """Rows to show of a run: of its own file those that were held out, of another file all.

    A file that holds every row of the run's split is taken for the run's own, wherever it stands.
    Labels that training did not see are read too. Dev rows whose labels were learned in the end are
    left out if others have labels. Of more than 1,000 rows, a draw is taken.

    Args:
        run: The run's folder.
        trained: What it holds.
        data: A file or `hub:NAME`; what the run was trained on when None.
        seed: Of the draw.

    Raises:
        InputError: the run's file is not there any more, or bad input.
    """
    source = str(trained.manifest.get("source", "") if data is None else data)
    if data is None and not source.startswith("hub:") and not _is_there(source):
        raise InputError(
            f"{run}: wanted the data that it was trained on, got no file {source or '(no name)'}; "
            "--data FILE says where it is now, or names other rows to show"
        )
    corpus = read_corpus_like(
        source, trained.config, trained.vocabulary, read_labels=bool(trained.labels.names)
    )
    rows = encode_corpus(
        corpus, trained.vocabulary, trained.labels, max_length=trained.config.data.max_length
    )
    split = load_run(run).split
    kept = {id for part in HELD_OUT for id in split.get(part, [])}
    if trained.manifest.get("summary", {}).get("dev_labels_learned"):
        never_read = set(split.get("dev_unlabelled", []))
        if any(y >= 0 for id, y in zip(rows.ids, rows.y, strict=True) if id in never_read):
            kept = never_read
        else:
            logger.warning("%s learned the labels of its dev rows in the end: figures flatter", run)
    known = {id for ids in split.values() for id in ids}
    chosen = np.arange(len(rows))
    if not known.difference(rows.ids):
        held = np.array([i for i, id in enumerate(rows.ids) if id in kept], dtype=np.int64)
        if len(held):
            chosen = held
        else:
            logger.warning("%s held no rows out: rows of its training are shown", run)
    if len(chosen) > NUM_ROWS:
        draw = np.random.default_rng(seed).permutation(len(chosen))[:NUM_ROWS]
        chosen = np.sort(chosen[draw])
    logger.info("%d of %d rows of %s are shown", len(chosen), len(rows), source)
    return HeldOut(rows.take(chosen), [corpus.sequence(int(i)) for i in chosen], source)


def portray(run: str | Path, data: str | Path | None = None, *, seed: int = 0) -> Portrait:
    """Measure and write what the pictures of a run show.

    Args:
        run: The run's folder.
        data: As in `read_held_out`.
        seed: Of all that is drawn.

    Raises:
        InputError: no such run, no data, or bad input.
    """
    run = Path(run)
    trained = load(run)
    held_out = read_held_out(run, trained, data, seed=seed)
    rows, num_rows = held_out.rows, len(held_out.rows)
    encoded = trained.encode_rows(rows)
    loc, probabilities = encoded["loc"], encoded["probabilities"].astype(np.float64)
    empty = np.zeros((num_rows, 2))
    principal = Principal(loc) if loc.shape[1] else None
    logits = np.log(probabilities.clip(1e-12))
    return Portrait(
        name=str(run),
        source=held_out.source,
        labels=trained.labels.names,
        metrics=read_metrics(run),
        figures=evaluate(trained.model, rows, num_samples=4, seed=seed),
        sequences=[show_sequence(sequence) for sequence in held_out.sequences],
        y=rows.y,
        probabilities=probabilities,
        z_pca=empty if principal is None else principal(loc),
        z_explained=np.zeros(2) if principal is None else principal.explained,
        z_tsne=empty if principal is None else project_tsne(loc, seed=seed),
        logits_tsne=project_tsne(logits, seed=seed) if trained.labels.names else empty,
        kl_nats=_mean_kl(trained, rows),
        transfers=_transfers(trained, held_out, probabilities),
        walks=_walks(trained, held_out, seed),
        samples={
            name: [show_sequence(s) for s in trained.generate(name or None, NUM_SAMPLES, seed=seed)]
            for name in trained.labels.names or ("",)
        },
    )


def show_sequence(sequence: str | Sequence[str]) -> str:
    """A sequence as one printable line: tokens apart by spaces, control characters as U+FFFD.

    Example:
        >>> show_sequence(["e4", "e5"])
        'e4 e5'
    """
    text = sequence if isinstance(sequence, str) else " ".join(sequence)
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def _is_there(source: str) -> bool:
    """Whether there is a file of this name, or several."""
    return bool(source) and (Path(source).exists() or bool(glob.glob(source, recursive=True)))


def _mean_kl(trained: TrainedModel, rows: EncodedRows) -> Floats:
    num_classes = trained.model.num_classes
    total = np.zeros(trained.model.latent_size)
    for _, batch in evaluation_batches(rows, 256, num_classes=num_classes):
        total += kl_per_dim(trained.model, batch).sum(0).double().cpu().numpy()
    return total / len(rows)


def _transfers(
    trained: TrainedModel, held_out: HeldOut, probabilities: Floats
) -> list[tuple[str, str, list[str]]]:
    """The surest rows of the labels in turn, under every label."""
    names = trained.labels.names
    if not names:
        return []
    chosen: list[int] = []
    for y in range(min(len(names), NUM_EXAMPLES)):
        own = (probabilities.argmax(1) == y).nonzero()[0]
        if len(own):
            chosen.append(int(own[probabilities[own, y].argmax()]))
    sequences: list[Any] = [held_out.sequences[i] for i in chosen]
    written = [trained.transfer(sequences, to=name) for name in names]
    return [
        (
            show_sequence(sequence),
            names[int(probabilities[i].argmax())],
            [show_sequence(column[place]) for column in written],
        )
        for place, (i, sequence) in enumerate(zip(chosen, sequences, strict=True))
    ]


def _walks(trained: TrainedModel, held_out: HeldOut, seed: int) -> list[list[str]]:
    """Ways between rows that were drawn."""
    if not trained.model.latent_size or len(held_out.sequences) < 2:
        return []
    order = np.random.default_rng(seed).permutation(len(held_out.sequences))[: 2 * NUM_WALKS]
    pairs = zip(order[::2].tolist(), order[1::2].tolist(), strict=False)
    return [
        [
            show_sequence(sequence)
            for sequence in trained.interpolate(
                held_out.sequences[a], held_out.sequences[b], steps=NUM_STEPS
            )
        ]
        for a, b in pairs
    ]
