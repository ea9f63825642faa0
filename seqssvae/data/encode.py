"""Encoding: from the sequences of a corpus to ids, kept in a file where there are many."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seqssvae.data.corpus import Corpus
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.rows import MAX_SYMBOLS, find_surrogate
from seqssvae.data.splits import Labels
from seqssvae.data.vocabulary import EOS, Vocabulary
from seqssvae.errors import InputError
from seqssvae.storage.cache import cached_file, fingerprint

__all__ = ["encode_corpus", "encode_sequences"]

ENCODER_VERSION = 1  # raised when the same rows give other ids, so that no old cache is used
KEPT_ROWS = 100_000  # of a corpus with more, ids are kept in a file of the cache
CHUNK_ROWS, CHUNK_SYMBOLS = 5000, 2_000_000  # that are encoded at once

Symbols = NDArray[np.int32]
Offsets = NDArray[np.int64]


def encode_corpus(
    corpus: Corpus,
    vocabulary: Vocabulary,
    labels: Labels | None,
    *,
    max_length: int,
    num_threads: int = 0,
) -> EncodedRows:
    """Encode all rows of a corpus, in their order.

    Ids of more than 100,000 rows of a file or a data set are written to the cache, by a fingerprint
    of rows, vocabulary and `max_length`, and are mapped into memory.

    Args:
        corpus: The rows; texts for a vocabulary of texts, tokens for one of tokens.
        vocabulary: What is not in it becomes UNK and is counted.
        labels: The classes that y counts; None, or no classes, leaves all rows unlabelled.
        max_length: Symbols that a row may hold, EOS included; longer rows are cut without a false
            EOS, and counted.
        num_threads: Of SentencePiece; 0 for one each core. The ids do not depend on it.

    Raises:
        InputError: a label that is not in `labels`, with the row and the nearest known label.
    """
    _check_length(max_length)
    y: NDArray[np.int64] = np.broadcast_to(np.int64(-1), len(corpus))
    candidates: dict[int, tuple[int, ...]] = {}
    if labels is not None and labels.names:
        y, candidates = corpus.classes(labels)
    chunks = _encode(corpus.sequences(), vocabulary, max_length, num_threads)
    if corpus.key is None or len(corpus) <= KEPT_ROWS:
        symbols, offsets = _in_memory(chunks)
    else:
        key = fingerprint(ENCODER_VERSION, corpus.key, vocabulary.fingerprint, max_length)
        symbols, offsets = _in_a_file(chunks, key, len(corpus))
    return EncodedRows(symbols, offsets, y, candidates, corpus.ids)


def encode_sequences(
    sequences: Sequence[str] | Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    *,
    max_length: int,
) -> EncodedRows:
    """Encode sequences that come from no file; unlabelled, their ids are "1", "2", ...

    Args:
        sequences: Texts, or lists of tokens; they may be empty.
        vocabulary: As in `encode_corpus`.
        max_length: As in `encode_corpus`.

    Raises:
        InputError: a lone surrogate, or a million symbols or more, with the sequence's number.
    """
    _check_length(max_length)
    for number, sequence in enumerate(sequences, 1):
        where = f"sequence {number}"
        if len(sequence) >= MAX_SYMBOLS:
            raise InputError(
                f"{where}: wanted fewer than {MAX_SYMBOLS:,} symbols, got {len(sequence):,}"
            )
        text = sequence if isinstance(sequence, str) else "".join(sequence)
        if find_surrogate(text) is not None:
            raise InputError(f"{where}: wanted Unicode text, got a lone surrogate")
    symbols, offsets = _in_memory(_encode(iter(sequences), vocabulary, max_length, 0))
    y = np.full(len(sequences), -1, dtype=np.int64)
    ids = tuple(str(number) for number in range(1, len(sequences) + 1))
    return EncodedRows(symbols, offsets, y, {}, ids)


def _check_length(max_length: int) -> None:
    if max_length < 1:
        raise ValueError(f"max_length: wanted at least 1, got {max_length}")


def _encode(
    sequences: Iterator[str] | Iterator[Sequence[str]] | Iterator[str | list[str]],
    vocabulary: Vocabulary,
    max_length: int,
    num_threads: int,
) -> Iterator[tuple[Symbols, Offsets]]:
    """Ids of some rows after the other, and the length of each; EOS behind rows that are whole."""
    while chunk := _next_chunk(sequences):
        ids, lengths = vocabulary.encode_many(chunk, num_threads=num_threads)
        kept = np.minimum(lengths + 1, max_length)  # EOS is one of them, in a row that is not cut
        ends = np.cumsum(kept)
        row = np.repeat(np.arange(len(kept)), kept)
        place = np.arange(len(row)) - (ends - kept)[row]  # within the row
        starts = np.cumsum(lengths) - lengths
        symbols = np.full(len(row), EOS, dtype=np.int32)
        inside = place < lengths[row]
        symbols[inside] = ids[(starts[row] + place)[inside]]
        yield symbols, kept


def _next_chunk(sequences: Iterator[str] | Iterator[Sequence[str]]) -> list[str | Sequence[str]]:
    """The next rows, few if they are long."""
    chunk: list[str | Sequence[str]] = []
    num_symbols = 0
    for sequence in islice(sequences, CHUNK_ROWS):
        chunk.append(sequence)
        num_symbols += len(sequence)
        if num_symbols > CHUNK_SYMBOLS:
            break
    return chunk


def _in_memory(chunks: Iterator[tuple[Symbols, Offsets]]) -> tuple[Symbols, Offsets]:
    found = list(chunks)
    lengths = np.concatenate([np.zeros(1, np.int64), *(part for _, part in found)])
    symbols = np.concatenate([np.zeros(0, np.int32), *(part for part, _ in found)])
    return symbols, np.cumsum(lengths)


def _in_a_file(
    chunks: Iterator[tuple[Symbols, Offsets]], key: str, num_rows: int
) -> tuple[Symbols, Offsets]:
    """Ids that are mapped from a file of the cache: n + 1 offsets, then M symbols."""

    def write(path: Path) -> None:
        written, total = 0, 0
        with path.open("xb") as file:
            file.write(bytes(8))
            file.seek(8 * (num_rows + 1))
            for symbols, lengths in chunks:
                file.write(symbols.tobytes())
                ends = total + np.cumsum(lengths)
                end = file.tell()
                file.seek(8 * (written + 1))
                file.write(ends.tobytes())
                file.seek(end)
                written, total = written + len(lengths), int(ends[-1])
        assert written == num_rows

    path = cached_file(f"{key}.ids", write, is_whole=lambda path: _is_whole(path, num_rows))
    offsets = _mapped_offsets(path, num_rows)
    num_symbols = int(offsets[-1])
    symbols = np.memmap(path, np.int32, "r", offset=8 * (num_rows + 1), shape=(num_symbols,))
    return symbols.view(np.ndarray), offsets


def _mapped_offsets(path: Path, num_rows: int) -> Offsets:
    return np.memmap(path, np.int64, "r", shape=(num_rows + 1,)).view(np.ndarray)


def _is_whole(path: Path, num_rows: int) -> bool:
    size = path.stat().st_size
    if size <= 8 * (num_rows + 1):
        return False
    return size == 8 * (num_rows + 1) + 4 * int(_mapped_offsets(path, num_rows)[-1])
