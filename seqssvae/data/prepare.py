"""From files to training rows: vocabulary, labels, encoded rows and held-out ones."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seqssvae import progress
from seqssvae.config import Config, DataConfig
from seqssvae.data.audit import count_shared, find_warnings, hash_corpus, warn_of_classes
from seqssvae.data.corpus import Corpus, Source
from seqssvae.data.encode import encode_corpus
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.labels import (
    Classes,
    Labels,
    choose_labels,
    class_sizes,
    draw_rows,
    is_among,
    is_first,
    split_dev,
)
from seqssvae.data.sources import (
    check_labels,
    check_weak_labels,
    labels_of,
    normalised,
    read_source,
    vocabulary_kind,
)
from seqssvae.data.vocabulary import Vocabulary, build_vocabulary
from seqssvae.errors import InputError
from seqssvae.storage.vectors import vectors_like

logger = logging.getLogger(__name__)

DEV_UNLABELLED_FRACTION = 0.02  # of the unlabelled rows, held out to measure the ELBO
DEV_UNLABELLED_ROWS = 256  # at most


@dataclasses.dataclass(frozen=True)
class Start:
    """What more rows of an earlier run are prepared with.

    Attributes:
        vocabulary: Its symbols keep their ids.
        labels: Its classes come first.
        few: Labels of a class that are too few to know it by.
        vector_size: Size of the vectors that it reads, 0 for none.
        replay: Makes rows of those of its classes that have fewer labels in the data.
    """

    vocabulary: Vocabulary
    labels: Labels
    few: float
    vector_size: int
    replay: Callable[[Sequence[str]], Corpus]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Rows for training.

    Attributes:
        vocabulary: Learned from the training rows alone.
        labels: The classes; empty for the plain VAE.
        labelled: Training rows with a label or a partial label.
        unlabelled: Training rows without one; those of another file come last.
        dev: Held-out rows, labelled ones first, for early stopping.
        corpus: All rows; the `index` of the three above refers to it.
        warnings: Likely mistakes in the data, a line each; see `find_warnings`.
    """

    vocabulary: Vocabulary
    labels: Labels
    labelled: EncodedRows
    unlabelled: EncodedRows
    dev: EncodedRows
    corpus: Corpus
    warnings: tuple[str, ...] = ()

    @property
    def vector_size(self) -> int:
        """D, 0 without vectors."""
        return self.labelled.vector_size

    @property
    def labelled_dev(self) -> EncodedRows:
        """The held-out rows with a label."""
        return self.dev.take(self.dev.y >= 0)

    @property
    def split(self) -> dict[str, list[str]]:
        """Ids of the labelled rows of files and of the held-out ones, by their use."""
        dev = self.from_files(self.dev)
        return {
            "labelled": self.from_files(self.labelled).ids,
            "dev": dev.take(dev.y >= 0).ids,
            "dev_unlabelled": dev.take(dev.y < 0).ids,
        }

    def by_column(self) -> Iterator["Prepared"]:
        """The rows with the labels of each of several columns alone; as they are, if it is one."""
        if not self.labels.columns:
            yield self
        rows = self.labelled
        for name, labels in self.labels.columns.items():
            y, sets = self.labels.of_column(name, rows.y, rows.candidates)
            of_column = rows.with_labels(y, sets)
            yield dataclasses.replace(self, labels=Labels(labels), labelled=of_column)

    @property
    def is_teachable(self) -> bool:
        """Whether labelled rows have at least two classes."""
        return len(np.unique(self.labelled.y[self.labelled.y >= 0])) > 1

    def from_files(self, rows: EncodedRows) -> EncodedRows:
        """Those of the rows that no run generated."""
        generated = self.corpus.generated
        return rows.take(~np.isin(rows.index, generated)) if generated else rows

    def with_dev_labels(self) -> "Prepared":
        """The same rows, with the labelled rows of dev among the labelled ones too."""
        if not len(self.labelled_dev):
            return self
        labelled = EncodedRows.concatenate([self.labelled, self.labelled_dev])
        return dataclasses.replace(self, labelled=labelled)

    def sequences(self, rows: EncodedRows) -> list[Any]:
        """Texts or lists of tokens of some of the rows, as in the files."""
        return [self.corpus.sequence(row) for row in rows.index.tolist()]


