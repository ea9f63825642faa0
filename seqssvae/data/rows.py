"""One row of a corpus, and the checks that every row passes, whatever file it comes from."""

import dataclasses
import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seqssvae.errors import InputError
from seqssvae.storage.cache import zeros_in_a_file

__all__ = [
    "MAX_SYMBOLS",
    "ChooseColumns",
    "Columns",
    "RawRow",
    "Row",
    "checked_rows",
    "choose_columns",
    "find_surrogate",
    "join_rows",
    "list_names",
    "row_error",
    "unreadable",
]

MAX_SYMBOLS = 1_000_000  # a row holds fewer characters or tokens
TEXT_NAMES = ("text", "sentence", "content", "sequence", "smiles")
TOKENS_NAME = "tokens"
SEQUENCE_NAMES = (TEXT_NAMES[0], TOKENS_NAME, *TEXT_NAMES[1:])  # the first that is there wins
LABEL_NAMES = ("label", "labels", "class", "category")
ID_NAME = "id"
ID_DIGITS = 16  # hex digits of the checksum that stands for a row without an id
FIRST_PLACES = 2**10  # of the table of ids that came before
PLACES_IN_MEMORY = 2**20  # a larger table stands in a file


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A row of a corpus.

    Attributes:
        number: Where it stands, from 1: the line of a text file on which the row begins (a
            header is line 1), or the row of a parquet file or data set.
        sequence: A text, or a list of tokens; never empty.
        label: A class; several for 'one of these'; None for an unlabelled row.
        id: The `id` column, or a checksum of sequence and label; `-2`, `-3`, ... is added to the
            second, third, ... row with the same one, so that ids differ within a corpus.
        repeats_id: Whether its `id` column holds what an earlier row's does.
        file: Which file of several it stands in, from 0.
    """

    number: int
    sequence: str | list[str]
    label: str | tuple[str, ...] | None
    id: str
    repeats_id: bool = False
    file: int = 0


class RawRow(NamedTuple):
    """What a reader found in a row, not yet checked."""

    number: int
    sequence: Any
    label: Any
    id: Any


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns that a corpus is read from.

    Attributes:
        sequence: Holds texts or tokens.
        is_tokens: Which of the two.
        label: Holds labels; None if there is none, or labels are not read.
        id: Holds ids; None if there is none.
    """

    sequence: str
    is_tokens: bool
    label: str | None
    id: str | None


ChooseColumns = Callable[[Sequence[str], str], Columns]  # of the names there are, and where


def choose_columns(
    names: Sequence[str],
    where: str,
    *,
    text_column: str | None,
    tokens_column: str | None,
    label_column: str | None,
    read_labels: bool,
) -> Columns:
    """Find the columns that are named, or those with a usual name.

    Args:
        names: The columns there are.
        where: Put before an error.
        text_column: Found as text, sentence, content, sequence or smiles when None.
        tokens_column: Found as tokens when None, if there is no text.
        label_column: Found as label, labels, class or category when None.
        read_labels: Whether labels are wanted at all.

    Raises:
        InputError: a named column is absent, no column holds sequences, or a column stands twice.
    """
    if text_column is not None and tokens_column is not None:
        raise InputError(f"{where}: wanted a text column or a tokens column, got both")
    if not read_labels:
        label_column = None
    for name in (text_column, tokens_column, label_column):
        if name is not None and name not in names:
            raise InputError(f"{where}: wanted a column {name!r}, got {list_names(names)}")
    sequence = text_column or tokens_column
    if sequence is None:
        for name in SEQUENCE_NAMES:
            if name in names:
                sequence = name
                break
        else:
            raise InputError(
                f"{where}: wanted a column 'text' or 'tokens' (or the name of another one), "
                f"got {list_names(names)}"
            )
    label = label_column
    if label is None and read_labels:
        usual = [name for name in LABEL_NAMES if name in names and name != sequence]
        label = usual[0] if usual else None
    id = ID_NAME if ID_NAME in names and ID_NAME not in (sequence, label) else None
    for name in (sequence, label, id):
        if name is not None and names.count(name) > 1:
            raise InputError(f"{where}: wanted one column {name!r}, got {names.count(name)}")
    is_tokens = tokens_column is not None or (text_column is None and sequence == TOKENS_NAME)
    return Columns(sequence, is_tokens, label, id)


def checked_rows(raw_rows: Iterable[RawRow], source: str, *, is_tokens: bool) -> Iterator[Row]:
    """Check rows and give them ids.

    Args:
        raw_rows: In the order of the source.
        source: The file or data set, for messages.
        is_tokens: Whether sequences are lists of tokens.

    Raises:
        InputError: a sequence, label or id of the wrong type, an empty sequence or token, a lone
            surrogate, or a million symbols or more.
    """
    unique = _UniqueIds()
    for number, sequence, label, id in raw_rows:
        fail = _Failure(source, number)
        checked = _tokens(sequence, fail) if is_tokens else _text(sequence, fail)
        known = None if label is None or label == "" else _label(label, fail)
        if id is None or id == "":
            base = _checksum(checked, known)
        elif isinstance(id, str):
            base = _unicode(id, fail)
        elif isinstance(id, int) and not isinstance(id, bool):
            base = str(id)
        else:
            raise fail("an id that is a string or an integer", _describe(id))
        name = unique(base)
        yield Row(number, checked, known, name, id not in (None, "") and name != base)


