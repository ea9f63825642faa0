"""One row of a corpus, and the checks that rows of all kinds of files pass."""

import dataclasses
import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from seqssvae.errors import InputError

MAX_SYMBOLS = 1_000_000  # a row has fewer characters or tokens
UNICODE_FORMS: dict[str, Literal["NFC", "NFKC"]] = {"nfc": "NFC", "nfkc": "NFKC"}
WORD = re.compile(r"\w+|[^\w\s]")  # a word or a punctuation mark
MAX_ROUNDING = 1e-3  # of the sum of probabilities
ID_DIGITS = 16  # hex digits of the checksum that is the id of a row without one
RECENT_IDS = 2**20
WHOLE = re.compile(r"(-?[0-9]+)\.0+")  # pandas writes integers so beside missing ones


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A row of a corpus.

    Attributes:
        number: Its number in the source, from 1: the line of a text file on which the row begins (a
            header is line 1), or the row of a parquet file or data set.
        sequence: A text, or a list of tokens; never empty.
        label: A class; several for a partial label ('one of these'); None for an unlabelled row.
            Of several columns, `COLUMN=CLASS` for each class.
        id: The `id` column, or a checksum of sequence and label; `-2`, `-3`, ... is added to the
            second, third, ... row with the same one, so that ids are unique within a corpus.
        repeats_id: Whether its `id` column is the same as an earlier row's.
        file: Number of its file among several, from 0.
        is_doubtful: Whether a cell of it may hold other rows, from an unbalanced quote on.
        vector: Its vector, float32 `[D]`; None if it has none, or none are read.
        shares: Probabilities of the labels of a soft label; None for one that is no soft one.
        votes: What each voter says, None where it says nothing; None if no votes are read.
    """

    number: int
    sequence: str | list[str]
    label: str | tuple[str, ...] | None
    id: str
    repeats_id: bool = False
    file: int = 0
    is_doubtful: bool = False
    vector: NDArray[np.float32] | None = None
    shares: tuple[float, ...] | None = None
    votes: tuple[str | None, ...] | None = None


@final
class RowChecker:
    """Makes rows of a source's values: checks them and makes ids unique.

    Args:
        source: The file or data set, for errors.
        is_tokens: Whether sequences are lists of tokens.
        is_ids: Whether sequences are ids, which may be whole numbers.
        label_columns: Names of several columns of labels; none where there is one.
    """

    def __init__(
        self,
        source: object,
        *,
        is_tokens: bool,
        is_ids: bool = False,
        label_columns: Sequence[str] = (),
    ) -> None:
        self._source, self._is_tokens, self._is_ids = source, is_tokens, is_ids
        self._label_columns = label_columns
        self._number = 0
        self._unique = UniqueIds()

    def __call__(
        self,
        number: int,
        sequence: Any,
        label: Any = None,
        id: Any = None,
        vector: Any = None,
        votes: Sequence[Any] | None = None,
    ) -> Row:
        """Make a row.

        Args:
            number: See `Row`.
            sequence: A text, or a list of tokens; those that are whole numbers become strings.
            label: See `name_of`, or a list of such values; None, NaN, an empty text or one of
                spaces if the row has none; a mapping to probabilities is a soft label. Of several
                columns, a list of these.
            id: See `name_of`; None, NaN or empty if the row has none.
            vector: A list of numbers; None, NaN or an empty text if the row has none.
            votes: Labels as of `name_of`; None, NaN or empty for a vote that is missing.

        Raises:
            InputError: a sequence, label, id, vector or vote of the wrong type, an empty sequence
                or token, a lone surrogate, or a million symbols or more.
        """
        self._number = number
        checked = self._sequence(name_of(sequence) if self._is_ids else sequence)
        known: str | tuple[str, ...] | None
        shares = None
        if isinstance(label, Mapping):
            label, shares = self._soft_label(label)
        if self._label_columns:
            known = self._labels(label)
        else:
            known = None if is_missing(label) else self._label(label)
        has_id = not is_missing(id)
        base = _checksum(checked, known)
        if has_id:
            base = self._name(id, "an id that is a string or a whole number")
        unique = self._unique(base)
        row = Row(number, checked, known, unique, has_id and unique != base, shares=shares)
        if votes is not None:
            wanted = "votes that are a string, a whole number, a boolean or null"
            said = (None if is_missing(one) else self._name(one, wanted) for one in votes)
            row = dataclasses.replace(row, votes=tuple(said))
        if not is_missing(vector):
            row = dataclasses.replace(row, vector=self._vector(vector))
        return row

    def _sequence(self, value: Any) -> Any:
        wanted, unit = "a text", "characters"
        if self._is_tokens:
            wanted, unit = "a list of tokens", "tokens"
        is_right: bool = isinstance(value, list if self._is_tokens else str)
        if not is_right:
            raise self._error(wanted, _describe(value))
        if not value:
            raise self._error(wanted, "an empty one")
        if len(value) >= MAX_SYMBOLS:
            raise self._error(f"a sequence of fewer than {MAX_SYMBOLS:,} {unit}", f"{len(value):,}")
        if not self._is_tokens:
            return self._unicode(value)
        try:
            joined = "".join(value)
        except TypeError:
            names = [token if isinstance(token, str) else name_of(token) for token in value]
            if None in names:
                position = names.index(None)
                got = f"{_describe(value[position])} as token {position + 1}"
                raise self._error("tokens that are strings or whole numbers", got) from None
            value, joined = names, "".join(map(str, names))
        if "" in value:
            raise self._error("tokens", f"an empty one as token {value.index('') + 1}")
        self._unicode(joined)
        return value

    def _labels(self, values: Sequence[Any]) -> tuple[str, ...] | None:
        """`COLUMN=CLASS` of each column that has a label."""
        names: list[str] = []
        for column, value in zip(self._label_columns, values, strict=True):
            found = () if is_missing(value) else self._label(value, f" in column {column!r}") or ()
            found = (found,) if isinstance(found, str) else found
            names += [f"{column}={name}" for name in found]
        return tuple(names) or None

    def _label(self, value: Any, where: str = "") -> str | tuple[str, ...] | None:
        kinds = "a string, a whole number, a boolean, a list of them, or null"
        if not self._label_columns:
            kinds = f"{kinds.removesuffix(', or null')}, a mapping to probabilities, or null"
        wanted = f"a label{where} that is {kinds}"
        if not isinstance(value, list):
            return self._name(value, wanted)
        names = tuple(dict.fromkeys(self._name(one, wanted) for one in value))
        if "" in names:
            raise self._error(f"labels{where} that are not empty", "an empty one")
        if len(names) <= 1:  # 'one of A' is A
            return names[0] if names else None
        return names

    def _soft_label(self, value: Mapping[Any, Any]) -> tuple[list[str], tuple[float, ...] | None]:
        """The labels that a soft label gives a share, and the shares; None where they are equal."""
        wanted = "a soft label, a mapping of labels to probabilities"
        shares: dict[str, float] = {}
        for label, share in value.items():
            name = "" if is_missing(label) else self._name(label, wanted)
            if share is None:  # of a column of structs, which have all labels
                continue
            is_number = isinstance(share, int | float) and not isinstance(share, bool)
            if not name or not is_number or not share >= 0:
                raise self._error(wanted, f"{_describe(share)} for {name!r:.40}")
            shares[name] = shares.get(name, 0.0) + share
        total = math.fsum(shares.values())
        if abs(total - 1) > MAX_ROUNDING:
            raise self._error(f"{wanted} of sum 1", f"the sum {total:.6g}")
        above = {name: share for name, share in shares.items() if share > 0}
        is_set = len(set(above.values())) == 1
        return list(above), None if is_set else tuple(share / total for share in above.values())

    def _vector(self, value: Any) -> NDArray[np.float32]:
        try:
            numbers = np.asarray(value)
        except ValueError:  # lists of several lengths
            numbers = np.zeros(0)
        is_list = isinstance(value, list | np.ndarray) and numbers.ndim == 1 and numbers.size
        if not is_list or numbers.dtype.kind not in "iuf":
            raise self._error("a vector that is a list of numbers", _describe(value))
        with np.errstate(over="ignore"):
            vector = numbers.astype(np.float32)
        if not np.isfinite(vector).all():
            place = int(np.isfinite(vector).argmin())
            got = f"{numbers[place]} as number {place + 1}"
            raise self._error("a vector of finite numbers", got)
        return vector

    def _name(self, value: Any, wanted: str) -> str:
        name = name_of(value)
        if name is None:
            raise self._error(wanted, _describe(value))
        return self._unicode(name)

    def _unicode(self, text: str) -> str:
        position = find_surrogate(text)
        if position is not None:
            got = f"the lone surrogate U+{ord(text[position]):04X} as character {position + 1}"
            raise self._error("Unicode text", got)
        return text

    def _error(self, wanted: str, got: str) -> InputError:
        return row_error(self._source, self._number, wanted, got)


@final
class UniqueIds:
    """Adds `-2`, `-3`, ... to ids that repeat an earlier one.

    Ids are compared by 64-bit hashes: 8 bytes each in a sorted array, the most recent in a set.

    Args:
        recent: Size of the set at which it is merged into the array.
    """

    def __init__(self, recent: int = RECENT_IDS) -> None:
        self._max_recent = recent
        self._recent: set[int] = set()
        self._older = np.zeros(0, np.int64)  # sorted
        self._repeats: dict[str, int] = {}

    def __call__(self, base: str) -> str:
        """The id, with a number if it repeats an earlier one."""
        id = base
        while not self._is_new(hash(id)):
            self._repeats[base] = self._repeats.get(base, 1) + 1
            id = f"{base}-{self._repeats[base]}"
        return id

    def _is_new(self, hashed: int) -> bool:
        if hashed in self._recent:
            return False
        if len(self._older):
            position = self._older.searchsorted(hashed)
            if position < len(self._older) and self._older[position] == hashed:
                return False
        self._recent.add(hashed)
        if len(self._recent) == self._max_recent:
            recent = np.fromiter(self._recent, np.int64, len(self._recent))
            self._older = np.concatenate([self._older, recent])
            self._older.sort()
            self._recent.clear()
        return True


def name_of(value: Any) -> str | None:
    """A label, id or token as a string, the same from every format; None for other values.

    A string is kept, a whole number loses its `.0`, also in a string, and booleans are `True` and
    `False`.
    """
    if isinstance(value, str):
        whole = WHOLE.fullmatch(value)
        return value if whole is None else whole[1]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) else None


def is_missing(value: Any) -> bool:
    """Whether a label or an id is None, NaN, or a text that is empty or of spaces alone."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or (isinstance(value, float) and value != value)


