"""Rows of a source as the settings say: those to train on, and others that are read like them."""

import dataclasses
import itertools
import logging
from collections.abc import Sequence
from typing import Any, Literal

from seqssvae.config import Config, DataConfig
from seqssvae.data.audit import hash_corpus, label_candidates, warn_of_quotes
from seqssvae.data.columns import TREE_NAMES, ColumnChoice, split_names
from seqssvae.data.corpus import Corpus, Files, Source, read_corpus
from seqssvae.data.encode import encode_corpus, encode_given, warn_of_losses
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.labels import Labels, is_among
from seqssvae.data.rows import has_words, list_names, name_of
from seqssvae.data.tables import column_of, is_table, iterate_column, votes_of
from seqssvae.data.vocabulary import Vocabulary
from seqssvae.errors import InputError
from seqssvae.storage.label_tree import LabelTree
from seqssvae.storage.vectors import WithVectors, open_vectors, vectors_like

logger = logging.getLogger(__name__)

Sequences = Sequence[str] | Sequence[Sequence[str]] | WithVectors
YES_OR_NO = ["False", "True"]


def read_source(
    source: Source,
    settings: DataConfig,
    *,
    read_labels: bool | Literal["maybe"] = True,
    votes: Literal["never", "maybe", "always"] = "never",
) -> Corpus:
    """The rows of a source, by the columns of the settings, of which "maybe" ones may be absent.

    Raises:
        InputError: bad input, or a row without a vector where the settings want each to have one.
    """
    choice = column_choice(settings, read_labels=bool(read_labels))
    choice = dataclasses.replace(choice, labels_may_miss=read_labels == "maybe")
    if votes != "never":
        may_miss = votes == "maybe"
        choice = dataclasses.replace(choice, votes=settings.vote_columns, votes_may_miss=may_miss)
    corpus = read_corpus(source, choice)
    if corpus.vectors is not None:
        corpus.vectors.check(corpus.where, may_miss=settings.missing_vectors)
    elif settings.vectors_column is not None and not settings.missing_vectors:
        wanted = f"vectors in the column {settings.vectors_column!r}"
        raise InputError(f"{corpus.source}: wanted {wanted}, got none in any row")
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
        vectors=settings.vectors_column,
    )


def written_columns(settings: DataConfig, *, is_tokens: bool) -> tuple[str, tuple[str, ...]]:
    """Names of the columns of sequences and labels in files that are to be read by the settings."""
    tokens, text = settings.tokens_column or "tokens", settings.text_column or "text"
    return tokens if is_tokens else text, split_names(settings.label_column or "label")


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


def normalised(corpus: Corpus, settings: DataConfig) -> Corpus:
    """Training rows in the Unicode form of the settings."""
    form: str = settings.normalise
    if form == "auto":
        form = "nfc" if vocabulary_kind(settings, corpus) == "sentencepiece" else "none"
    return corpus.normalised(form)


def check_labels(
    corpus: Corpus, source: Source, settings: DataConfig, *, only_candidates: bool = False
) -> None:
    """Raise if no row has a label; if `only_candidates`, where no column may hold them, warn."""
    names = corpus.label_names()
    missing = [c for c in corpus.columns if not any(n.startswith(f"{c}=") for n in names)]
    if settings.unlabelled_only or (names and not missing):
        return
    if missing and names:
        found = f"a label in column {missing[0]!r} of some row"
        if not only_candidates:
            raise InputError(f"{corpus.source}: wanted {found}, got none")
        logger.warning("%s: wanted %s, got none: it is not measured", corpus.source, found)
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


def labels_of(corpus: Corpus, settings: DataConfig) -> Labels:
    """The classes of training rows: all labels, or the leaves of the tree of the settings.

    Raises:
        InputError: the tree is none, or several columns of labels or none are read.
    """
    if settings.label_tree is None:
        return corpus.labels()
    if corpus.columns or not corpus.label_names():
        got = f"{len(corpus.columns)} of them" if corpus.columns else "none"
        raise InputError(f"--label-tree: wanted one column of labels beside it, got {got}")
    child, parent = TREE_NAMES
    table = read_corpus(settings.label_tree, ColumnChoice(child, label=parent))
    parents: dict[str, str | None] = {}
    for number, row in enumerate(table):
        node = str(name_of(row.sequence))
        known = parents.setdefault(node, None if isinstance(row.label, tuple) else row.label)
        if known != row.label:
            is_list = isinstance(row.label, tuple)
            got = "a list of them" if is_list else f"{known!r} and {row.label!r}"
            raise InputError(f"{table.where(number)}: wanted one parent of {node!r}, got {got}")
    try:
        return Labels((tree := LabelTree(parents)).leaves, tree=tree)
    except ValueError as error:
        raise InputError(f"{table.source}: {error}") from error


