"""The numbers and sequences that the pictures of a run show."""

import contextlib
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from seqssvae import progress
from seqssvae.data.batches import evaluation_batches
from seqssvae.data.corpus import Corpus, Source
from seqssvae.data.encode import encode_given
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.sources import encode_like, read_corpus_like, read_with_labels
from seqssvae.data.tables import HUB_PREFIX
from seqssvae.errors import InputError
from seqssvae.inference.conformal import COVERAGE
from seqssvae.inference.evaluate import evaluate
from seqssvae.inference.latent import kl_per_dim
from seqssvae.inference.tally import measure_levels
from seqssvae.overrides import override
from seqssvae.runs.metrics import read_metrics
from seqssvae.runs.run import training_files
from seqssvae.show.examples import ConfusedPair, find_confused_pairs, find_nearest, show_sequence
from seqssvae.show.reasons import Reasons, example_reasons
from seqssvae.show.rewritten import transferred, walked
from seqssvae.show.scorecard import Scorecard, measure_scorecard
from seqssvae.storage.vectors import with_vectors
from seqssvae.trained import TrainedModel, load_with_split
from seqssvae.training.resume import checksum_rows

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

NUM_ROWS = 1000  # which t-SNE embeds in seconds
NUM_TRAINING = 20_000  # that generated sequences are compared with, at most
NUM_SAMPLES = 6  # generated sequences per label
PERPLEXITY = 30.0  # of t-SNE, unless there are too few rows (van der Maaten and Hinton 2008)


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Rows that training did not learn from, if there are any.

    Attributes:
        rows: The encoded rows, with their labels, n of them.
        sequences: The same rows, as in the file.
        source: The file.
        learned: Whether training learned from them.
        training: A corpus, and those of its rows that training learned from, a sample if there
            are many; None if its files are not there.
    """

    rows: EncodedRows
    sequences: list[str | list[str]]
    source: str
    learned: bool = False
    training: tuple[Corpus, EncodedRows] | None = None


@dataclasses.dataclass(frozen=True)
class Portrait:
    """What the pictures of a run show; n rows, K classes, Z dims.

    Attributes:
        name: The run's folder.
        source: The file of the rows.
        labels: Names of the classes; none for the plain VAE.
        metrics: The evaluations during training, in order of their steps.
        figures: The result of `evaluate` on the rows, with `levels` of a label tree.
        sequences: The rows, as printable lines.
        y: Classes of the rows, -1 for unlabelled ones, `[n]`.
        probabilities: Of the labels, in the mode in which the run classifies, `[n, K]`.
        z_pca: Principal components of the means of q(z | x, y), `[n, 2]`.
        z_explained: Share of the variance of each of the two components, `[2]`.
        z_tsne: t-SNE of the means of q(z | x, y), `[n, 2]`.
        logits_tsne: t-SNE of log q(y | x), `[n, 2]`.
        kl_nats: Mean KL of each dim of z, `[Z]`.
        transfers: Rows decoded under every label: the row, its predicted label, and K sequences.
        walks: Interpolations between two rows, under the predicted label of the first.
        samples: Generated sequences by label; without classes the only label is "". Those of the
            same number share z.
        learned: Whether training learned from the rows.
        summary: That of the run, see `seqssvae.fit`.
        free_bits: Nats of KL of each dim of z that cost nothing in training.
        z_knows_y: Whether the label is read from z, or z has a prior of each label.
        confused: Pairs of labels that are confused most often.
        nearest: The training rows most like `samples`, in the same places; empty if the training
            rows are not known.
        num_compared: Training rows that these were chosen from.
        reasons: Some rows in colours for what they say of their label.
        scorecard: Further generated sequences beside the rows.
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
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)
    free_bits: float = 0.0
    z_knows_y: bool = False
    confused: list[ConfusedPair] = dataclasses.field(default_factory=list)
    nearest: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    num_compared: int = 0
    scorecard: Scorecard | None = None
    reasons: list[Reasons] = dataclasses.field(default_factory=list)