def join_rows(files: Iterable[Iterable[Row]]) -> Iterator[Row]:
    """The rows of several files, numbered as in their files, with ids that are unique over all."""
    unique = UniqueIds()
    for file, rows in enumerate(files):
        for row in rows:
            id = unique(row.id)
            has_id = not row.id.startswith(_checksum(row.sequence, row.label))
            repeats = row.repeats_id or (id != row.id and has_id)
            yield dataclasses.replace(row, id=id, repeats_id=repeats, file=file)


def normalise(sequence: Any, form: str) -> Any:
    """A text, or a list of tokens, in a Unicode form: "nfc", "nfkc", or "none" to leave it."""
    if form == "none":
        return sequence
    if not isinstance(sequence, str):
        return [normalise(token, form) for token in sequence]
    return sequence if sequence.isascii() else unicodedata.normalize(UNICODE_FORMS[form], sequence)


def hash_sequences(sequences: Iterable[str | Sequence[str]]) -> NDArray[np.uint64]:
    """64-bit checksums of texts or lists of tokens, equal for equal ones, `[n]`."""

    def checksum(sequence: str | Sequence[str]) -> int:
        if isinstance(sequence, str):
            content = f"text {sequence}"
        else:
            content = "".join(f"{len(token)}:{token}" for token in sequence)
        content_bytes = content.encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(content_bytes, digest_size=8).digest(), "big")

    return np.fromiter(map(checksum, sequences), np.uint64)


