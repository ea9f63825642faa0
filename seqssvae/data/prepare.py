"""From files to training rows: vocabulary, labels, encoded rows and held-out ones."""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seqssvae import progress
from seqssvae.config import Config, DataConfig
from seqssvae.data.audit import (
    count_shared,
    find_warnings,
    hash_corpus,
    label_candidates,
    warn_of_quotes,
)
from seqssvae.data.columns import ColumnChoice
from seqssvae.data.corpus import Corpus, Files, Source, read_corpus
from seqssvae.data.encode import encode_corpus
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.labels import (
    Labels,
    choose_labels,
    class_sizes,
    draw_rows,
    is_among,
    is_first,
    split_dev,
)
from seqssvae.data.rows import has_words, list_names
from seqssvae.data.tables import iterate_column
from seqssvae.data.vocabulary import Vocabulary, build_vocabulary
from seqssvae.errors import InputError

logger = logging.getLogger(__name__)

DEV_UNLABELLED_FRACTION = 0.02  # of the unlabelled rows, held out to measure the ELBO
DEV_UNLABELLED_ROWS = 256  # at most
YES_OR_NO = ["False", "True"]


@dataclasses.dataclass(frozen=True)
class Start:
    """What more rows of an earlier run are prepared with.

    Attributes:
        vocabulary: Its symbols keep their ids.
        labels: Its classes come first.
        few: Labels of a class that are too few to know it by.
        replay: Makes rows of those of its classes that have fewer labels in the data.
    """

    vocabulary: Vocabulary
    labels: Labels
    few: float
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
    def labelled_dev(self) -> EncodedRows:
        """The held-out rows with a label."""
        return self.dev.take(self.dev.y >= 0)

    @property
    def split(self) -> dict[str, list[str]]:
        """Ids of the labelled rows and of the held-out ones, by their use."""
        return {
            "labelled": self.labelled.ids,
            "dev": self.labelled_dev.ids,
            "dev_unlabelled": self.dev.take(self.dev.y < 0).ids,
        }

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
    settings, seed = config.data, config.training.seed
    corpus = _normalised(_read(source, settings), settings)
    _check_labels(corpus, source, settings)
    names = corpus.label_names()
    if start is not None:
        vocabulary_kind(settings, corpus)  # the run's, or refused
        names = tuple(dict.fromkeys([*start.labels.names, *names]))
        sizes = class_sizes(np.append(corpus.classes(Labels(names))[0], len(names)))
        lost = [n for n, size in zip(start.labels.names, sizes, strict=False) if size < start.few]
        corpus = corpus.joined(start.replay(lost)) if lost else corpus
    labels = Labels(names)
    y, partial = corpus.classes(labels)
    seen = choose_labels(
        y, corpus.ids(), per_class=settings.labels_per_class, total=settings.num_labels, seed=seed
    )
    hashes = hash_corpus(corpus)
    train, dev = split_dev(seen, y, corpus.ids(), settings.dev_fraction, seed, hashes=hashes)
    warnings = [*find_warnings(corpus, labels.names, y, seen=seen, hashes=hashes)]
    del y, seen  # memory that grows with the rows
    everything = corpus
    if unlabelled_source is not None:
        more = _read(unlabelled_source, settings, read_labels=False)
        if more.is_tokens != corpus.is_tokens:
            wanted = "tokens" if corpus.is_tokens else "text"
            raise InputError(
                f"{more.source}: wanted {wanted} as in {corpus.source}, got the other kind"
            )
        everything = corpus.joined(more)
        added = hash_corpus(more.normalised(corpus.form))
        hashes = np.concatenate([hashes, added])
    is_labelled = np.zeros(len(everything), dtype=np.bool_)
    is_labelled[train] = is_labelled[list(partial)] = True
    is_free = ~is_labelled
    is_free[dev] = False
    # one class: the first of equal rows, all of them free
    y = is_first(hashes[: len(corpus)]).astype(np.int8) - 1
    y[is_among(hashes[: len(corpus)], hashes[~is_free])] = -1
    num_held_out = min(DEV_UNLABELLED_ROWS, int((y == 0).sum() * DEV_UNLABELLED_FRACTION))
    dev_unlabelled = draw_rows(y, corpus.ids(), np.array([num_held_out]), seed, "held out")
    is_free[dev_unlabelled] = False
    is_equal = is_among(hashes, hashes[np.concatenate([dev, dev_unlabelled])])
    num_left_out = int((is_equal & (is_labelled | is_free)).sum())
    if num_left_out:
        warnings.append(f"{num_left_out} rows are equal to held-out rows: left out of training")
    is_labelled &= ~is_equal
    is_free &= ~is_equal
    del hashes, is_equal, y
    used = is_labelled | is_free
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
    return Prepared(
        vocabulary=vocabulary,
        labels=labels,
        labelled=rows.take(is_labelled),
        unlabelled=rows.with_labels(None).take(is_free),
        dev=EncodedRows.concatenate([rows.take(dev), rows.with_labels(None).take(dev_unlabelled)]),
        corpus=everything,
        warnings=tuple(warnings),
    )