def prepare(
    config: Config,
    source: Source,
    *,
    unlabelled_source: Source | None = None,
    start: Start | None = None,
) -> Prepared:
    """Read the training rows, choose which keep their label, and hold some out.

    Rows that are equal to a held-out row but not held out themselves, for want of a label or
    because they are in `unlabelled_source`, are left out.

    Args:
        config: Settings; the choice depends on `training.seed` and on the rows' ids.
        source: A file, `hub:NAME`, a `datasets.Dataset` or a corpus.
        unlabelled_source: More rows; labels in it are not read.
        start: Of the run that training starts from.

    Raises:
        InputError: bad input, in one line with file, row, wanted and got; no row has a label, and
            `data.unlabelled_only` is false.
    """
    settings = config.data
    corpus, everything, labels = _read(config, source, unlabelled_source, start)
    parts, warnings = _split(config, corpus, everything, labels)
    used = parts.is_labelled | parts.is_free
    sequences = progress.track(everything.sequences(used), "rows counted", int(used.sum()))
    vocabulary = build_vocabulary(
        vocabulary_kind(settings, corpus),
        sequences,
        size=settings.vocabulary_size,
        min_count=settings.min_count,
        form=everything.form,
        start=None if start is None else start.vocabulary,
    )
    rows = encode_corpus(
        everything,
        vocabulary,
        labels,
        max_length=settings.max_length,
        whole_length=config.whole_length,
        num_threads=config.training.num_threads,
    )
    hidden = rows.with_labels(None)
    return Prepared(
        vocabulary=vocabulary,
        labels=labels,
        labelled=rows.take(parts.is_labelled),
        unlabelled=hidden.take(parts.is_free),
        dev=EncodedRows.concatenate([rows.take(parts.dev), hidden.take(parts.dev_unlabelled)]),
        corpus=everything,
        warnings=tuple(warnings),
    )


def _read(
    config: Config, source: Source, unlabelled_source: Source | None, start: Start | None
) -> tuple[Corpus, Corpus, Labels]:
    """The rows of `source`, with these those of `unlabelled_source`, and the classes."""
    settings = config.data
    has_votes = settings.vote_columns is not None
    votes: Literal["always", "never"] = "always" if has_votes else "never"
    corpus = normalised(read_source(source, settings, votes=votes), settings)
    check_labels(corpus, source, settings)
    labels = labels_of(corpus, settings)
    if has_votes and corpus.votes is None:
        raise InputError(f"{corpus.source}: wanted columns of votes (data.vote_columns), got none")
    check_weak_labels(corpus, labels)
    vector_size = config.model.vector_size or (corpus.vectors.size if corpus.vectors else 0)
    if start is not None:
        vector_size = start.vector_size
    _check_vectors(corpus, vector_size, settings)
    if start is not None:
        corpus, labels = _continued(corpus, settings, start)
    if unlabelled_source is None:
        return corpus, corpus, labels
    more = _more_rows(corpus, unlabelled_source, settings)
    _check_vectors(more, vector_size, settings)
    return corpus, corpus.joined(more), labels


def _continued(corpus: Corpus, settings: DataConfig, start: Start) -> tuple[Corpus, Labels]:
    """The rows, with some of the earlier run for its classes that have few, and all classes."""
    if corpus.columns or start.labels.columns:
        raise InputError(f"{corpus.source}: wanted one label column beside --from, got several")
    vocabulary_kind(settings, corpus)  # the run's, or refused
    names = tuple(dict.fromkeys([*start.labels.names, *corpus.label_names()]))
    sizes = class_sizes(np.append(corpus.classes(Labels(names))[0], len(names)))
    lost = [n for n, size in zip(start.labels.names, sizes, strict=False) if size < start.few]
    if lost:
        num_rows = len(corpus)
        corpus = corpus.joined(start.replay(lost))
        corpus.generated = range(num_rows, len(corpus))
    return corpus, Labels(names)


def _check_vectors(corpus: Corpus, size: int, settings: DataConfig) -> None:
    """Make sure that vectors have a size; missing ones take their place if the settings say so."""
    corpus.vectors = vectors_like(
        corpus.vectors, len(corpus), size, corpus.source, may_miss=settings.missing_vectors
    )


def _more_rows(corpus: Corpus, source: Source, settings: DataConfig) -> Corpus:
    """The rows of `unlabelled_source`, of the kind of the others."""
    more = read_source(source, settings, read_labels=False, votes="maybe")
    if more.is_tokens != corpus.is_tokens:
        wanted = "tokens" if corpus.is_tokens else "text"
        raise InputError(
            f"{more.source}: wanted {wanted} as in {corpus.source}, got the other kind"
        )
    return more


@dataclasses.dataclass(frozen=True, eq=False)
class _Parts:
    """Which of N rows are trained on, `[N]`, and the numbers of those that are held out."""

    is_labelled: NDArray[np.bool_]
    is_free: NDArray[np.bool_]
    dev: NDArray[np.int64]
    dev_unlabelled: NDArray[np.int64]


