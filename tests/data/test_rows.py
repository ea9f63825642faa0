"""Checks that rows pass wherever they come from, ids, and the choice of columns."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqssvae.data import rows
from seqssvae.data.rows import (
    MAX_SYMBOLS,
    Columns,
    RawRow,
    Row,
    checked_rows,
    choose_columns,
    find_surrogate,
)
from seqssvae.errors import InputError
from seqssvae.storage import cache


def check(
    sequence: Any, label: Any = None, id: Any = None, *, is_tokens: bool | None = None
) -> Row:
    if is_tokens is None:
        is_tokens = isinstance(sequence, list)
    raw = RawRow(7, sequence, label, id)
    (row,) = checked_rows([raw], "f.jsonl", is_tokens=is_tokens)
    return row


def choose(names: list[str], **columns: Any) -> Columns:
    asked: dict[str, Any] = {"text_column": None, "tokens_column": None, "label_column": None}
    return choose_columns(names, "f:1", **{**asked, "read_labels": True, **columns})


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (None, None),
        ("", None),
        ([], None),
        ("a", "a"),
        ("null", "null"),
        (3, "3"),
        (-1, "-1"),
        (["a"], "a"),
        (["b", "a", "b"], ("b", "a")),
        ([1, "a"], ("1", "a")),
    ],
)
def test_labels(label: Any, expected: Any) -> None:
    assert check("x", label).label == expected


@pytest.mark.parametrize(
    ("row", "wanted", "got"),
    [
        (("",), "a text", "an empty one"),
        (([],), "a list of tokens", "an empty one"),
        ((["a", ""],), "tokens", "an empty one as token 2"),
        ((None, None, None, False), "a text", "none"),
        ((5, None, None, False), "a text", "the number 5"),
        ((True, None, None, False), "a text", "true"),
        ((["a"], None, None, False), "a text", "a list"),
        (({}, None, None, False), "a text", "an object"),
        ((b"a", None, None, False), "a text", "bytes"),
        (("a b", None, None, True), "a list of tokens", "the text 'a b'"),
        ((["a", 1], None, None, True), "tokens that are strings", "the number 1 as token 2"),
        ((["a", None], None, None, True), "tokens that are strings", "none as token 2"),
        (("x", 1.5), "a label that is a string", "the number 1.5"),
        (("x", False), "a label that is a string", "false"),
        (("x", {}), "a label that is a string", "an object"),
        (("x", ["a", None]), "a label that is a string", "none"),
        (("x", ["a", ""]), "labels that are not empty", "an empty one"),
        (("x", "a", 1.5), "an id that is a string", "the number 1.5"),
        (("x\ud800",), "Unicode text", "the lone surrogate U\\+D800 as character 2"),
        ((["a", "\udfff"],), "Unicode text", "the lone surrogate U\\+DFFF"),
        (("x", "\ud800"), "Unicode text", "the lone surrogate"),
        (("x", "a", "\ud800"), "Unicode text", "the lone surrogate"),
        (("a" * MAX_SYMBOLS,), "fewer than 1,000,000 characters", "1,000,000"),
        ((["a"] * MAX_SYMBOLS,), "fewer than 1,000,000 tokens", "1,000,000"),
    ],
)
def test_bad_values_are_told_in_one_line(row: tuple[Any, ...], wanted: str, got: str) -> None:
    *values, is_tokens = (*row, None, None, None)[:4] if len(row) < 4 else row
    with pytest.raises(InputError, match=rf"^f.jsonl:7: wanted .*{wanted}.*, got {got}") as caught:
        check(*values, is_tokens=is_tokens)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_row_just_below_the_limit_is_taken() -> None:
    assert len(check("a" * (MAX_SYMBOLS - 1)).sequence) == MAX_SYMBOLS - 1


def ids(rows: list[tuple[Any, Any, Any]]) -> list[str]:
    raw = [RawRow(i, *row) for i, row in enumerate(rows, 1)]
    is_tokens = bool(rows) and isinstance(rows[0][0], list)
    return [row.id for row in checked_rows(raw, "f", is_tokens=is_tokens)]


row_contents = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y", None])))


@given(contents=row_contents, added=row_contents)
def test_ids_differ_and_do_not_depend_on_other_rows(
    contents: list[tuple[str, str | None]], added: list[tuple[str, str | None]]
) -> None:
    rows = [(text, label, None) for text, label in contents]
    found = ids(rows)
    assert len(set(found)) == len(rows)
    more = [(text.upper(), label, None) for text, label in added]
    assert ids(more + rows)[len(more) :] == found
    assert set(ids(rows[::-1])) == set(found)


def test_ids_tell_contents_apart() -> None:
    found = ids([("ab", None, None), ("a", "b", None), ("ab", "", None), ("2:a", "b", None)])
    assert len({id[:16] for id in found}) == 3
    assert found[2] == f"{found[0]}-2"
    tokens = ids([(["a b"], None, None), (["a", "b"], None, None), (['a", "b'], None, None)])
    assert len({id[:16] for id in tokens}) == 3


def test_given_ids_are_kept_and_repeated_ones_numbered() -> None:
    rows = [
        ("a", None, "k-2"),
        ("b", None, "k"),
        ("c", None, "k"),
        ("d", None, 5),
        ("e", None, "k"),
    ]
    assert ids(rows) == ["k-2", "k", "k-3", "5", "k-4"]
    assert ids([("a", None, None)]) == ids([("a", None, "")])


@pytest.mark.parametrize("places_in_memory", [8, 2**20])
@given(numbers=st.lists(st.integers(-40, 40) | st.integers(-(2**63), 2**63 - 1)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_that_came_before_are_known(
    places_in_memory: int, numbers: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a set, over several growths; 0 stands for 1, as one hash may for another."""
    monkeypatch.setattr(rows, "PLACES_IN_MEMORY", places_in_memory)
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    table, seen = rows._Hashes(places=2), set[int]()
    for number in numbers:
        assert table.add(number) == ((number or 1) not in seen)
        seen.add(number or 1)
    assert isinstance(table._table, memoryview) == (len(table._table) > places_in_memory)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["id", "text", "label"], Columns("text", False, "label", "id")),
        (["tokens", "class"], Columns("tokens", True, "class", None)),
        (["tokens", "text"], Columns("text", False, None, None)),
        (["smiles", "tokens", "category", "labels"], Columns("tokens", True, "labels", None)),
        (["smiles", "sentence"], Columns("sentence", False, None, None)),
    ],
)
def test_usual_columns_are_found(names: list[str], expected: Columns) -> None:
    assert choose(names) == expected


