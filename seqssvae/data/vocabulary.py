"""Symbols to ids and back: SentencePiece pieces, characters, given tokens.

Ids 0 to 3 are PAD, UNK, BOS and EOS in every vocabulary. `encode` gives neither BOS nor EOS.
"""

import abc
import functools
import hashlib
import itertools
import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from reprlib import repr as brief
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from seqssvae.data.rows import UNICODE_FORMS, normalise
from seqssvae.data.sentencepieces import (
    MIN_PIECES,
    NUM_BYTES,
    SPACE_MARK,
    UNKNOWN_CHARACTER,
    train_pieces,
)
from seqssvae.errors import InputError
from seqssvae.storage.files import parse_json, read_bytes

PAD, UNK, BOS, EOS = 0, 1, 2, 3
NUM_SPECIAL = 4

SPECIAL_SYMBOLS = ("<pad>", "<unk>", "<bos>", "<eos>")

FORMAT = 1
JSON_NAME, PIECES_NAME = "vocabulary.json", "sentencepiece.model"


class Vocabulary(abc.ABC):
    """Symbols and their ids, from 0 to `len(vocabulary)` - 1 (V symbols, special ones included).

    Attributes:
        kind: "characters", "tokens" or "sentencepiece".
        form: Unicode form that sequences are converted to before they are encoded; see `normalise`.
    """

    kind: ClassVar[str]
    form: str = "none"

    def is_unseen(self, ids: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which ids stand for what is not in the vocabulary; shape as `ids`."""
        return np.asarray(ids == UNK)

    @abc.abstractmethod
    def __len__(self) -> int:
        """V, special symbols included."""

    @abc.abstractmethod
    def encode(self, sequence: str | Sequence[str]) -> list[int]:
        """Ids of a sequence, without BOS and EOS; unknown symbols become UNK.

        Args:
            sequence: A text, or a list of tokens if `kind` is "tokens". An empty one has no ids.
        """

    @abc.abstractmethod
    def encode_many(
        self, sequences: Sequence[str | Sequence[str]], *, num_threads: int = 1
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids of many sequences, the same as `encode` gives.

        Args:
            sequences: n sequences; see `encode`.
            num_threads: Threads of SentencePiece, 0 for one per core; other kinds use one.

        Returns:
            All ids one after the other, `[M]`, and the number of ids of each sequence, `[n]`.
        """

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """A checksum: vocabularies with the same one give the same ids."""

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str | list[str]:
        """The text or tokens of ids: stops at EOS, skips PAD and BOS.

        UNK is shown as U+FFFD in a text and as `<unk>` among tokens.

        Raises:
            IndexError: an id is not from 0 to V - 1.
        """

    @abc.abstractmethod
    def symbol(self, id: int) -> str:
        """An id as text; the special ones as `<pad>`, `<unk>`, `<bos>` and `<eos>`.

        Raises:
            IndexError: the id is not from 0 to V - 1.
        """

    @abc.abstractmethod
    def save(self, folder: Path) -> None:
        """Write `vocabulary.json`, and `sentencepiece.model` for pieces, into an existing folder.

        Raises:
            OSError: a file cannot be written.
        """


class _ListedVocabulary(Vocabulary):
    """Listed symbols, numbered from NUM_SPECIAL on."""

    def __init__(self, symbols: Sequence[str], *, form: str = "none") -> None:
        self._symbols, self.form = tuple(symbols), form
        self._ids = {symbol: id for id, symbol in enumerate(self._symbols, start=NUM_SPECIAL)}
        if len(self._ids) < len(self._symbols):
            raise ValueError("wanted different symbols, got one twice")

    def __len__(self) -> int:
        return NUM_SPECIAL + len(self._symbols)

    @property
    def fingerprint(self) -> str:
        content = json.dumps([self.kind, self._symbols]) + self.form.removeprefix("none")
        return hashlib.sha256(content.encode()).hexdigest()

    def symbol(self, id: int) -> str:
        _check_id(id, len(self))
        return SPECIAL_SYMBOLS[id] if id < NUM_SPECIAL else self._symbols[id - NUM_SPECIAL]

    def save(self, folder: Path) -> None:
        _write_json(folder, self, {"symbols": list(self._symbols)})


@final
class CharacterVocabulary(_ListedVocabulary):
    """Unicode code points as symbols.

    Args:
        symbols: Different single characters; the first has the id 4.
        form: See the base class.
    """

    kind = "characters"

    def __init__(self, symbols: Sequence[str], *, form: str = "none") -> None:
        if any(len(symbol) != 1 for symbol in symbols):
            raise ValueError("wanted single characters")
        super().__init__(symbols, form=form)

    def encode(self, sequence: str | Sequence[str]) -> list[int]:
        return [self._ids.get(symbol, UNK) for symbol in _as_text(sequence, self.kind, self.form)]

    def encode_many(
        self, sequences: Sequence[str | Sequence[str]], *, num_threads: int = 1
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        texts = [_as_text(sequence, self.kind, self.form) for sequence in sequences]
        points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4")
        known = self._id_of_point
        ids = known[np.minimum(points, len(known) - 1)]
        return ids, np.fromiter(map(len, texts), np.int64, len(texts))

    @functools.cached_property
    def _id_of_point(self) -> NDArray[np.int32]:
        """The ids of code points, UNK for unknown ones; the last is that of all larger ones."""
        points = [ord(symbol) for symbol in self._symbols]
        ids = np.full(max(points, default=-1) + 2, UNK, dtype=np.int32)
        ids[points] = np.arange(NUM_SPECIAL, len(self))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        visible = _visible(ids, len(self))
        return "".join(UNKNOWN_CHARACTER if id == UNK else self.symbol(id) for id in visible)


@final
class TokenVocabulary(_ListedVocabulary):
    """Given tokens as symbols; a user's token `<unk>` has an id of its own.

    Args:
        symbols: Different tokens; the first has the id 4.
        form: See `Vocabulary`.
    """

    kind = "tokens"

    def encode(self, sequence: str | Sequence[str]) -> list[int]:
        return [self._ids.get(token, UNK) for token in _as_tokens(sequence, self.form)]

    def encode_many(
        self, sequences: Sequence[str | Sequence[str]], *, num_threads: int = 1
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        rows = [_as_tokens(sequence, self.form) for sequence in sequences]
        tokens = itertools.chain.from_iterable(rows)
        ids = array("i", [self._ids.get(token, UNK) for token in tokens])
        return np.array(ids, np.int32), np.fromiter(map(len, rows), np.int64, len(rows))

    def decode(self, ids: Sequence[int]) -> list[str]:
        return [self.symbol(id) for id in _visible(ids, len(self))]


@final
class SentencePieceVocabulary(Vocabulary):
    """Pieces of text; other text is spelled in bytes, so that nothing is unknown.

    `decode(encode(text)) == text` except for U+2581, which becomes a space, and the Unicode form.

    Args:
        model: The bytes of a SentencePiece model whose ids 0 to 3 are PAD, UNK, BOS, EOS.
        form: See `Vocabulary`.

    Raises:
        ValueError: the bytes are not such a model.
    """

    kind = "sentencepiece"

    def __init__(self, model: bytes, *, form: str = "none") -> None:
        import sentencepiece

        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, OSError) as error:
            raise ValueError("wanted a SentencePiece model, got other bytes") from error
        pieces = self._processor
        special = (pieces.pad_id(), pieces.unk_id(), pieces.bos_id(), pieces.eos_id())
        if special != (PAD, UNK, BOS, EOS):
            raise ValueError(f"wanted PAD, UNK, BOS, EOS as 0, 1, 2, 3, got {special}")
        self._model, self.form = model, form
        self._size = int(pieces.vocab_size())

    def __len__(self) -> int:
        return self._size

    def encode(self, sequence: str | Sequence[str]) -> list[int]:
        ids: list[int] = self._processor.encode(_as_text(sequence, self.kind, self.form))
        return ids

    def encode_many(
        self, sequences: Sequence[str | Sequence[str]], *, num_threads: int = 1
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        texts = [_as_text(sequence, self.kind, self.form) for sequence in sequences]
        rows = self._processor.encode(texts, num_threads=num_threads or -1)
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.fromiter(itertools.chain.from_iterable(rows), np.int32, int(lengths.sum()))
        return ids, lengths

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._model + self.form.removeprefix("none").encode()).hexdigest()

    def is_unseen(self, ids: NDArray[np.integer]) -> NDArray[np.bool_]:
        is_byte = (ids >= NUM_SPECIAL) & (ids < NUM_SPECIAL + NUM_BYTES)
        return np.asarray(is_byte | (ids == UNK))

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._processor.decode(list(_visible(ids, len(self))))
        return text.replace(SPACE_MARK, " ")  # a space that was spelled in bytes

    def symbol(self, id: int) -> str:
        _check_id(id, len(self))
        return SPECIAL_SYMBOLS[id] if id < NUM_SPECIAL else str(self._processor.id_to_piece(id))

    def save(self, folder: Path) -> None:
        (folder / PIECES_NAME).write_bytes(self._model)
        _write_json(folder, self, {"size": len(self)})

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(SentencePieceVocabulary, form=self.form), (self._model,)


LISTED: dict[str, type[_ListedVocabulary]] = {
    one.kind: one for one in (CharacterVocabulary, TokenVocabulary)
}


def build_vocabulary(
    kind: str,
    sequences: Iterable[str | Sequence[str]],
    *,
    size: int,
    min_count: int = 1,
    form: str = "none",
    start: Vocabulary | None = None,
) -> Vocabulary:
    """Learn a vocabulary from training rows; their order does not matter.

    Characters and tokens are the most frequent ones, ties in the order of code points.
    SentencePiece learns a unigram model, without normalisation, from at most 4 million characters,
    a sample of a larger corpus by checksums of the texts. One row is enough; a small corpus gives
    fewer pieces than `size`.

    Args:
        kind: "sentencepiece", "characters" or "tokens".
        sequences: Texts, or lists of tokens for "tokens"; read once.
        size: Limit of V, special symbols included; at least 300 for "sentencepiece".
        min_count: Rarer characters and tokens become UNK; ignored for "sentencepiece".
        form: See `Vocabulary`.
        start: One of the same kind, whose symbols come first; none are added to SentencePiece's.

    Raises:
        InputError: an unknown kind, a size that is too small, or sequences of the other kind.
    """
    if isinstance(start, SentencePieceVocabulary):
        return start
    if kind == "sentencepiece":
        if size < MIN_PIECES:
            raise InputError(
                f"data.vocabulary_size: wanted at least {MIN_PIECES} for sentencepiece "
                f"({NUM_BYTES} are bytes), got {size}"
            )
        texts = (_as_text(sequence, kind, form) for sequence in sequences)
        pieces = train_pieces(texts, size=size, special=SPECIAL_SYMBOLS)
        return SentencePieceVocabulary(pieces, form=form)
    if kind not in LISTED:
        raise InputError(f"data.vocabulary: wanted sentencepiece, characters or tokens, got {kind}")
    if size <= NUM_SPECIAL:
        raise InputError(f"data.vocabulary_size: wanted more than {NUM_SPECIAL}, got {size}")
    counts: Counter[str] = Counter()
    is_tokens = kind == "tokens"
    for sequence in sequences:
        counts.update(_as_tokens(sequence, form) if is_tokens else _as_text(sequence, kind, form))
    frequent = [symbol for symbol in counts if counts[symbol] >= min_count]
    frequent.sort(key=lambda symbol: (-counts[symbol], symbol))
    old = start._symbols if isinstance(start, _ListedVocabulary) else ()
    symbols = list(dict.fromkeys([*old, *frequent]))[: max(size - NUM_SPECIAL, len(old))]
    return LISTED[kind](symbols, form=form)


def load_vocabulary(folder: Path) -> Vocabulary:
    """Read what `Vocabulary.save` wrote.

    Raises:
        InputError: a file is missing or damaged; the message names it.
    """
    path = folder / JSON_NAME
    content = parse_json(read_bytes(path), dict, path)
    try:
        if content.get("format") != FORMAT:
            raise ValueError(f"wanted format {FORMAT}")
        kind, form = content["kind"], content.get("normalise", "none")
        if form not in ("none", *UNICODE_FORMS):
            raise ValueError(f"unknown Unicode form {form!r:.40}")
        if kind == SentencePieceVocabulary.kind:
            path = folder / PIECES_NAME
            pieces = SentencePieceVocabulary(read_bytes(path), form=form)
            if len(pieces) != content["size"]:
                raise ValueError(f"wanted {content['size']} pieces, got {len(pieces)}")
            return pieces
        if kind not in LISTED:
            raise ValueError(f"unknown kind {kind!r}")
        symbols = content["symbols"]
        if not isinstance(symbols, list) or not all(isinstance(one, str) for one in symbols):
            raise ValueError("wanted a list of symbols")
        return LISTED[kind](symbols, form=form)
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{path}: wanted a vocabulary, got one without {error}") from error
    except ValueError as error:
        raise InputError(f"{path}: wanted a vocabulary, got a damaged file: {error}") from error


def _as_text(sequence: str | Sequence[str], kind: str, form: str) -> str:
    if not isinstance(sequence, str):
        raise InputError(f"data.vocabulary = {kind}: wanted texts, got {brief(sequence)}")
    return str(normalise(sequence, form))


def _as_tokens(sequence: str | Sequence[str], form: str) -> Sequence[str]:
    if isinstance(sequence, str):
        raise InputError(f"data.vocabulary = tokens: wanted lists of tokens, got {brief(sequence)}")
    tokens: Sequence[str] = normalise(sequence, form)
    return tokens


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


def _write_json(folder: Path, vocabulary: Vocabulary, content: dict[str, Any]) -> None:
    form = {} if vocabulary.form == "none" else {"normalise": vocabulary.form}
    content = {"format": FORMAT, "kind": vocabulary.kind, **form, **content}
    text = json.dumps(content, ensure_ascii=False, indent=0)
    (folder / JSON_NAME).write_text(text + "\n", encoding="utf-8")