def has_words(sequences: Iterable[str | Sequence[str]], min_words: float = 3.0) -> bool:
    """Whether most sequences are texts with a space, of enough words in the mean.

    Args:
        sequences: Texts, or lists of tokens, for which it is False.
        min_words: Least mean number of words and punctuation marks.
    """
    texts = [sequence.strip() for sequence in sequences if isinstance(sequence, str)]
    num_words = sum(len(WORD.findall(text)) for text in texts)
    with_space = sum(" " in text for text in texts)
    return 2 * with_space > len(texts) and num_words >= min_words * len(texts)


def row_error(source: object, number: int, wanted: str, got: str) -> InputError:
    """`SOURCE:NUMBER: wanted ..., got ...`."""
    return InputError(f"{source}:{number}: wanted {wanted}, got {got}")


def list_names(names: Sequence[str], limit: int = 20) -> str:
    """Names in quotes, the first `limit` of them."""
    if not names:
        return "none"
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown}, ... ({len(names)} in all)"


def find_surrogate(text: str) -> int | None:
    """Index of the first lone surrogate, which no UTF-8 file can hold; None without one."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def _describe(value: Any) -> str:
    """A value in a few words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}"[:60]
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) <= 40 else f"the text {value[:37]!r}..."
    names: dict[type, str] = {list: "a list", dict: "an object", bytes: "bytes"}
    return names.get(type(value), f"a {type(value).__name__}")


def _checksum(sequence: str | list[str], label: str | tuple[str, ...] | None) -> str:
    """The first digits of the SHA-256 of a row's content."""
    if isinstance(sequence, str) and not isinstance(label, tuple):
        content = f"{len(sequence)}:{sequence}{'' if label is None else label}"
    else:
        content = json.dumps([sequence, label])
    return hashlib.sha256(content.encode()).hexdigest()[:ID_DIGITS]