def test_named_columns_are_taken() -> None:
    names = ["text", "title", "label", "topic", "id"]
    assert choose(names, text_column="title", label_column="topic") == Columns(
        "title", False, "topic", "id"
    )
    assert choose(names, tokens_column="title", read_labels=False).label is None
    assert choose(names, tokens_column="title").is_tokens
    assert choose(names, label_column="away", read_labels=False).label is None
    assert choose(names, text_column="label").label is None


@pytest.mark.parametrize(
    ("names", "columns", "message"),
    [
        (["a", "b"], {}, "wanted a column 'text' or 'tokens' .*, got 'a', 'b'"),
        (["a", "b"], {"text_column": "c"}, "wanted a column 'c', got 'a', 'b'"),
        (["text"], {"label_column": "c"}, "wanted a column 'c', got 'text'"),
        ([], {}, "got none"),
        (["a"], {"text_column": "a", "tokens_column": "a"}, "got both"),
        (["text", "text"], {}, "wanted one column 'text', got 2"),
        (["text", "label", "label"], {}, "wanted one column 'label', got 2"),
    ],
)
def test_absent_columns_are_told(names: list[str], columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^f:1: .*{message}"):
        choose(names, **columns)


@given(st.text())
def test_surrogates_are_found(text: str) -> None:
    assert find_surrogate(text) is None  # hypothesis makes none
    assert find_surrogate(f"{text}\udc80{text}") == len(text)
