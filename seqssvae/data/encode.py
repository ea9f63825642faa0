"""Encoding: from the sequences of a corpus to symbol ids, cached in a file where there are many."""

import logging
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqssvae import progress
from seqssvae.config import Config
from seqssvae.data.corpus import Corpus
from seqssvae.data.encoded import EncodedRows, Evidence, offsets_of
from seqssvae.data.labels import Labels
from seqssvae.data.rows import MAX_SYMBOLS, find_surrogate, name_of
from seqssvae.data.tables import soft_of, votes_of
from seqssvae.data.vocabulary import EOS, Vocabulary
from seqssvae.errors import InputError
from seqssvae.storage.cache import cached_file, fingerprint

logger = logging.getLogger(__name__)

ENCODER_VERSION = 1  # raised when the same rows give other ids, so that no old cache is used
FEW_UNSEEN, MORE_UNSEEN = 0.02, 5  # a share that is no warning, and times the usual one
MAX_ROWS_IN_MEMORY = 100_000
CHUNK_ROWS, CHUNK_SYMBOLS = 5000, 2_000_000  # encoded at once

Symbols = NDArray[np.int32]
Integers = NDArray[np.int64]


def encode_corpus(
    corpus: Corpus,
    vocabulary: Vocabulary,
    labels: Labels | None,
    *,
    max_length: int,
    whole_length: int | None = None,
    num_threads: int = 0,
    max_rows_in_memory: int = MAX_ROWS_IN_MEMORY,
    chunk_rows: int = CHUNK_ROWS,
    chunk_symbols: int = CHUNK_SYMBOLS,
) -> EncodedRows:
    """Encode all rows of a corpus, in their order, and their labels.

    Args:
        corpus: Texts for a vocabulary of texts, tokens for one of tokens.
        vocabulary: Symbols that are not in it become UNK and are counted.
        labels: All classes; None, or no classes, leaves all rows unlabelled.
        max_length: Symbols of a row that recurrent networks read, EOS included; longer rows are
            truncated for them without a false EOS, and counted.
        whole_length: Symbols of a row that are kept for n-gram features; `max_length` when None.
        num_threads: Threads of SentencePiece; 0 for one per core. The ids do not depend on it.
        max_rows_in_memory: Ids of more rows of a file or a data set are written to the cache, by a
            fingerprint of rows, vocabulary and `whole_length`, and are mapped into memory.
        chunk_rows: Rows that are encoded at once, at most.
        chunk_symbols: Characters or tokens at which a chunk is complete.

    Raises:
        InputError: a label that is not in `labels`, with the row and the nearest known label.
    """
    y, candidates, evidence = None, None, Evidence()
    if labels and labels.names:
        (y, candidates), evidence = corpus.classes(labels), _evidence(corpus, labels)
    whole_length = max_length if whole_length is None else whole_length
    sequences = progress.track(corpus.sequences(), "rows converted to symbols", len(corpus))
    chunks = (
        _encode(vocabulary, chunk, whole_length, num_threads)
        for chunk in _chunks(sequences, chunk_rows, chunk_symbols)
    )
    if corpus.key is None or len(corpus) <= max_rows_in_memory:
        symbols, offsets = _in_memory(chunks)
    else:
        key = fingerprint(ENCODER_VERSION, corpus.key, vocabulary.fingerprint, whole_length)
        symbols, offsets = _in_a_file(chunks, key, len(corpus))
    ids = corpus.table.column("id")
    return EncodedRows(
        symbols,
        offsets,
        y,
        candidates,
        ids,
        max_length=max_length,
        vectors=corpus.vectors,
        evidence=evidence,
    )


def _evidence(corpus: Corpus, labels: Labels) -> Evidence:
    """Soft labels and votes of a corpus."""
    votes = None
    if corpus.votes is not None:
        names = corpus.unlabelled_names()
        votes = votes_of(corpus.votes, corpus.voters, labels, names, corpus.where)
    return Evidence(soft_of(corpus.table, labels), votes)