def load_held_out(
    run: str | Path,
    data: Source | None = None,
    *,
    seed: int = 0,
    num_rows: int = NUM_ROWS,
    device: str = "auto",
) -> tuple[TrainedModel, HeldOut]:
    """Load a run and the rows to show of it.

    Of the data of training, under whatever name, these are its held-out rows; otherwise they are
    all rows of the data. Labels that training did not read are read too. Dev rows whose labels were
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
    is_own, own = data is None, _own_rows(run, trained)
    given: Source | None = own if data is None else data
    if given is None:
        raise InputError(
            f"{run}: wanted the data that it was trained on, got no file "
            f"{trained.manifest.get('source') or '(no name)'}; --data FILE says where it is now, "
            "or names other rows"
        )
    corpus, rows = _read_rows(trained, given)
    source, chosen, learned, training = corpus.source, np.arange(len(rows)), False, None
    if _is_trained_on(trained.manifest, split, rows, is_own=is_own):
        ids, learned = _held_out_ids(trained, split, rows)
        inside = np.array([id in ids for id in rows.ids])
        training = _training_rows(split, corpus, rows, seed)
        if inside.any():
            chosen = inside.nonzero()[0]
        else:
            logger.warning("%s has no held-out rows: its training rows are shown", run)
            learned = True
    elif is_own:
        logger.warning("%s has changed since training: all of its rows are shown", source)
    elif own is not None and HUB_PREFIX not in str(own):  # a data set is not fetched
        with contextlib.suppress(InputError):  # a file that has changed
            training = _training_rows(split, *_read_rows(trained, own), seed)
    chosen = _sample(chosen, num_rows, seed)
    logger.info("showing %d of %d rows of %s", len(chosen), len(rows), source)
    sequences = [corpus.sequence(int(i)) for i in chosen]
    alone = override(trained.config, {"data.missing_vectors": True})  # sequences without their rows
    held_out = HeldOut(rows.take(chosen), sequences, source, learned, training)
    return dataclasses.replace(trained, config=alone), held_out


def _own_rows(run: str | Path, trained: TrainedModel) -> Source | None:
    """The files that a run was trained on, with labels and vectors; None if they are gone."""
    files, labels, vectors = (
        training_files(run, trained.manifest, kind=kind) for kind in ("files", "labels", "vectors")
    )
    if files is None:
        return None
    own = files if labels is None else read_with_labels(files, labels, trained.config.data)
    if vectors is None:
        return own
    one = vectors[0] if len(vectors) == 1 else np.concatenate([np.load(file) for file in vectors])
    return with_vectors(own, one)


def _read_rows(trained: TrainedModel, data: Source) -> tuple[Corpus, EncodedRows]:
    """Rows with their labels, as in the files and encoded."""
    read_labels: bool | Literal["maybe"] = "maybe" if trained.labels.names else False
    corpus = read_corpus_like(data, trained.config, trained.vocabulary, read_labels=read_labels)
    rows = encode_like(corpus, trained.config, trained.vocabulary, trained.labels)
    return corpus, rows


def _training_rows(
    split: Mapping[str, Sequence[str]], corpus: Corpus, rows: EncodedRows, seed: int
) -> tuple[Corpus, EncodedRows]:
    """A corpus, and a sample of those of its rows that are not in the dev parts of the split."""
    dev = {*split.get("dev", ()), *split.get("dev_unlabelled", ())}
    outside = np.array([id not in dev for id in rows.ids]).nonzero()[0]
    return corpus, rows.take(_sample(outside, NUM_TRAINING, seed))


def _sample(numbers: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Some of the numbers, in ascending order; all of them, if they are no more than `size`."""
    if len(numbers) <= size:
        return numbers
    return np.sort(np.random.default_rng(seed).permutation(numbers)[:size])


