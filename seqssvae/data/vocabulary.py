"""Symbols to ids and back: SentencePiece pieces, characters, given tokens.

Ids 0 to 3 are PAD, UNK, BOS and EOS in every vocabulary. `encode` gives neither BOS nor EOS.
"""

import abc
import functools
import hashlib
import itertools
import json
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from seqssvae.data.sentencepieces import (
    MIN_PIECES,
    NUM_BYTES,
    SPACE_MARK,
    UNKNOWN_CHARACTER,
    train_pieces,
)
from seqssvae.errors import InputError

__all__ = [
    "BOS",
    "EOS",
    "NUM_SPECIAL",
    "PAD",
    "UNK",
    "CharacterVocabulary",
    "SentencePieceVocabulary",
    "WORD",
    "TokenVocabulary",
    "Vocabulary",
    "build_vocabulary",
    "count_unknown",
    "has_words",
    "load_vocabulary",
]

PAD, UNK, BOS, EOS = 0, 1, 2, 3
NUM_SPECIAL = 4

WORD = re.compile(r"\w+|[^\w\s]")  # a word or a punctuation mark
SPECIAL_SYMBOLS = ("<pad>", "<unk>", "<bos>", "<eos>")

FORMAT = 1
JSON_NAME, PIECES_NAME = "vocabulary.json", "sentencepiece.model"