def check_weak_labels(corpus: Corpus, labels: Labels) -> None:
    """Raise if votes cannot be learned from; warn of voters that say nothing.

    Raises:
        InputError: several columns of labels or none are read, a vote is for what is no label, or
            nobody votes.
    """
    if corpus.votes is None:
        return
    if corpus.columns or not labels.names:
        got = f"{len(corpus.columns)} of them" if corpus.columns else "none"
        raise InputError(f"--vote-columns: wanted one column of labels beside it, got {got}")
    votes = votes_of(corpus.votes, corpus.voters, labels, corpus.unlabelled_names(), corpus.where)
    if not (votes >= 0).any():
        wanted = f"votes in {list_names(list(corpus.voters))}"
        raise InputError(f"{corpus.source}: wanted {wanted}, got none in any row")
    for name, of_rows in zip(corpus.voters, votes.T, strict=True):
        if not (of_rows >= 0).any():
            logger.warning(f"column {name!r} of votes says nothing in any row")


def read_with_labels(
    source: Files,
    table: Files,
    settings: DataConfig,
    *,
    votes: Literal["never", "always"] = "never",
) -> Corpus:
    """Rows whose labels are those of another table, by the columns of ids of both.

    Args:
        source: Files of rows, whose own labels are not read.
        table: Files with a column `id` and one of labels; rows of no id in it are unlabelled.
        settings: The columns; `label_column` is that of the table.
        votes: As of `read_source`.

    Raises:
        InputError: bad input, a table without labels, with two of an id, or of no row's id.
    """
    corpus = read_source(source, settings, read_labels=False, votes=votes)
    choice = ColumnChoice(text="id", label=settings.label_column, encoding=settings.encoding)
    named = read_corpus(table, choice)
    labels: dict[str, tuple[list[str], list[float] | None]] = {}
    columns = (iterate_column(named.table.column(name)) for name in ("label", "shares"))
    for row, (id, *label) in enumerate(zip(named.sequences(), *columns, strict=True)):
        if labels.setdefault(id, (label[0], label[1])) != tuple(label):
            raise InputError(f"{named.where(row)}: wanted one label of each id, got two of {id!r}")
    if not any(names for names, _ in labels.values()):
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


def read_corpus_like(
    source: Source,
    config: Config,
    vocabulary: Vocabulary,
    *,
    read_labels: bool | Literal["maybe"],
) -> Corpus:
    """Rows of another file, from the columns that training reads.

    Args:
        source: As in `prepare`.
        config: Settings of the run.
        vocabulary: Vocabulary of the run.
        read_labels: False leaves all rows unlabelled; "maybe" takes rows without such a column.

    Raises:
        InputError: bad input, or tokens where training had text, or text where it had tokens.
    """
    corpus = read_source(source, config.data, read_labels=read_labels)
    wants_tokens = vocabulary.kind == "tokens"
    if corpus.is_tokens != wants_tokens:
        wanted, got = ("tokens", "text") if wants_tokens else ("text", "tokens")
        raise InputError(f"{corpus.source}: wanted {wanted} as in training, got {got}")
    return corpus.normalised(vocabulary.form)


def encode_like(
    corpus: Corpus, config: Config, vocabulary: Vocabulary, labels: Labels | None
) -> EncodedRows:
    """Rows of `read_corpus_like`, encoded like the training rows; arguments as of `read_like`.

    Raises:
        InputError: a label that is not in `labels`, or vectors that are not like those of training.
    """
    rows = encode_corpus(
        corpus,
        vocabulary,
        labels,
        max_length=config.data.max_length,
        whole_length=config.whole_length,
    )
    size, may_miss = config.model.vector_size, config.data.missing_vectors
    return rows.with_vectors(
        vectors_like(corpus.vectors, len(corpus), size, corpus.source, may_miss=may_miss)
    )


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
        check_labels(corpus, source, config.data, only_candidates=True)
    for warning in warn_of_quotes(corpus):
        logger.warning(warning)
    return encode_like(corpus, config, vocabulary, labels)


