"""Rows of text files without columns: lines of text, FASTA records, lines of fastText."""

import codecs
import contextlib
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seqssvae import progress
from seqssvae.data.columns import ColumnChoice
from seqssvae.data.rows import MAX_SYMBOLS, Row, RowChecker, row_error
from seqssvae.errors import InputError
from seqssvae.storage.compressed import DAMAGE, NAMES, is_damage, opened, split_ending
from seqssvae.storage.files import line_of, readable

MAX_LINE_BYTES = 64 * 2**20  # a million symbols fit, a binary file does not
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
READ = "MB read"  # the progress of reading files
TOLD_LINES = 1000  # from one word about it to the next
HEAD_LINES = 10  # by which the markup of a txt file is found
FASTTEXT_LABEL = "__label__"
FASTTEXT_LINE = re.compile(rf"((?:{FASTTEXT_LABEL}\S+(?:\s+|$))*)(.*)", re.DOTALL)


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """Lines with their ends, decoded one by one so that an error can name its line."""
    number = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(readable(path))
        file = stack.enter_context(path.open("rb"))
        task = stack.enter_context(progress.task(READ, path.stat().st_size / 2**20))
        place = 0
        try:
            stream = _decoded(stack.enter_context(opened(path, file)), encoding)
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    wanted = f"a line of at most {MAX_LINE_BYTES >> 20} MiB"
                    raise row_error(path, number, wanted, "a longer one")
                yield _decode(line, path, number)
                if number % TOLD_LINES == 0:
                    before, place = place, file.tell()
                    task.advance((place - before) / 2**20)
        except UnicodeError as error:  # of another encoding than UTF-8, whose lines are not known
            got = f"other bytes after line {number}: {line_of(error)}"
            raise row_error(path, number + 1, f"{encoding} (--encoding)", got) from error
        except (*DAMAGE, OSError) as error:
            if not is_damage(error):
                raise
            got = f"damage after line {number}: {error}"
            kind = NAMES.get(split_ending(path)[1], "readable")
            raise row_error(path, number + 1, f"a whole {kind} file", got) from error


def _decoded(stream: Any, encoding: str) -> Any:
    """A stream of text, or the same of bytes if they are UTF-8."""
    try:
        if codecs.lookup(encoding).name == "utf-8":
            return stream
        return io.TextIOWrapper(stream, encoding, newline="\n")
    except (LookupError, ValueError) as error:
        wanted = "an encoding that Python knows, such as utf-16 or windows-1252"
        raise InputError(f"--encoding: wanted {wanted}, got {encoding!r:.60}") from error


def _decode(raw: bytes | str, path: Path, number: int) -> str:
    """A line in UTF-8, or one that is decoded already, without a byte order mark."""
    if isinstance(raw, str):
        return raw.removeprefix("\ufeff") if number == 1 else raw
    if number == 1:
        raw = raw.removeprefix(BYTE_ORDER_MARK)
        is_marked = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        for name, zeros in (("utf-16-le", raw[1::2]), ("utf-16-be", raw[::2])):
            if is_marked or (len(raw) > 5 and not any(zeros)):  # of Latin letters
                got = f"UTF-16, which --encoding {'utf-16' if is_marked else name} reads"
                raise row_error(path, number, "UTF-8", got)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        byte, position = raw[error.start], error.start + 1
        got = f"the byte 0x{byte:02x} at byte {position} of the line"
        hint = " (--encoding windows-1252 reads most other files of Windows)"
        raise row_error(path, number, "UTF-8", got + hint) from error


def txt_rows(path: Path, choice: ColumnChoice) -> Iterator[Row]:
    """Rows of a file with a text in each line.

    If one of the first lines starts with `__label__`, the labels that lines start with, as fastText
    reads them, are labels. If the file starts with the header and the sequence of a FASTA record,
    it is read as one.

    Args:
        path: The file.
        choice: It may name no other columns than `text`, and `label` where there are labels.

    Raises:
        InputError: as `readers.iterate_rows`.
    """
    lines = read_lines(path, choice.encoding)
    head = list(itertools.islice(lines, HEAD_LINES))
    lines = itertools.chain(head, lines)
    if _is_fasta(head):
        yield from fasta_rows(path, choice, lines)
        return
    has_labels = any(line.startswith(FASTTEXT_LABEL) for line in head)
    columns = choice.of_names(["text", "label"] if has_labels else ["text"], f"{path}:1")
    check = RowChecker(path, is_tokens=False)
    for number, line in enumerate(lines, 1):
        text = line[:-2] if line.endswith("\r\n") else line.removesuffix("\n")
        labels: list[str] = []
        if has_labels and (match := FASTTEXT_LINE.fullmatch(text)):
            labels = [word.removeprefix(FASTTEXT_LABEL) for word in match[1].split()]
            text = match[2]
        yield check(number, text, None if columns.label is None else labels)


def fasta_rows(
    path: Path, choice: ColumnChoice, lines: Iterable[str] | None = None
) -> Iterator[Row]:
    """Rows of a FASTA file: a header, `>ID ...`, and lines of its sequence.

    Sequences are joined and in upper case, as lower case only marks repeats. Blank lines are
    skipped. A row's number is the line of its header, its id the first word there.

    Args:
        path: The file.
        choice: Its `pattern` finds the label in the header; a row where it finds none, or all rows
            without a pattern, are unlabelled.
        lines: The file's lines, if they are already read.

    Raises:
        InputError: as `readers.iterate_rows`; no header, or a bad pattern.
    """
    choice.of_names(["sequence", "id"], f"{path}:1")
    check = RowChecker(path, is_tokens=False)
    try:
        pattern = re.compile(choice.pattern) if choice.pattern and choice.read_labels else None
    except re.error as error:
        got = f"{choice.pattern!r}: {error}"
        raise InputError(f"--label-pattern: wanted a regular expression, got {got}") from None
    lines = read_lines(path, choice.encoding) if lines is None else lines
    for number, header, sequence in _records(path, lines):
        match = None if pattern is None else pattern.search(header)
        label = None if match is None else match[1 if match.re.groups else 0]
        yield check(number, sequence, label, next(iter(header.split()), None))


def _is_fasta(head: Sequence[str]) -> bool:
    """Whether the first lines are a header and a sequence, which are no texts."""
    is_header = bool(head) and re.match(r">\S", head[0]) is not None
    return is_header and re.fullmatch(r"[A-Za-z*-]+\s*", "".join(head[1:2])) is not None


def _records(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    """The line of each header, the header and the sequence."""
    start, header, size = 0, "", 0
    parts: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.startswith(">"):
            if start:
                yield start, header, "".join(parts)
            start, header, parts, size = number, line[1:].strip(), [], 0
        elif start:
            part = "".join(line.split()).upper()
            if size <= MAX_SYMBOLS:  # a longer one is an error, which needs no more memory
                parts.append(part)
            size += len(part)
        elif not line.isspace():
            raise row_error(path, number, "the header of a FASTA record, >...", repr(line[:40]))
    if start:
        yield start, header, "".join(parts)