class Vocabulary(abc.ABC):
    """Symbols and their ids, from 0 to `len(vocabulary)` - 1 (V symbols, special ones included)."""

    kind: ClassVar[str]

    @abc.abstractmethod
    def __len__(self) -> int:
        """V, special symbols included."""

    @abc.abstractmethod
    def encode(self, sequence: str | Sequence[str]) -> list[int]:
        """Ids of a sequence, without BOS and EOS; what is not known becomes UNK.

        Args:
            sequence: A text, or a list of tokens where `kind` is "tokens". An empty one has no ids.
        """

    @abc.abstractmethod
    def encode_many(
        self, sequences: Sequence[str | Sequence[str]], *, num_threads: int = 1
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids of many sequences, each as `encode` gives them.

        Args:
            sequences: As of `encode`, n of them.
            num_threads: Of SentencePiece, 0 for one each core; the others need no more than one.

        Returns:
            All ids one after the other, and how many each sequence has, `[n]`.
        """

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """A checksum: equal ones give equal ids."""

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str | list[str]:
        """The text or tokens of ids: stops at EOS, skips PAD and BOS.

        UNK is shown as U+FFFD in a text and as `<unk>` among tokens.

        Raises:
            IndexError: an id is not from 0 to V - 1.
        """

    @abc.abstractmethod
    def symbol(self, id: int) -> str:
        """How one id is shown; the special ones as `<pad>`, `<unk>`, `<bos>` and `<eos>`.

        Raises:
            IndexError: the id is not from 0 to V - 1.
        """

    @abc.abstractmethod
    def save(self, folder: Path) -> None:
        """Write `vocabulary.json`, and `sentencepiece.model` for pieces, into an existing folder.

        Raises:
            OSError: a file cannot be written.
        """


class _Table:
    """Listed symbols, numbered from NUM_SPECIAL on."""

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = tuple(symbols)
        self.ids = {symbol: id for id, symbol in enumerate(self.symbols, start=NUM_SPECIAL)}
        if len(self.ids) < len(self.symbols):
            raise ValueError("wanted different symbols, got one twice")

    def __len__(self) -> int:
        return NUM_SPECIAL + len(self.symbols)

    def encode(self, sequence: str | Sequence[str]) -> list[int]:
        ids = self.ids
        return [ids.get(symbol, UNK) for symbol in sequence]

    def fingerprint(self, kind: str) -> str:
        return hashlib.sha256(json.dumps([kind, self.symbols]).encode()).hexdigest()

    def symbol(self, id: int) -> str:
        _check_id(id, len(self))
        return SPECIAL_SYMBOLS[id] if id < NUM_SPECIAL else self.symbols[id - NUM_SPECIAL]


@final
class CharacterVocabulary(Vocabulary):
    """Unicode code points as symbols.

    Args:
        symbols: Different single characters; the first has the id 4.
    """

    kind = "characters"

    def __init__(self, symbols: Sequence[str]) -> None:
        if any(len(symbol) != 1 for symbol in symbols):
            raise ValueError("wanted single characters")
        self._table = _Table(symbols)

    def __len__(self) -> int:
        return len(self._table)

    def encode(self, sequence: str | Sequence[str]) -> list[int]:
        return self._table.encode(_as_text(sequence, self.kind))

    def encode_many(  # noqa: D102
        self, sequences: Sequence[str | Sequence[str]], *, num_threads: int = 1
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        texts = [_as_text(sequence, self.kind) for sequence in sequences]
        points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4")
        known = self._id_of_point
        ids = known[np.minimum(points, len(known) - 1)]
        return ids, np.fromiter(map(len, texts), np.int64, len(texts))

    @functools.cached_property
    def _id_of_point(self) -> NDArray[np.int32]:
        """The ids of code points, UNK for those between and, at last, for all beyond."""
        points = [ord(symbol) for symbol in self._table.symbols]
        found = np.full(max(points, default=-1) + 2, UNK, dtype=np.int32)
        found[points] = np.arange(NUM_SPECIAL, len(self))
        return found

    @property
    def fingerprint(self) -> str:  # noqa: D102
        return self._table.fingerprint(self.kind)

    def decode(self, ids: Sequence[int]) -> str:
        kept = _visible(ids, len(self))
        return "".join(UNKNOWN_CHARACTER if id == UNK else self.symbol(id) for id in kept)

    def symbol(self, id: int) -> str:
        return self._table.symbol(id)

    def save(self, folder: Path) -> None:
        _write_json(folder, {"kind": self.kind, "symbols": list(self._table.symbols)})


@final
class TokenVocabulary(Vocabulary):
    """Given tokens as symbols; a user's token `<unk>` has an id of its own.

    Args:
        symbols: Different tokens; the first has the id 4.
    """

    kind = "tokens"

    def __init__(self, symbols: Sequence[str]) -> None:
        self._table = _Table(symbols)

    def __len__(self) -> int:
        return len(self._table)

    def encode(self, sequence: str | Sequence[str]) -> list[int]:
        return self._table.encode(_as_tokens(sequence))

    def encode_many(  # noqa: D102
        self, sequences: Sequence[str | Sequence[str]], *, num_threads: int = 1
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        rows = [_as_tokens(sequence) for sequence in sequences]
        ids, tokens = self._table.ids, itertools.chain.from_iterable(rows)
        found = array("i", [ids.get(token, UNK) for token in tokens])
        return np.array(found, np.int32), np.fromiter(map(len, rows), np.int64, len(rows))

    @property
    def fingerprint(self) -> str:  # noqa: D102
        return self._table.fingerprint(self.kind)

    def decode(self, ids: Sequence[int]) -> list[str]:
        return [self.symbol(id) for id in _visible(ids, len(self))]

    def symbol(self, id: int) -> str:
        return self._table.symbol(id)

    def save(self, folder: Path) -> None:
        _write_json(folder, {"kind": self.kind, "symbols": list(self._table.symbols)})


@final
class SentencePieceVocabulary(Vocabulary):
    """Pieces of text; what no piece covers is spelled in bytes, so nothing is unknown.

    `decode(encode(text)) == text` but for a literal U+2581, which comes back as a space.

    Args:
        model: The bytes of a SentencePiece model whose ids 0 to 3 are PAD, UNK, BOS, EOS.

    Raises:
        ValueError: the bytes are no such model.
    """

    kind = "sentencepiece"

    def __init__(self, model: bytes) -> None:
        import sentencepiece

        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, OSError) as error:
            raise ValueError("wanted a SentencePiece model, got other bytes") from error
        pieces = self._processor
        special = (pieces.pad_id(), pieces.unk_id(), pieces.bos_id(), pieces.eos_id())
        if special != (PAD, UNK, BOS, EOS):
            raise ValueError(f"wanted PAD, UNK, BOS, EOS as 0, 1, 2, 3, got {special}")
        self._model = model
        self._size = int(pieces.vocab_size())

    def __len__(self) -> int:
        return self._size

    def encode(self, sequence: str | Sequence[str]) -> list[int]:
        ids: list[int] = self._processor.encode(_as_text(sequence, self.kind))
        return ids

    def encode_many(  # noqa: D102
        self, sequences: Sequence[str | Sequence[str]], *, num_threads: int = 1
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        texts = [_as_text(sequence, self.kind) for sequence in sequences]
        rows = self._processor.encode(texts, num_threads=num_threads or -1)
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.fromiter(itertools.chain.from_iterable(rows), np.int32, int(lengths.sum()))
        return ids, lengths

    @property
    def fingerprint(self) -> str:  # noqa: D102
        return hashlib.sha256(self._model).hexdigest()

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._processor.decode(list(_visible(ids, len(self))))
        return text.replace(SPACE_MARK, " ")  # a space that was spelled in bytes

    def symbol(self, id: int) -> str:
        _check_id(id, len(self))
        return SPECIAL_SYMBOLS[id] if id < NUM_SPECIAL else str(self._processor.id_to_piece(id))

    def save(self, folder: Path) -> None:
        (folder / PIECES_NAME).write_bytes(self._model)
        _write_json(folder, {"kind": self.kind, "size": len(self)})

    def __reduce__(self) -> tuple[type["SentencePieceVocabulary"], tuple[bytes]]:
        return SentencePieceVocabulary, (self._model,)


def build_vocabulary(
    kind: str, sequences: Iterable[str | Sequence[str]], *, size: int, min_count: int = 1
) -> Vocabulary:
    """Learn a vocabulary from training rows; the same rows in any order give the same symbols.

    Characters and tokens are the most frequent ones, ties in the order of their code points.
    SentencePiece learns a unigram model, without normalisation, from at most 4 million characters;
    of a larger corpus it takes a share drawn by a checksum of the texts. It needs no more than one
    row, and takes fewer pieces than `size` from a small corpus.

    Args:
        kind: "sentencepiece", "characters" or "tokens".
        sequences: Texts, or lists of tokens for "tokens"; read once.
        size: V at most, the special symbols included; at least 300 for "sentencepiece".
        min_count: Rarer characters and tokens become UNK; pieces take no notice of it.

    Raises:
        InputError: an unknown kind, a size that is too small, or sequences of the other kind.
    """
    if kind == "sentencepiece":
        if size < MIN_PIECES:
            raise InputError(
                f"data.vocabulary_size: wanted at least {MIN_PIECES} for sentencepiece "
                f"({NUM_BYTES} are bytes), got {size}"
            )
        texts = (_as_text(sequence, kind) for sequence in sequences)
        return SentencePieceVocabulary(train_pieces(texts, size=size, special=SPECIAL_SYMBOLS))
    if kind not in ("characters", "tokens"):
        raise InputError(f"data.vocabulary: wanted sentencepiece, characters or tokens, got {kind}")
    if size <= NUM_SPECIAL:
        raise InputError(f"data.vocabulary_size: wanted more than {NUM_SPECIAL}, got {size}")
    counts: Counter[str] = Counter()
    for sequence in sequences:
        counts.update(_as_tokens(sequence) if kind == "tokens" else _as_text(sequence, kind))
    frequent = [symbol for symbol in counts if counts[symbol] >= min_count]
    frequent.sort(key=lambda symbol: (-counts[symbol], symbol))
    symbols = frequent[: size - NUM_SPECIAL]
    return TokenVocabulary(symbols) if kind == "tokens" else CharacterVocabulary(symbols)


def load_vocabulary(folder: Path) -> Vocabulary:
    """Read what `Vocabulary.save` wrote.

    Raises:
        InputError: a file is missing or damaged; the message names it.
    """
    path = folder / JSON_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"wanted format {FORMAT}")
        kind = content["kind"]
        if kind == SentencePieceVocabulary.kind:
            path = folder / PIECES_NAME
            pieces = SentencePieceVocabulary(path.read_bytes())
            if len(pieces) != content["size"]:
                raise ValueError(f"wanted {content['size']} pieces, got {len(pieces)}")
            return pieces
        symbols = content["symbols"]
        if not isinstance(symbols, list) or not all(isinstance(one, str) for one in symbols):
            raise ValueError("wanted a list of symbols")
        if kind == CharacterVocabulary.kind:
            return CharacterVocabulary(symbols)
        if kind == TokenVocabulary.kind:
            return TokenVocabulary(symbols)
        raise ValueError(f"unknown kind {kind!r}")
    except OSError as error:
        raise InputError(f"{path}: wanted a readable file, got {error.strerror}") from error
    except KeyError as error:
        raise InputError(f"{path}: wanted a vocabulary, got one without {error}") from error
    except ValueError as error:  # broken UTF-8 and JSON included
        raise InputError(f"{path}: wanted a vocabulary, got a damaged file: {error}") from error


def count_unknown(ids: Iterable[int]) -> int:
    """How many ids are UNK."""
    return sum(id == UNK for id in ids)


def has_words(sequences: Iterable[str | Sequence[str]], min_words: float = 3.0) -> bool:
    """Whether most sequences are texts with a space in them, and the mean one has enough words.

    Args:
        sequences: Texts or lists of tokens; of the latter the answer is False.
        min_words: Words and punctuation marks of the mean text, at least.
    """
    texts = [sequence.strip() for sequence in sequences if isinstance(sequence, str)]
    num_words = sum(len(WORD.findall(text)) for text in texts)
    with_space = sum(" " in text for text in texts)
    return 2 * with_space > len(texts) and num_words >= min_words * len(texts)


def _as_text(sequence: str | Sequence[str], kind: str) -> str:
    if not isinstance(sequence, str):
        raise InputError(f"data.vocabulary = {kind}: wanted texts, got {_shorten(sequence)}")
    return sequence


def _as_tokens(sequence: str | Sequence[str]) -> Sequence[str]:
    if isinstance(sequence, str):
        raise InputError(
            f"data.vocabulary = tokens: wanted lists of tokens, got {_shorten(sequence)}"
        )
    return sequence


def _shorten(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def _visible(ids: Iterable[int], size: int) -> Iterator[int]:
    """Ids before EOS, without PAD and BOS."""
    for id in map(int, ids):
        _check_id(id, size)
        if id == EOS:
            return
        if id not in (PAD, BOS):
            yield id


def _check_id(id: int, size: int) -> None:
    if not 0 <= id < size:
        raise IndexError(f"wanted an id from 0 to {size - 1}, got {id}")


def _write_json(folder: Path, content: dict[str, Any]) -> None:
    text = json.dumps({"format": FORMAT, **content}, ensure_ascii=False, indent=0)
    (folder / JSON_NAME).write_text(text + "\n", encoding="utf-8")