def read_with_labels(source: Files, table: Files, settings: DataConfig) -> Corpus:
    """Rows whose labels are those of another table, by the columns of ids of both.

    Args:
        source: Files of rows, whose own labels are not read.
        table: Files with a column `id` and one of labels; rows of no id in it are unlabelled.
        settings: The columns; `label_column` is that of the table.

    Raises:
        InputError: bad input, a table without labels, with two of an id, or of no row's id.
    """
    corpus = _read(source, settings, read_labels=False)
    choice = ColumnChoice(text="id", label=settings.label_column, encoding=settings.encoding)
    named = read_corpus(table, choice)
    labels: dict[str, list[str]] = {}
    for row, (id, label) in enumerate(
        zip(named.sequences(), iterate_column(named.table.column("label")), strict=True)
    ):
        if labels.setdefault(id, label) != label:
            raise InputError(f"{named.where(row)}: wanted one label of each id, got two of {id!r}")
    if not any(labels.values()):
        raise InputError(
            f"{named.source}: wanted a column of labels (label, or --label-column NAME), got none"
        )
    first = next(corpus.ids())
    unknown = len(labels.keys() - set(corpus.ids()))
    if unknown == len(labels):
        raise InputError(
            f"{named.source}: wanted ids of rows of {corpus.source}, which are like {first!r} (a "
            f"checksum where there is no column 'id'), got {next(iter(labels))!r}"
        )
    if unknown:
        logger.warning("%s: %d ids are those of no row", named.source, unknown)
    return corpus.labelled(labels, named)


def steps_of_epoch(
    config: Config, source: Source, *, unlabelled_source: Source | None = None
) -> float:
    """Steps in which the unlabelled rows are drawn once; the labelled ones, if there are no others.

    Args:
        config: The settings.
        source: As in `prepare`, as the other argument.
        unlabelled_source: See there.
    """
    corpus = _read(source, config.data)
    y, partial = corpus.classes(Labels(corpus.label_names()))
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
        num_unlabelled += len(_read(unlabelled_source, config.data, read_labels=False))
    settings = config.training
    if num_unlabelled:
        return num_unlabelled / settings.unlabelled_batch_size
    return num_labelled / settings.labelled_batch_size


def read_like(
    source: Source, config: Config, vocabulary: Vocabulary, labels: Labels | None
) -> EncodedRows:
    """Rows of another file, encoded like the training rows.

    Args:
        source: As in `prepare`.
        config: Settings of the run.
        vocabulary: Vocabulary of the run.
        labels: Classes of the run; None leaves all rows unlabelled.

    Raises:
        InputError: bad input, a label that is not in `labels`, or no label though another column
            may hold them.
    """
    corpus = read_corpus_like(source, config, vocabulary, read_labels=labels is not None)
    if labels is not None and labels.names:
        _check_labels(corpus, source, config.data, only_candidates=True)
    for warning in warn_of_quotes(corpus):
        logger.warning(warning)
    return encode_corpus(
        corpus,
        vocabulary,
        labels,
        max_length=config.data.max_length,
        whole_length=config.whole_length,
    )


def read_without_label(
    source: Source, config: Config, vocabulary: Vocabulary
) -> tuple[Corpus, EncodedRows]:
    """The rows of another file, and those of them that have no label, encoded; see `read_like`.

    Raises:
        InputError: bad input, or every row has a label.
    """
    corpus = read_corpus_like(source, config, vocabulary, read_labels=True)
    y, partial = corpus.classes(Labels(corpus.label_names()))
    is_free = y < 0
    is_free[list(partial)] = False
    if not is_free.any():
        raise InputError(f"{corpus.source}: wanted a row without a label, got none")
    rows = encode_corpus(
        corpus,
        vocabulary,
        None,
        max_length=config.data.max_length,
        whole_length=config.whole_length,
    )
    return corpus, rows.take(is_free)


