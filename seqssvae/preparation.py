"""From files to rows that a model can learn from: vocabulary, labels, and who sees which label."""

import dataclasses
import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from seqssvae.config import Config, DataConfig, InputError
from seqssvae.corpora import Corpus, Source, encode_corpus, read_corpus
from seqssvae.encoded import EncodedRows
from seqssvae.oddities import count_shared, find_oddities
from seqssvae.splits import Labels, choose_labels, split_dev
from seqssvae.vocabulary import Vocabulary, build_vocabulary

__all__ = [
    "Prepared",
    "count_test_rows_seen",
    "prepare",
    "read_corpus_like",
    "read_like",
    "read_sequences",
]

logger = logging.getLogger(__name__)

Positions = npt.NDArray[np.int64]

DEV_UNLABELLED_FRACTION = 0.02  # of the unlabelled rows, held out to measure the ELBO
DEV_UNLABELLED_ROWS = 256  # at most


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What training needs.

    Attributes:
        vocabulary: Built from the training rows alone.
        labels: The classes; empty for the plain VAE.
        labelled: Rows whose label (or set of labels) training sees.
        unlabelled: Rows without one, their y -1.
        dev: Held-out rows, labelled ones first, for early stopping.
        split: Ids of the rows by what they are used for.
        corpus: The training file, for those who want the sequences as they stood.
        positions: Where the rows of each part of the split stand in it.
        extra: More unlabelled rows, which stand last in `unlabelled`; None without any.
        oddities: What is likely not meant, a line each; see `find_oddities`.
    """

    vocabulary: Vocabulary
    labels: Labels
    labelled: EncodedRows
    unlabelled: EncodedRows
    dev: EncodedRows
    split: dict[str, list[str]]
    corpus: Corpus
    positions: dict[str, Positions]
    extra: Corpus | None = None
    oddities: tuple[str, ...] = ()

    def with_dev_labels(self) -> "Prepared":
        """The same rows, those of dev that have a label among the labelled ones too."""
        where = self.positions["dev"]
        if not len(where):
            return self
        return dataclasses.replace(
            self,
            labelled=EncodedRows.concatenate([self.labelled, self.dev.take(np.arange(len(where)))]),
            positions={
                **self.positions,
                "labelled": np.concatenate([self.positions["labelled"], where]),
            },
        )

    def sequences(self, part: str, rows: Positions | None = None) -> list[Any]:
        """Sequences as they stood in the files, texts or lists of tokens.

        Args:
            part: "labelled", "unlabelled" or "dev" (without its unlabelled rows).
            rows: Which of the part's rows; all when None.
        """
        where, extra = self.positions[part], self.extra if part == "unlabelled" else None
        if rows is None:
            rows = np.arange(len(where) + (0 if extra is None else len(extra)))
        return [
            extra.sequence(int(row) - len(where))
            if extra is not None and row >= len(where)
            else self.corpus.sequence(int(where[row]))
            for row in rows
        ]


def prepare(config: Config, source: Source, *, unlabelled_source: Source | None = None) -> Prepared:
    """Read the training rows, choose whose labels are seen, and hold some out.

    Args:
        config: The settings; the choice depends on `training.seed` and on the rows' ids.
        source: A file, `hub:NAME`, a `datasets.Dataset` or a corpus.
        unlabelled_source: More rows; labels in it are not read.

    Raises:
        InputError: bad input, in one line with file, row, wanted and got.
    """
    settings, seed = config.data, config.training.seed
    corpus = _read(source, settings)
    labels = Labels.from_corpus(corpus)
    found = list(corpus.labels())
    y = [labels.names.index(label) if isinstance(label, str) else -1 for label in found]
    partial = [i for i, label in enumerate(found) if isinstance(label, tuple)]
    ids = [corpus.id(i) for i in range(len(corpus))]
    seen = choose_labels(
        y, ids, per_class=settings.labels_per_class, total=settings.num_labels, seed=seed
    )
    train, held = split_dev(sorted(seen), y, ids, settings.dev_fraction, seed)
    labelled = np.array(sorted([*train, *partial]), dtype=np.int64)
    used = np.zeros(len(corpus), dtype=bool)
    used[labelled] = used[held] = True
    free = (~used).nonzero()[0]
    generator = np.random.default_rng([seed, 1])
    num_held = min(DEV_UNLABELLED_ROWS, int(len(free) * DEV_UNLABELLED_FRACTION))
    by_id = np.array(sorted(free.tolist(), key=ids.__getitem__), dtype=np.int64)
    held_free = generator.permutation(by_id)[:num_held]
    kept = np.setdiff1d(free, held_free)

    extra = None
    if unlabelled_source is not None:
        extra = _read(unlabelled_source, settings, read_labels=False)
    if extra is not None and extra.is_tokens != corpus.is_tokens:
        wanted = "tokens" if corpus.is_tokens else "text"
        raise InputError(
            f"{extra.source}: wanted {wanted} as in {corpus.source}, got the other kind"
        )
    train_sequences = _chain(corpus, np.concatenate([labelled, kept]), extra)
    vocabulary = build_vocabulary(
        vocabulary_kind(settings, corpus),
        train_sequences,
        size=settings.vocabulary_size,
        min_count=settings.min_count,
    )
    rows = encode_corpus(corpus, vocabulary, labels, max_length=settings.max_length)
    rest = hide_labels(rows.take(kept))
    if extra is not None:
        more = encode_corpus(extra, vocabulary, None, max_length=settings.max_length)
        rest = EncodedRows.concatenate([rest, hide_labels(more)])
    held_rows = EncodedRows.concatenate(
        [rows.take(np.array(held, dtype=np.int64)), hide_labels(rows.take(held_free))]
    )
    positions = {
        "labelled": labelled,
        "unlabelled": kept,
        "dev": np.array(held, dtype=np.int64),
        "dev_unlabelled": held_free,
    }
    return Prepared(
        vocabulary=vocabulary,
        labels=labels,
        labelled=rows.take(labelled),
        unlabelled=rest,
        dev=held_rows,
        split={
            part: [ids[i] for i in where]
            for part, where in positions.items()
            if part != "unlabelled"
        },
        corpus=corpus,
        positions=positions,
        extra=extra,
        oddities=tuple(find_oddities(corpus, labels.names, y, seen=seen)),
    )


def read_like(
    source: Source, config: Config, vocabulary: Vocabulary, labels: Labels | None
) -> EncodedRows:
    """Rows of another file, encoded as the training rows were.

    Args:
        source: As in `prepare`.
        config: The run's settings.
        vocabulary: The run's.
        labels: The run's classes, or None to leave labels unread.

    Raises:
        InputError: bad input, or a label that training never saw.
    """
    corpus = read_corpus_like(source, config, vocabulary, read_labels=labels is not None)
    return encode_corpus(corpus, vocabulary, labels, max_length=config.data.max_length)


def read_corpus_like(
    source: Source, config: Config, vocabulary: Vocabulary, *, read_labels: bool
) -> Corpus:
    """Another file, its columns found as in training, for those who want its sequences too.

    Args:
        source: As in `prepare`.
        config: The run's settings.
        vocabulary: The run's.
        read_labels: Whether labels are wanted.

    Raises:
        InputError: bad input, or tokens where training had text, or text where it had tokens.
    """
    corpus = _read(source, config.data, read_labels=read_labels)
    wants_tokens = vocabulary.kind == "tokens"
    if corpus.is_tokens != wants_tokens:
        wanted, got = ("tokens", "text") if wants_tokens else ("text", "tokens")
        raise InputError(f"{corpus.source}: wanted {wanted} as in training, got {got}")
    return corpus


def count_test_rows_seen(
    config: Config,
    source: Source,
    test_source: Source,
    *,
    unlabelled_source: Source | None = None,
) -> int:
    """How many test rows training sees, with or without their labels.

    Raises:
        InputError: bad input.
    """
    training = [_read(source, config.data)]
    if unlabelled_source is not None:
        training.append(_read(unlabelled_source, config.data, read_labels=False))
    return count_shared(_read(test_source, config.data), training)


def read_sequences(source: Source, config: Config) -> list[str | list[str]]:
    """The sequences of a file as they stand, for classifiers that read no symbol ids."""
    corpus = _read(source, config.data, read_labels=False)
    return [corpus.sequence(i) for i in range(len(corpus))]


def vocabulary_kind(settings: DataConfig, corpus: Corpus) -> str:
    """The kind that was asked for, or what suits the rows.

    Given tokens stay tokens; text is cut into SentencePiece pieces, unless most rows hold no
    space (names, domains, molecules), which are read as characters.
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
    first = range(min(len(corpus), 1000))
    with_space = sum(" " in str(corpus.sequence(i)).strip() for i in first)
    return "sentencepiece" if 2 * with_space > len(first) else "characters"


def hide_labels(rows: EncodedRows) -> EncodedRows:
    """The same rows without their labels."""
    return dataclasses.replace(rows, y=np.full_like(rows.y, -1), candidates={})


def _read(source: Source, settings: DataConfig, *, read_labels: bool = True) -> Corpus:
    return read_corpus(
        source,
        text_column=settings.text_column,
        tokens_column=settings.tokens_column,
        label_column=settings.label_column,
        read_labels=read_labels,
    )


def _chain(corpus: Corpus, indices: Positions, extra: Corpus | None) -> Iterable[str | list[str]]:
    yield from (corpus.sequence(int(i)) for i in indices)
    if extra is not None:
        yield from (extra.sequence(i) for i in range(len(extra)))
