"""The numbers and sequences that the pictures of a run show."""

import dataclasses
import glob
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from seqssvae import progress
from seqssvae.data.batches import evaluation_batches
from seqssvae.data.corpus import HUB_PREFIX, SEPARATOR, Files, source_name
from seqssvae.data.encode import encode_corpus
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import read_corpus_like
from seqssvae.errors import InputError
from seqssvae.inference.evaluate import evaluate
from seqssvae.inference.latent import kl_per_dim
from seqssvae.runs.metrics import read_metrics
from seqssvae.trained import TrainedModel, load_with_split

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

NUM_ROWS = 1000  # which t-SNE embeds in seconds
NUM_SAMPLES = 6  # generated sequences per label
NUM_EXAMPLES = 8  # transferred rows, at most
NUM_STEPS, NUM_WALKS = 7, 3  # sequences per interpolation, and interpolations
PERPLEXITY = 30.0  # of t-SNE, unless there are too few rows (van der Maaten and Hinton 2008)


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Rows that training did not learn from, if there are any.

    Attributes:
        rows: The encoded rows, with their labels, n of them.
        sequences: The same rows, as in the file.
        source: The file.
        learned: Whether training learned from them.
    """

    rows: EncodedRows
    sequences: list[str | list[str]]
    source: str
    learned: bool = False


@dataclasses.dataclass(frozen=True)
class Portrait:
    """What the pictures of a run show; n rows, K classes, Z dims.

    Attributes:
        name: The run's folder.
        source: The file of the rows.
        labels: Names of the classes; none for the plain VAE.
        metrics: The evaluations during training, in order of their steps.
        figures: The result of `evaluate` on the rows.
        sequences: The rows, as printable lines.
        y: Classes of the rows, -1 for unlabelled ones, `[n]`.
        probabilities: q(y | x), `[n, K]`.
        z_pca: Principal components of the means of q(z | x, y), `[n, 2]`.
        z_explained: Share of the variance of each of the two components, `[2]`.
        z_tsne: t-SNE of the means of q(z | x, y), `[n, 2]`.
        logits_tsne: t-SNE of log q(y | x), `[n, 2]`.
        kl_nats: Mean KL of each dim of z, `[Z]`.
        transfers: Rows decoded under every label: the row, its predicted label, and K sequences.
        walks: Interpolations between two rows, under the predicted label of the first.
        samples: Generated sequences by label; without classes the only label is "".
        learned: Whether training learned from the rows.
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
    learned: bool = False


def load_held_out(
    run: str | Path,
    data: Files | None = None,
    *,
    seed: int = 0,
    num_rows: int = NUM_ROWS,
    device: str = "auto",
) -> tuple[TrainedModel, HeldOut]:
    """Load a run and the rows to show of it.

    If the data has all rows of the run's split, these are its held-out rows; otherwise they are all
    rows of the data. Labels that training did not read are read too. Dev rows whose labels were
    learned at the end of training are left out if other held-out rows have labels.

    Args:
        run: The run's folder.
        data: A file or `hub:NAME`; the run's training data when None.
        seed: Seed of the sample of rows.
        num_rows: The most rows; of more, a random sample is taken.
        device: Where the model runs, as of `load`.

    Raises:
        InputError: no such run, the training data no longer exists, or bad input.
    """
    trained, split = load_with_split(run, device)
    source = source_name(trained.manifest.get("source", "") if data is None else data)
    if data is None:
        data = source if _exists(source) else source.split(SEPARATOR)
        if not all(map(_exists, data if isinstance(data, list) else [data])):
            raise InputError(
                f"{run}: wanted the data that it was trained on, got no file "
                f"{source or '(no name)'}; --data FILE says where it is now, or names other rows"
            )
    corpus = read_corpus_like(
        data, trained.config, trained.vocabulary, read_labels=bool(trained.labels.names)
    )
    rows = encode_corpus(
        corpus,
        trained.vocabulary,
        trained.labels,
        max_length=trained.config.data.max_length,
        whole_length=trained.config.whole_length,
    )
    chosen, learned = np.arange(len(rows)), False
    if not {id for ids in split.values() for id in ids}.difference(rows.ids):
        held_out, learned = _held_out_ids(trained, split, rows)
        inside = np.array([id in held_out for id in rows.ids])
        if inside.any():
            chosen = inside.nonzero()[0]
        else:
            logger.warning("%s has no held-out rows: its training rows are shown", run)
            learned = True
    if len(chosen) > num_rows:
        sample = np.random.default_rng(seed).permutation(len(chosen))[:num_rows]
        chosen = np.sort(chosen[sample])
    logger.info("showing %d of %d rows of %s", len(chosen), len(rows), source)
    sequences = [corpus.sequence(int(i)) for i in chosen]
    return trained, HeldOut(rows.take(chosen), sequences, source, learned)


def _exists(source: str) -> bool:
    """Whether there is such a file or data set, or a file of such a pattern."""
    is_file = Path(source).exists() or bool(glob.glob(source, recursive=True))
    return source.startswith(HUB_PREFIX) or (bool(source) and is_file)


