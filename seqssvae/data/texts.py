"""Rows of text files without columns: lines of text, FASTA records, lines of fastText."""

import contextlib
import gzip
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seqssvae import progress
from seqssvae.data.columns import ColumnChoice
from seqssvae.data.rows import MAX_SYMBOLS, Row, RowChecker, row_error
from seqssvae.errors import InputError
from seqssvae.storage.files import readable

MAX_LINE_BYTES = 64 * 2**20  # a million symbols fit, a binary file does not
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
READ = "MB read"  # the progress of reading files
TOLD_LINES = 1000  # from one word about it to the next
HEAD_LINES = 10  # by which the markup of a txt file is found
FASTTEXT_LABEL = "__label__"
FASTTEXT_LINE = re.compile(rf"((?:{FASTTEXT_LABEL}\S+(?:\s+|$))*)(.*)", re.DOTALL)


def read_lines(path: Path) -> Iterator[str]:
    """Lines with their ends, decoded one by one so that an error can name its line."""
    number = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(readable(path))
        file = stack.enter_context(path.open("rb"))
        stream: Any = file
        if path.name.lower().endswith(".gz"):
            stream = stack.enter_context(gzip.open(file))
        task = stack.enter_context(progress.task(READ, path.stat().st_size / 2**20))
        place = 0
        try:
            while raw := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(raw) > MAX_LINE_BYTES:
                    wanted = f"a line of at most {MAX_LINE_BYTES >> 20} MiB"
                    raise row_error(path, number, wanted, "a longer one")
                if number == 1:
                    raw = raw.removeprefix(BYTE_ORDER_MARK)
                try:
                    line = raw.decode()
                except UnicodeDecodeError as error:
                    byte, position = raw[error.start], error.start + 1
                    got = f"the byte 0x{byte:02x} at byte {position} of the line"
                    raise row_error(path, number, "UTF-8", got) from error
                yield line
                if number % TOLD_LINES == 0:
                    before, place = place, file.tell()
                    task.advance((place - before) / 2**20)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            got = f"damage after line {number}: {error}"
            raise row_error(path, number + 1, "a whole gzip file", got) from error


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
    lines = read_lines(path)
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
    for number, header, sequence in _records(path, read_lines(path) if lines is None else lines):
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