def _split(
    config: Config, corpus: Corpus, everything: Corpus, labels: Labels
) -> tuple[_Parts, list[str]]:
    """Use of all rows, the first of which are those of `corpus`; likely mistakes in the data."""
    settings, seed = config.data, config.training.seed
    hashes = hash_corpus(everything)
    y, partial = corpus.classes(labels)
    given, generated = y.copy(), np.array(corpus.generated, np.int64)
    given[generated] = -1  # a number of labels is one of given labels
    seen = choose_labels(
        given,
        corpus.ids(),
        per_class=settings.labels_per_class,
        total=settings.num_labels,
        seed=seed,
    )
    seen = np.append(seen, generated[y[generated] >= 0])
    own = hashes[: len(corpus)]
    strata = _strata(labels, y)
    train, dev = split_dev(seen, strata, corpus.ids(), settings.dev_fraction, seed, hashes=own)
    warnings = [*find_warnings(corpus, labels.names, y, seen=seen, hashes=own)]
    for name, names in labels.columns.items():
        of_rows = np.append(seen, np.array(list(partial), np.int64))
        of_column = warn_of_classes(names, labels.of_column(name, y, partial)[0], of_rows)
        warnings += [f"column {name!r}: {warning}" for warning in of_column]
    del y, given, seen  # memory that grows with the rows
    is_labelled = np.zeros(len(everything), dtype=np.bool_)
    is_labelled[train] = is_labelled[list(partial)] = True
    is_free = ~is_labelled
    is_free[dev] = False
    # one class: the first of equal rows, all of them free
    y = is_first(own).astype(np.int8) - 1
    y[is_among(own, hashes[~is_free])] = -1
    num_held_out = min(DEV_UNLABELLED_ROWS, int((y == 0).sum() * DEV_UNLABELLED_FRACTION))
    dev_unlabelled = draw_rows(y, corpus.ids(), np.array([num_held_out]), seed, "held out")
    is_free[dev_unlabelled] = False
    is_equal = is_among(hashes, hashes[np.concatenate([dev, dev_unlabelled])])
    num_again = int(is_among(hashes[len(corpus) :], hashes[is_labelled]).sum())
    if num_again:
        warnings.append(
            f"{num_again} rows of --unlabelled are equal to labelled rows: each is one more row of "
            "p(x); leave them out if they are the same rows"
        )
    num_left_out = int((is_equal & (is_labelled | is_free)).sum())
    if num_left_out:
        warnings.append(f"{num_left_out} rows are equal to held-out rows: left out of training")
    return _Parts(is_labelled & ~is_equal, is_free & ~is_equal, dev, dev_unlabelled), warnings


def _strata(labels: Labels, y: Classes) -> Classes:
    """What held-out rows are drawn in proportion to: the classes, `[n]`.

    Of several columns, where most rows are alone in their combination and none could be held out,
    the labels of the column that has most.
    """
    alone = int((class_sizes(y) == 1).sum())
    if not labels.columns or 2 * alone <= int((y >= 0).sum()):
        return y
    sizes = labels.sizes
    return labels.parts(y)[list(sizes).index(max(sizes, key=lambda name: sizes[name]))]


def steps_of_epoch(
    config: Config, source: Source, *, unlabelled_source: Source | None = None
) -> float:
    """Steps in which the unlabelled rows are drawn once; the labelled ones, if there are no others.

    Args:
        config: The settings.
        source: As in `prepare`, as the other argument.
        unlabelled_source: See there.
    """
    corpus = read_source(source, config.data)
    y, partial = corpus.classes(labels_of(corpus, config.data))
    budget = choose_labels(
        y,
        corpus.ids(),
        per_class=config.data.labels_per_class,
        total=config.data.num_labels,
        seed=config.training.seed,
    )
    num_labelled = len(budget) + len(partial)
    num_unlabelled = len(corpus) - num_labelled
    if unlabelled_source is not None:
        num_unlabelled += len(read_source(unlabelled_source, config.data, read_labels=False))
    settings = config.training
    if num_unlabelled:
        return num_unlabelled / settings.unlabelled_batch_size
    return num_labelled / settings.labelled_batch_size


def warn_of_test_rows_seen(
    config: Config,
    source: Source,
    test_source: Source,
    *,
    unlabelled_source: Source | None = None,
    known: Sequence[str] = (),
) -> int:
    """Log how many test rows are among the training rows, with or without their labels, if any.

    Args:
        config: Settings.
        source: The training rows, as in `prepare`.
        test_source: The test rows.
        unlabelled_source: As in `prepare`.
        known: Labels beside those of the training rows.

    Returns:
        Their number.

    Raises:
        InputError: bad input.
    """
    corpora = [normalised(read_source(source, config.data), config.data)]
    if unlabelled_source is not None:
        corpora.append(read_source(unlabelled_source, config.data, read_labels=False))
    corpora.append(read_source(test_source, config.data))
    check_labels(corpora[-1], test_source, config.data, only_candidates=True)
    *training, test = (corpus.normalised(corpora[0].form) for corpus in corpora)
    labels = labels_of(training[0], config.data)
    if known:
        labels = Labels(tuple(sorted({*known, *labels.names})))
    if labels.names:
        test.classes(labels)  # an unknown label is found before training
    seen = count_shared(test, training)
    if seen:
        logger.warning("%d test rows are also training rows: results are optimistic", seen)
    return seen