def _is_trained_on(
    manifest: Mapping[str, Any],
    split: Mapping[str, Sequence[str]],
    rows: EncodedRows,
    *,
    is_own: bool,
) -> bool:
    """Whether rows are those of training: they have all ids of the split, and its held-out rows.

    Args:
        manifest: The manifest of the run.
        split: Ids by part.
        rows: The rows.
        is_own: The answer for a run without a split.
    """
    place = {id: row for row, id in enumerate(rows.ids)}
    ids = [id for part in split.values() for id in part]
    if not ids or not all(id in place for id in ids):
        return is_own and not ids
    held_out = [place[id] for part in ("dev", "dev_unlabelled") for id in split.get(part, ())]
    checksum = checksum_rows(rows.take(np.array(held_out, np.int64)), labels=False)
    return bool(manifest.get("dev_rows", checksum) == checksum)  # older runs have none


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
    run: str | Path, data: Source | None = None, *, seed: int = 0, device: str = "auto"
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
    encoded, shown = trained.encode_rows(rows), list(map(show_sequence, sequences))
    loc, log_q = pad_dims(encoded["loc"]), np.log(encoded["probabilities"].clip(1e-12))
    probabilities = trained.classify_table(rows) if names else np.zeros((len(rows), 0))
    pca, has_decoder = fit_pca(loc), not trained.is_classifier
    written = {
        name: trained.generate(name or None, NUM_SAMPLES, seed=seed)
        for name in (names or ("",)) * has_decoder
    }
    nearest, num_compared = _nearest(trained, written, held_out)
    return Portrait(
        name=str(run),
        source=held_out.source,
        learned=held_out.learned,
        labels=names,
        metrics=read_metrics(Path(run)),
        figures=_measure(trained, rows, seed),
        sequences=shown,
        y=rows.y,
        probabilities=probabilities,
        z_pca=pca.transform(loc),
        z_explained=np.nan_to_num(pca.explained_variance_ratio_),
        z_tsne=project_tsne(loc, seed=seed),
        logits_tsne=project_tsne(pad_dims(log_q), seed=seed),
        kl_nats=_mean_kl(trained, rows),
        transfers=transferred(trained, sequences, probabilities) if names and has_decoder else [],
        walks=walked(trained, sequences, seed) if trained.model.latent_size else [],
        samples={name: list(map(show_sequence, row)) for name, row in written.items()},
        summary=trained.manifest.get("summary") or {},
        free_bits=trained.config.objective.free_bits,
        z_knows_y=trained.model.y_reads_z or trained.model.z_prior.reads_y,
        confused=find_confused_pairs(rows.y, probabilities, names, shown),
        nearest=nearest,
        num_compared=num_compared,
        reasons=example_reasons(trained, rows, probabilities),
        scorecard=measure_scorecard(trained, sequences, rows.y, seed),
    )


def _measure(trained: TrainedModel, rows: EncodedRows, seed: int) -> dict[str, Any]:
    figures = evaluate(
        trained.model,
        rows,
        num_samples=4,
        likelihood_rows=0 if trained.is_classifier else None,
        seed=seed,
        mode=trained.default_mode,
        weights=trained.weights(),
        greatest=trained.greatest_losses(COVERAGE) if trained.has_sets else None,
    )
    return figures | measure_levels(trained.labels, rows, trained.classify_table)


def _nearest(
    trained: TrainedModel, written: Mapping[str, list[Any]], held_out: HeldOut
) -> tuple[dict[str, list[str]], int]:
    """The training row most like each generated sequence, and the number of those compared."""
    if not written or held_out.training is None or not len(held_out.training[1]):
        return {}, 0
    corpus, rows = held_out.training
    flat = [sequence for sequences in written.values() for sequence in sequences]
    encoded = encode_given(
        flat,
        trained.vocabulary,
        max_length=trained.config.data.max_length,
        whole_length=trained.config.whole_length,
    )
    found = rows.index[find_nearest(encoded, rows)].tolist()
    shown = iter([show_sequence(corpus.sequence(row)) for row in found])
    nearest = {name: [next(shown) for _ in sequences] for name, sequences in written.items()}
    return nearest, len(rows)


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


def _mean_kl(trained: TrainedModel, rows: EncodedRows) -> Floats:
    total = np.zeros(trained.model.latent_size)
    for _, batch in evaluation_batches(rows, 256, num_classes=trained.model.num_classes):
        total += kl_per_dim(trained.model, batch).sum(0).cpu().double().numpy()
    return total / len(rows)