def read_without_label(
    source: Source, config: Config, vocabulary: Vocabulary, *, may_miss: bool
) -> tuple[Corpus, EncodedRows]:
    """The rows of another file, and those of them that have no label, encoded; see `read_like`.

    A row that is equal to one with a label has it too. If `may_miss`, a column of labels may be
    absent.

    Raises:
        InputError: bad input, or every row has a label.
    """
    read_labels: bool | Literal["maybe"] = "maybe" if may_miss else True
    corpus = read_corpus_like(source, config, vocabulary, read_labels=read_labels)
    names = corpus.label_names()
    empty = set(corpus.columns) - {name.partition("=")[0] for name in names}
    names = (*names, *(f"{column}=" for column in empty))  # combinations need one of each
    y, partial = corpus.classes(Labels.of_names(names, corpus.columns, corpus.source))
    is_free = y < 0
    is_free[list(partial)] = False
    if not is_free.all():
        hashes = hash_corpus(corpus)
        is_free &= ~is_among(hashes, hashes[~is_free])
    if not is_free.any():
        raise InputError(f"{corpus.source}: wanted a row without a label, got none")
    return corpus, encode_like(corpus, config, vocabulary, None).take(is_free)


def read_sequences(source: Source, config: Config) -> list[str | list[str]]:
    """The texts or lists of tokens of a file, for classifiers that read no symbol ids."""
    corpus = read_source(source, config.data, read_labels=False)
    return list(normalised(corpus, config.data).sequences())


@dataclasses.dataclass(frozen=True)
class RowReader:
    """Reads files, tables, texts and lists of tokens as rows for a trained model.

    Attributes:
        config: Settings of the run.
        vocabulary: Vocabulary of the run.
        labels: Classes of the run.
        usual_share: `unseen_share` of the training rows.
    """

    config: Config
    vocabulary: Vocabulary
    labels: Labels
    usual_share: float

    def read(self, data: Source, *, labels: bool = False) -> EncodedRows:
        """Rows of a file or table, with their labels if `labels`; see `read_like`."""
        rows = read_like(data, self.config, self.vocabulary, self.labels if labels else None)
        warn_of_losses(rows, self.config, self.vocabulary, self.usual_share)
        return rows

    def read_sequences(self, sequences: Sequences) -> EncodedRows:
        """Texts, or lists of tokens, perhaps `with_vectors`; of a DataFrame, its rows as of a file.

        Raises:
            InputError: a sequence of the wrong kind, or other vectors than in training.
        """
        given = sequences.vectors if isinstance(sequences, WithVectors) else None
        plain = sequences.rows if isinstance(sequences, WithVectors) else sequences
        if is_table(plain):
            return self.read(sequences)
        rows = encode_given(
            column_of(plain),
            self.vocabulary,
            max_length=self.config.data.max_length,
            whole_length=self.config.whole_length,
        )
        vectors = None if given is None else open_vectors(given, len(rows), "sequences")
        may_miss = self.config.data.missing_vectors
        if vectors is not None:
            vectors.check(lambda row: f"sequence {row + 1}", may_miss=may_miss)
        size = self.config.model.vector_size
        vectors = vectors_like(vectors, len(rows), size, "sequences", may_miss=may_miss)
        rows = rows.with_vectors(vectors)
        warn_of_losses(rows, self.config, self.vocabulary, self.usual_share)
        return rows

    def split_texts(self, texts: Sequence[str]) -> list[Any]:
        """Arguments of a command as sequences: split at spaces if the symbols are tokens.

        Raises:
            InputError: an empty text.
        """
        for number, text in enumerate(texts, start=1):
            if not text.strip():
                raise InputError(f"TEXT {number}: wanted a sequence, got an empty one")
        return [text.split() for text in texts] if self.vocabulary.kind == "tokens" else list(texts)

    def read_texts(self, texts: Sequence[str]) -> EncodedRows:
        """Arguments of a command as rows.

        Raises:
            InputError: an empty text.
        """
        return self.read_sequences(self.split_texts(texts))