def _held_out_ids(
    trained: TrainedModel, split: Mapping[str, Sequence[str]], rows: EncodedRows
) -> tuple[set[str], bool]:
    """Ids of the rows that training held out, and whether it learned their labels in the end."""
    dev, dev_unlabelled = (set(split.get(part, ())) for part in ("dev", "dev_unlabelled"))
    if not trained.manifest.get("summary", {}).get("dev_labels_learned"):
        return dev | dev_unlabelled, False
    if any(y >= 0 for id, y in zip(rows.ids, rows.y, strict=True) if id in dev_unlabelled):
        return dev_unlabelled, False
    logger.warning("training learned the labels of the dev rows: metrics on them are optimistic")
    return dev | dev_unlabelled, True


def portray(
    run: str | Path, data: Files | None = None, *, seed: int = 0, device: str = "auto"
) -> Portrait:
    """Compute what the pictures of a run show.

    Args:
        run: The run's folder.
        data: As in `load_held_out`.
        seed: Seed of all samples and of t-SNE.
        device: Where the model runs, as of `load`.

    Raises:
        InputError: no such run, no data, or bad input.
    """
    trained, held_out = load_held_out(run, data, seed=seed, device=device)
    rows, names, sequences = held_out.rows, trained.labels.names, held_out.sequences
    encoded = trained.encode_rows(rows)
    loc, probabilities = pad_dims(encoded["loc"]), encoded["probabilities"].astype(np.float64)
    pca = fit_pca(loc)
    return Portrait(
        name=str(run),
        source=held_out.source,
        learned=held_out.learned,
        labels=names,
        metrics=read_metrics(Path(run)),
        figures=evaluate(trained.model, rows, num_samples=4, seed=seed),
        sequences=list(map(show_sequence, sequences)),
        y=rows.y,
        probabilities=probabilities,
        z_pca=pca.transform(loc),
        z_explained=np.nan_to_num(pca.explained_variance_ratio_),
        z_tsne=project_tsne(loc, seed=seed),
        logits_tsne=project_tsne(pad_dims(np.log(probabilities.clip(1e-12))), seed=seed),
        kl_nats=_mean_kl(trained, rows),
        transfers=_transfers(trained, sequences, probabilities) if names else [],
        walks=_walks(trained, sequences, seed) if trained.model.latent_size else [],
        samples={
            name: list(map(show_sequence, trained.generate(name or None, NUM_SAMPLES, seed=seed)))
            for name in names or ("",)
        },
    )


def pad_dims(points: NDArray[np.floating]) -> Floats:
    """Points `[n, D]` with columns of zeros up to D = 2."""
    return np.pad(points.astype(np.float64), ((0, 0), (0, max(0, 2 - points.shape[1]))))


def fit_pca(points: Floats) -> PCA:
    """Principal components of points `[n, D]`, D at least 2; shares of variance may be NaN."""
    with np.errstate(invalid="ignore"):  # of points that are all equal
        return PCA(2, svd_solver="full").fit(np.repeat(points, 1 + (len(points) == 1), axis=0))


def project_tsne(points: Floats, *, seed: int = 0) -> Floats:
    """t-SNE of points `[n, D]`, D at least 2: `[n, 2]`; PCA if n < 4 or all points are equal."""
    if len(points) < 4 or not np.ptp(points, axis=0).any():
        projected: Floats = fit_pca(points).transform(points)
        return projected
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    with progress.announced(f"t-SNE of {len(points)} points"):
        embedded: Floats = tsne.fit_transform(points.astype(np.float32)).astype(np.float64)
    return embedded


def show_sequence(sequence: str | Sequence[str]) -> str:
    """A sequence as one printable line: tokens joined by spaces, control characters as U+FFFD.

    Example:
        >>> show_sequence(["e4", "e5"])
        'e4 e5'
    """
    text = sequence if isinstance(sequence, str) else " ".join(sequence)
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def _mean_kl(trained: TrainedModel, rows: EncodedRows) -> Floats:
    total = np.zeros(trained.model.latent_size)
    for _, batch in evaluation_batches(rows, 256, num_classes=trained.model.num_classes):
        total += kl_per_dim(trained.model, batch).sum(0).cpu().double().numpy()
    return total / len(rows)


def _transfers(
    trained: TrainedModel, sequences: Sequence[Any], probabilities: Floats
) -> list[tuple[str, str, list[str]]]:
    """For each of the first labels, the row with the highest probability, under every label."""
    names, best = trained.labels.names, probabilities.argmax(1)
    predicted = [y for y in range(min(len(names), NUM_EXAMPLES)) if (best == y).any()]
    chosen = [int(np.where(best == y, probabilities[:, y], -1).argmax()) for y in predicted]
    examples = [sequences[i] for i in chosen]
    columns = [map(show_sequence, trained.transfer(examples, to=name)) for name in names]
    return [
        (show_sequence(example), names[y], list(written))
        for example, y, written in zip(examples, predicted, zip(*columns, strict=True), strict=True)
    ]


def _walks(trained: TrainedModel, sequences: Sequence[Any], seed: int) -> list[list[str]]:
    """Interpolations between random pairs of rows."""
    order = np.random.default_rng(seed).permutation(len(sequences))[: 2 * NUM_WALKS].tolist()
    return [
        list(map(show_sequence, trained.interpolate(sequences[a], sequences[b], steps=NUM_STEPS)))
        for a, b in zip(order[::2], order[1::2], strict=False)
    ]
