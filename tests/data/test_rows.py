"""Checks of rows, and their ids."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqssvae.data.rows import MAX_SYMBOLS, Row, RowChecker, UniqueIds, find_surrogate, has_words
from seqssvae.errors import InputError


def check(
    sequence: Any, label: Any = None, id: Any = None, *, is_tokens: bool | None = None
) -> Row:
    if is_tokens is None:
        is_tokens = isinstance(sequence, list)
    return RowChecker("f.jsonl", is_tokens=is_tokens)(7, sequence, label, id)


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
        ("  ", None),
        (float("nan"), None),
        (1.0, "1"),
        ("0.0", "0"),
        ("1.50", "1.50"),
        ("v1.0", "v1.0"),
        (True, "True"),
        ([1.0, False], ("1", "False")),
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
        ((["a", 1.5], None, None, True), "tokens that are strings", "the number 1.5 as token 2"),
        ((["a", None], None, None, True), "tokens that are strings", "none as token 2"),
        (("x", 1.5), "a label that is a string", "the number 1.5"),
        (("x", float("inf")), "a label that is a string", "the number inf"),
        (("x", {}), "a soft label", "the sum 0"),
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
def test_bad_values_are_errors_of_one_line(row: tuple[Any, ...], wanted: str, got: str) -> None:
    *values, is_tokens = (*row, None, None, None)[:4] if len(row) < 4 else row
    with pytest.raises(InputError, match=rf"^f.jsonl:7: wanted .*{wanted}.*, got {got}") as caught:
        check(*values, is_tokens=is_tokens)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_row_just_below_the_limit_is_taken() -> None:
    assert len(check("a" * (MAX_SYMBOLS - 1)).sequence) == MAX_SYMBOLS - 1


def ids(rows: list[tuple[Any, Any, Any]]) -> list[str]:
    check = RowChecker("f", is_tokens=bool(rows) and isinstance(rows[0][0], list))
    return [check(number, *row).id for number, row in enumerate(rows, 1)]


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


def test_other_contents_have_other_ids() -> None:
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
    assert ids([("a", None, None)]) == ids([("a", None, "")]) == ids([("a", None, float("nan"))])
    assert ids([("a", None, 7.0), ("b", None, "8.0"), ("c", None, 9)]) == ["7", "8", "9"]


def test_whole_numbers_are_tokens() -> None:
    assert check([6, "b", 3.0, "1.0"]).sequence == ["6", "b", "3", "1.0"]


@given(ids=st.lists(st.sampled_from(["a", "b", "a-2", "c", "a-3"]), max_size=30))
def test_repeated_ids_are_numbered_whatever_the_size_of_the_set(ids: list[str]) -> None:
    small, large = UniqueIds(recent=3), UniqueIds()
    unique = [small(id) for id in ids]
    assert unique == [large(id) for id in ids]
    assert len(set(unique)) == len(ids)
    for number, (id, found) in enumerate(zip(ids, unique, strict=True)):
        assert found == id if id not in unique[:number] else found.startswith(f"{id}-")


@given(st.text())
def test_surrogates_are_found(text: str) -> None:
    assert find_surrogate(text) is None  # hypothesis makes none
    assert find_surrogate(f"{text}\udc80{text}") == len(text)


@pytest.mark.parametrize(
    ("sequences", "expected"),
    [
        (["the cat sat", "the dog sat on the mat"], True),
        (["the cat sat", "the dog sat on the mat", "cat", ""], False),  # half have no space
        (["the cat", "a dog"], False),  # fewer than three words
        (["the cat!", "a dog?"], True),  # punctuation marks count
        (["a-b-c-a", "b-a-c-c-c"], False),
        ([["the", "a b c d"], ["cat"]], False),  # tokens
        ([], False),
    ],
)
def test_texts_with_spaces_and_three_words_have_words(
    sequences: Sequence[str | Sequence[str]], expected: bool
) -> None:
    assert has_words(sequences) is expected


def test_the_number_of_words_that_is_wanted_may_be_0() -> None:
    assert has_words(["the cat", "a dog"], min_words=0)
    assert not has_words([" cat ", "dog"], min_words=0)
