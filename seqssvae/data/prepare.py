"""From files to rows that a model can learn from: vocabulary, labels, and who sees which label."""

import dataclasses
import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seqssvae.config import Config, DataConfig
from seqssvae.data.audit import count_shared, find_oddities
from seqssvae.data.corpus import Corpus, Source, join_corpora, read_corpus
from seqssvae.data.encode import encode_corpus
from seqssvae.data.encoded import EncodedRows, PickedIds
from seqssvae.data.places import AllBut, Places
from seqssvae.data.splits import Labels, choose_labels, hold_out, split_dev
from seqssvae.data.vocabulary import Vocabulary, build_vocabulary
from seqssvae.errors import InputError

__all__ = [
    "Prepared",
    "count_test_rows_seen",
    "prepare",
    "read_corpus_like",
    "read_like",
    "read_sequences",
]

logger = logging.getLogger(__name__)

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
        corpus: All training rows, for those who want the sequences as they stood; more unlabelled
            ones, of another file, stand last.
        positions: Where the rows of each part of the split stand in it.
        oddities: What is likely not meant, a line each; see `find_oddities`.
    """

    vocabulary: Vocabulary
    labels: Labels
    labelled: EncodedRows
    unlabelled: EncodedRows
    dev: EncodedRows
    split: Mapping[str, Sequence[str]]
    corpus: Corpus
    positions: dict[str, Places]
    oddities: tuple[str, ...] = ()

    def with_dev_labels(self) -> "Prepared":
        """The same rows, those of dev that have a label among the labelled ones too."""
        dev = np.arange(len(self.positions["dev"]))
        if not len(dev):
            return self
        where = [np.fromiter(self.positions[part], np.int64) for part in ("labelled", "dev")]
        return dataclasses.replace(
            self,
            labelled=EncodedRows.concatenate([self.labelled, self.dev.take(dev)]),
            positions={**self.positions, "labelled": np.concatenate(where)},
        )

    def sequences(self, part: str, rows: npt.NDArray[np.int64] | None = None) -> list[Any]:
        """Sequences as they stood in the files, texts or lists of tokens.

        Args:
            part: "labelled", "unlabelled" or "dev" (without its unlabelled rows).
            rows: Which of the part's rows; all when None.
        """
        where = self.positions[part]
        chosen = where[np.arange(len(where)) if rows is None else rows]
        return [self.corpus.sequence(row) for row in chosen.tolist()]


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
    y, partial = corpus.classes(labels)
    seen = choose_labels(
        y, corpus.ids, per_class=settings.labels_per_class, total=settings.num_labels, seed=seed
    )
    train, held = split_dev(seen, y, corpus.ids, settings.dev_fraction, seed)
    labelled = np.sort(np.concatenate([train, np.fromiter(partial, np.int64, len(partial))]))
    held_free = _hold_out_unlabelled(np.concatenate([labelled, held]), corpus, seed)
    used = np.sort(np.concatenate([labelled, held, held_free]))
    everything = _with_more(corpus, unlabelled_source, settings)
    kept = AllBut(len(everything), used)
    vocabulary = build_vocabulary(
        vocabulary_kind(settings, corpus),
        itertools.chain(everything.sequences(labelled), everything.sequences(kept)),
        size=settings.vocabulary_size,
        min_count=settings.min_count,
    )
    rows = encode_corpus(
        everything,
        vocabulary,
        None,
        max_length=settings.max_length,
        num_threads=config.training.num_threads,
    )
    known = rows.with_labels(np.pad(y, (0, len(rows) - len(y)), constant_values=-1), partial)
    positions: dict[str, Places] = {
        "labelled": labelled,
        "unlabelled": kept,
        "dev": held,
        "dev_unlabelled": held_free,
    }
    return Prepared(
        vocabulary=vocabulary,
        labels=labels,
        labelled=known.take(labelled),
        unlabelled=rows.all_but(used),
        dev=EncodedRows.concatenate([known.take(held), rows.take(held_free)]),
        split={
            part: PickedIds(corpus.ids, where)
            for part, where in positions.items()
            if part != "unlabelled"
        },
        corpus=everything,
        positions=positions,
        oddities=tuple(find_oddities(corpus, labels.names, y, seen=seen)),
    )


def _hold_out_unlabelled(
    labelled: npt.NDArray[np.int64], corpus: Corpus, seed: int
) -> npt.NDArray[np.int64]:
    """Which of the other rows are held out."""
    is_free = np.ones(len(corpus), dtype=np.bool_)
    is_free[labelled] = False
    num_free = len(corpus) - len(labelled)
    num_held = min(DEV_UNLABELLED_ROWS, int(num_free * DEV_UNLABELLED_FRACTION))
    return hold_out(is_free, corpus.ids, num_held, seed)


def _with_more(corpus: Corpus, source: Source | None, settings: DataConfig) -> Corpus:
    """The rows of a corpus, and behind them those of `--unlabelled`, of the same kind."""
    if source is None:
        return corpus
    extra = _read(source, settings, read_labels=False)
    if extra.is_tokens != corpus.is_tokens:
        wanted = "tokens" if corpus.is_tokens else "text"
        raise InputError(
            f"{extra.source}: wanted {wanted} as in {corpus.source}, got the other kind"
        )
    return join_corpora(corpus, extra)


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
    return list(corpus.sequences())


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
    return rows.with_labels(np.broadcast_to(np.int64(-1), len(rows)), {})


def _read(source: Source, settings: DataConfig, *, read_labels: bool = True) -> Corpus:
    return read_corpus(
        source,
        text_column=settings.text_column,
        tokens_column=settings.tokens_column,
        label_column=settings.label_column,
        read_labels=read_labels,
    )