def encode_sequences(
    sequences: Sequence[str] | Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    *,
    max_length: int,
    whole_length: int | None = None,
) -> EncodedRows:
    """Encode sequences that come from no file; unlabelled, their ids are "1", "2", ...

    Args:
        sequences: Texts, or lists of tokens; they may be empty.
        vocabulary: As in `encode_corpus`.
        max_length: As in `encode_corpus`.
        whole_length: As in `encode_corpus`.

    Raises:
        InputError: a lone surrogate, or a million symbols or more, with the sequence's number.
    """
    for number, sequence in enumerate(sequences, 1):
        where = f"sequence {number}"
        if len(sequence) >= MAX_SYMBOLS:
            raise InputError(
                f"{where}: wanted fewer than {MAX_SYMBOLS:,} symbols, got {len(sequence):,}"
            )
        text = sequence if isinstance(sequence, str) else "".join(sequence)
        if find_surrogate(text) is not None:
            raise InputError(f"{where}: wanted Unicode text, got a lone surrogate")
    chunks = _chunks(sequences, CHUNK_ROWS, CHUNK_SYMBOLS)
    whole_length = max_length if whole_length is None else whole_length
    symbols, offsets = _in_memory(_encode(vocabulary, chunk, whole_length, 0) for chunk in chunks)
    ids = range(1, len(sequences) + 1)
    return EncodedRows(symbols, offsets, ids=ids, max_length=max_length)


def encode_given(
    sequences: Iterable[object],
    vocabulary: Vocabulary,
    *,
    max_length: int,
    whole_length: int | None = None,
) -> EncodedRows:
    """As `encode_sequences`, of arguments whose kind is not known.

    Raises:
        InputError: a text or a list of tokens is wanted and something else was given.
    """
    if isinstance(sequences, str):  # which holds texts, its characters
        raise InputError(f"wanted a list of sequences, got the text {sequences!r:.40}")
    checked: list[Any] = list(sequences)
    wants_text = vocabulary.kind != "tokens"
    for number, sequence in enumerate(checked, start=1):
        is_sequence = isinstance(sequence, Collection) and all(
            isinstance(symbol, str) for symbol in sequence
        )
        if isinstance(sequence, list | tuple) and not is_sequence:  # whole numbers are tokens
            names = [name_of(symbol) for symbol in sequence]
            checked[number - 1], is_sequence = names, None not in names
        if wants_text != isinstance(sequence, str) or not is_sequence:
            wanted = "a text" if wants_text else "a list of tokens"
            raise InputError(f"sequence {number}: wanted {wanted}, got {sequence!r:.40}")
    return encode_sequences(checked, vocabulary, max_length=max_length, whole_length=whole_length)


def unseen_share(vocabulary: Vocabulary, *selections: EncodedRows) -> float:
    """The share of symbols that stand for what is not in the vocabulary; 0 without symbols."""
    num_unseen = num_symbols = 0
    for part in (part for rows in selections for part in rows.parts()):
        num_unseen += int(vocabulary.is_unseen(part.symbols).sum())
        num_symbols += len(part.symbols)
    return num_unseen / max(num_symbols, 1)


def warn_of_losses(
    rows: EncodedRows, config: Config, vocabulary: Vocabulary, usual_share: float
) -> None:
    """Warn of unknown symbols and of rows that were cut.

    Args:
        rows: Rows that the model reads.
        config: Settings of the run.
        vocabulary: Vocabulary of the run.
        usual_share: `unseen_share` of the training rows.
    """
    if rows.num_unknown:
        logger.warning("%d symbols are not in the vocabulary: read as UNK", rows.num_unknown)
    share = unseen_share(vocabulary, rows)
    if share > max(FEW_UNSEEN, MORE_UNSEEN * usual_share):
        logger.warning(
            f"{share:.1%} of all symbols are parts of rows that the vocabulary does not have, "
            f"{usual_share:.1%} in training: is it another language, alphabet or Unicode form?"
        )
    if rows.num_truncated:
        logger.warning(describe_long_rows(rows.num_truncated, config))