def join_rows(files: Iterable[Iterable[Row]]) -> Iterator[Row]:
    """The rows of several files as those of one: numbered as in their files, ids that differ."""
    unique = _UniqueIds()
    for file, rows in enumerate(files):
        for row in rows:
            id = unique(row.id)
            was_given = not row.id.startswith(_checksum(row.sequence, row.label))
            repeats = row.repeats_id or (id != row.id and was_given)
            yield dataclasses.replace(row, id=id, repeats_id=repeats, file=file)


def row_error(source: object, number: int, wanted: str, got: str) -> InputError:
    """`SOURCE:NUMBER: wanted ..., got ...`."""
    return InputError(f"{source}:{number}: wanted {wanted}, got {got}")


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a file that the system does not let us read."""
    return InputError(f"{path}: wanted a readable file, got: {error.strerror or error}")


def list_names(names: Sequence[str], limit: int = 20) -> str:
    """Names in quotes, the first `limit` of them."""
    if not names:
        return "none"
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown}, ... ({len(names)} in all)"


def find_surrogate(text: str) -> int | None:
    """The place of the first lone surrogate, from 0, which no UTF-8 file can hold; or None."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


class _Failure(NamedTuple):
    """Makes the error of one row."""

    source: str
    number: int

    def __call__(self, wanted: str, got: str) -> InputError:
        return row_error(self.source, self.number, wanted, got)


def _text(value: Any, fail: _Failure) -> str:
    if not isinstance(value, str):
        raise fail("a text", _describe(value))
    if not value:
        raise fail("a text", "an empty one")
    _check_size(len(value), "characters", fail)
    return _unicode(value, fail)


def _tokens(value: Any, fail: _Failure) -> list[str]:
    if not isinstance(value, list):
        raise fail("a list of tokens", _describe(value))
    if not value:
        raise fail("a list of tokens", "an empty one")
    _check_size(len(value), "tokens", fail)
    try:
        joined = "".join(value)
    except TypeError:
        place, token = next((i, t) for i, t in enumerate(value, 1) if not isinstance(t, str))
        raise fail("tokens that are strings", f"{_describe(token)} as token {place}") from None
    if "" in value:
        raise fail("tokens", f"an empty one as token {value.index('') + 1}")
    _unicode(joined, fail)
    return value


def _label(value: Any, fail: _Failure) -> str | tuple[str, ...] | None:
    """A label, several that are possible, or None for an empty list."""
    if not isinstance(value, list):
        return _one_label(value, fail)
    names = tuple(dict.fromkeys(_one_label(one, fail) for one in value))
    if "" in names:
        raise fail("labels that are not empty", "an empty one")
    if len(names) <= 1:  # 'one of A' is A
        return names[0] if names else None
    return names


def _one_label(value: Any, fail: _Failure) -> str:
    if isinstance(value, str):
        return _unicode(value, fail)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise fail("a label that is a string, an integer, a list of them, or null", _describe(value))


def _unicode(text: str, fail: _Failure) -> str:
    place = find_surrogate(text)
    if place is not None:
        got = f"the lone surrogate U+{ord(text[place]):04X} as character {place + 1}"
        raise fail("Unicode text", got)
    return text


def _check_size(size: int, unit: str, fail: _Failure) -> None:
    if size >= MAX_SYMBOLS:
        raise fail(f"a sequence of fewer than {MAX_SYMBOLS:,} {unit}", f"{size:,}")


def _describe(value: Any) -> str:
    """What a value is, in a few words."""
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


class _UniqueIds:
    """Gives an id back, with a number added if it came before."""

    def __init__(self) -> None:
        self.seen = _Hashes()
        self.repeats: dict[str, int] = {}

    def __call__(self, base: str) -> str:
        id = base
        while not self.seen.add(hash(id)):
            self.repeats[base] = self.repeats.get(base, 1) + 1
            id = f"{base}-{self.repeats[base]}"
        return id


class _Hashes:
    """A set of 64-bit numbers, 11 to 21 bytes each: a corpus may hold many millions of ids.

    An open table with linear steps, never more than three quarters full. A large one stands in a
    file that the system keeps in memory as far as there is room.
    """

    def __init__(self, places: int = FIRST_PLACES) -> None:
        self._clear(places)

    def add(self, number: int) -> bool:
        """Add a number, and say whether it is new."""
        number = number or 1  # 0 stands for an empty place
        table = self._table
        last = len(table) - 1  # their number is a power of 2
        place = number & last
        while found := table[place]:
            if found == number:
                return False
            place = (place + 1) & last
        table[place] = number
        self._used += 1
        if 4 * self._used > 3 * len(table):
            self._clear(2 * len(table))
            for kept in table:
                if kept:
                    self.add(kept)
        return True

    def _clear(self, places: int) -> None:
        self._used = 0
        self._table: array[int] | memoryview[int] = (
            array("q", bytes(8 * places))
            if places <= PLACES_IN_MEMORY
            else memoryview(zeros_in_a_file(8 * places)).cast("q")
        )
