"""Values are what they look like, whatever else YAML 1.1 makes of them."""

import math
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from seqssvae.plain_yaml import read_yaml
from tests.support.strategies import cases, texts


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10.0), ("-3", -3), ("+4", 4), ("0", 0), ("1e-3", 0.001), (".5", 0.5), ("5.", 5.0),
        ("1.5e+3", 1500.0), ("1:30", "1:30"), ("1_0", "1_0"), ("0x10", "0x10"), ("", None),
        ("~", None), ("yes", True), ("off", False), ("2001-01-01", "2001-01-01"),
        ("-.inf", -math.inf), ("[1, a]", [1, "a"]), ("a: {b: 1}", {"a": {"b": 1}}),
        ("a: &x {b: 1}\nc: {<<: *x, d: 2}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
    ],
)  # fmt: skip
def test_values(text: str, value: Any) -> None:
    assert read_yaml(text) == value
    assert type(read_yaml(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a: 1\na: 2", "the key 'a' twice"),
        ("b: {a: 1, a: 2}", "the key 'a' twice"),
        ("!!int x", "invalid literal"),
        ("!!timestamp x", "NoneType"),
        ("9" * 5000, "digits"),
        ("[" * 500, "recursion"),
        ("!!python/object:os.system x", "constructor"),
        ("\0", "special characters"),
        ("*a", "alias"),
    ],
)
def test_mistakes_are_one_line(text: str, wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted) as caught:
        read_yaml(text)
    assert len(str(caught.value).splitlines()) == 1


@cases(20)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=5,
    )
)
@example(value={"yes": "no", "1": "1e5"})
def test_what_is_written_is_read(value: Any) -> None:
    assert read_yaml(yaml.safe_dump(value, default_style='"')) == value


@cases(20)
@given(
    text=st.text(max_size=30)
    | st.lists(st.sampled_from(list("{}[]:-?,#&*!|>'\"%@`a1\n "))).map("".join)
)
def test_any_text_is_read_or_told(text: str) -> None:
    try:
        read_yaml(text)
    except ValueError as error:
        assert str(error).strip()