def read_corpus_like(
    source: Source, config: Config, vocabulary: Vocabulary, *, read_labels: bool
) -> Corpus:
    """Rows of another file, from the columns that training reads.

    Args:
        source: As in `prepare`.
        config: Settings of the run.
        vocabulary: Vocabulary of the run.
        read_labels: False leaves all rows unlabelled.

    Raises:
        InputError: bad input, or tokens where training had text, or text where it had tokens.
    """
    corpus = _read(source, config.data, read_labels=read_labels)
    wants_tokens = vocabulary.kind == "tokens"
    if corpus.is_tokens != wants_tokens:
        wanted, got = ("tokens", "text") if wants_tokens else ("text", "tokens")
        raise InputError(f"{corpus.source}: wanted {wanted} as in training, got {got}")
    return corpus.normalised(vocabulary.form)


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
    corpora = [_normalised(_read(source, config.data), config.data)]
    if unlabelled_source is not None:
        corpora.append(_read(unlabelled_source, config.data, read_labels=False))
    corpora.append(_read(test_source, config.data))
    _check_labels(corpora[-1], test_source, config.data, only_candidates=True)
    *training, test = (corpus.normalised(corpora[0].form) for corpus in corpora)
    if names := {*known, *training[0].label_names()}:
        test.classes(Labels(tuple(sorted(names))))  # an unknown label is found before training
    seen = count_shared(test, training)
    if seen:
        logger.warning("%d test rows are also training rows: results are optimistic", seen)
    return seen


def read_sequences(source: Source, config: Config) -> list[str | list[str]]:
    """The texts or lists of tokens of a file, for classifiers that read no symbol ids."""
    corpus = _read(source, config.data, read_labels=False)
    return list(_normalised(corpus, config.data).sequences())


def vocabulary_kind(settings: DataConfig, corpus: Corpus) -> str:
    """The kind of vocabulary in the settings, or the one that suits the rows.

    Given tokens stay tokens; text becomes SentencePiece pieces, unless most rows have no space
    (names, domains, molecules): these become characters.

    Raises:
        InputError: a vocabulary of tokens for texts, or of texts for tokens.
    """
    if settings.vocabulary != "auto":
        if (settings.vocabulary == "tokens") != corpus.is_tokens:
            got = "tokens" if corpus.is_tokens else "text"
            raise InputError(
                f"{corpus.source}: wanted rows for data.vocabulary = {settings.vocabulary}, "
                f"got {got}"
            )
        return settings.vocabulary
    if corpus.is_tokens:
        return "tokens"
    first = itertools.islice(corpus.sequences(), 1000)
    return "sentencepiece" if has_words(first, min_words=0) else "characters"


def _normalised(corpus: Corpus, settings: DataConfig) -> Corpus:
    """Training rows in the Unicode form of the settings."""
    form: str = settings.normalise
    if form == "auto":
        form = "nfc" if vocabulary_kind(settings, corpus) == "sentencepiece" else "none"
    return corpus.normalised(form)


def _check_labels(
    corpus: Corpus, source: Source, settings: DataConfig, *, only_candidates: bool = False
) -> None:
    """Raise if no row has a label; if `only_candidates`, where no column may hold them, warn."""
    if settings.unlabelled_only or corpus.label_names():
        return
    candidates = label_candidates(source, column_choice(settings))
    few = [f"{name!r} ({list_names(values, 3)})" for name, values in candidates.items()]
    if only_candidates and not few:
        logger.warning("%s: no row has a label, so that accuracy is not measured", corpus.source)
        return
    columns = f"; columns with few distinct values are {', '.join(few[:10])}" if few else ""
    flags = [name for name, values in candidates.items() if values in (["0", "1"], YES_OR_NO)]
    if len(flags) > 1:
        columns += (
            f"; if {list_names(flags, 3)} say whether a row is of a class, make one column of "
            f"them, with pandas: table['label'] = table[{flags!r:.200}].astype(int).idxmax(axis=1)"
        )
    raise InputError(
        f"{corpus.source}: wanted a label in some row (--label-column NAME, --label-pattern REGEX "
        f"for FASTA headers, or --unlabelled-only to do without), got none{columns}"
    )


def _read(source: Source, settings: DataConfig, *, read_labels: bool = True) -> Corpus:
    corpus = read_corpus(source, column_choice(settings, read_labels=read_labels))
    return corpus.with_unlabelled(settings.unlabelled_values)


def column_choice(settings: DataConfig, *, read_labels: bool = True) -> ColumnChoice:
    """The columns of the settings."""
    return ColumnChoice(
        text=settings.text_column,
        tokens=settings.tokens_column,
        label=settings.label_column,
        read_labels=read_labels and not settings.unlabelled_only,
        quotes=settings.quotes,
        pattern=settings.label_pattern,
        encoding=settings.encoding,
    )