def describe_long_rows(number: int, config: Config) -> str:
    """What is read of rows that are longer than `data.max_length`, in a line."""
    limit, whole_length = config.data.max_length, config.whole_length
    read = "truncated"
    if whole_length > limit:
        read = f"n-grams of q(y|x) are read up to symbol {whole_length}, all else is truncated"
    return f"{number} rows are longer than data.max_length = {limit}: {read}"


def _encode(
    vocabulary: Vocabulary,
    sequences: list[str | Sequence[str]],
    whole_length: int,
    num_threads: int,
) -> tuple[Symbols, Integers]:
    """Ids of rows one after the other, EOS after rows that are not truncated, and their lengths."""
    ids, lengths = vocabulary.encode_many(sequences, num_threads=num_threads)
    sizes = np.minimum(lengths + 1, whole_length)
    row = np.repeat(np.arange(len(sizes)), sizes)
    time = np.arange(len(row)) - offsets_of(sizes)[row]
    symbols = np.full(len(row), EOS, dtype=np.int32)
    inside = time < lengths[row]
    symbols[inside] = ids[(offsets_of(lengths)[row] + time)[inside]]
    return symbols, sizes


def _chunks(
    sequences: Iterable[str | Sequence[str]], max_rows: int, max_symbols: int
) -> Iterator[list[str | Sequence[str]]]:
    """Sequences in order, fewer in a chunk if they are long."""
    iterator = iter(sequences)
    while True:
        chunk: list[str | Sequence[str]] = []
        num_symbols = 0
        for sequence in islice(iterator, max_rows):
            chunk.append(sequence)
            num_symbols += len(sequence)
            if num_symbols > max_symbols:
                break
        if not chunk:
            return
        yield chunk


def _in_memory(chunks: Iterable[tuple[Symbols, Integers]]) -> tuple[Symbols, Integers]:
    symbols, lengths = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
    for some_symbols, some_lengths in chunks:
        symbols.append(some_symbols)
        lengths.append(some_lengths)
    return np.concatenate(symbols), offsets_of(np.concatenate(lengths))


def _in_a_file(
    chunks: Iterable[tuple[Symbols, Integers]], key: str, num_rows: int
) -> tuple[Symbols, Integers]:
    """Ids that are mapped from a file of the cache: n + 1 offsets, then M symbols."""

    def write(path: Path) -> None:
        with path.open("xb") as file:
            file.truncate(8 * (num_rows + 1))
            offsets = np.memmap(path, np.int64, "r+", shape=(num_rows + 1,))
            file.seek(0, os.SEEK_END)
            row = 0
            for symbols, lengths in chunks:
                file.write(symbols.tobytes())
                offsets[row : row + len(lengths) + 1] = offsets[row] + offsets_of(lengths)
                row += len(lengths)

    path = cached_file(f"{key}.ids", write, is_whole=lambda path: _is_whole(path, num_rows))
    offsets = _mapped_offsets(path, num_rows)
    num_symbols = int(offsets[-1])
    symbols = np.memmap(path, np.int32, "r", offset=8 * (num_rows + 1), shape=(num_symbols,))
    return symbols.view(np.ndarray), offsets


def _mapped_offsets(path: Path, num_rows: int) -> Integers:
    return np.memmap(path, np.int64, "r", shape=(num_rows + 1,)).view(np.ndarray)


def _is_whole(path: Path, num_rows: int) -> bool:
    size = path.stat().st_size
    if size <= 8 * (num_rows + 1):
        return False
    return size == 8 * (num_rows + 1) + 4 * int(_mapped_offsets(path, num_rows)[-1])
