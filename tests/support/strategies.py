"""Malformed and unusual input for the tests named `test_fuzz_*`, 500 cases of it in all."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
from hypothesis import HealthCheck
from hypothesis import strategies as st

from seqssvae.errors import InputError

ODD = (
    *("NA", "null", "1e5", "007", "nan", "True", "-1", "0x10", "1_0", "None", "yes", "=1+1", "{}"),
    *("", " ", "\t", "\r", "\n", "\r\n", "a\rb", "a\nb", " a ", "\0", "\x1a", "\x1c", "\x85"),
    *("\ufeff", "\ufeffa", "\u2028", "\u2581", "\u202e", "e\u0301", "\u00e9", "\U0001f600"),
    *('"', '""', 'a"b', "'", "a,b", "a;b", "\\", "\\n", '["a"]', "['a']", "<unk>", "<pad>", "ab"),
)
LONE = ("\ud800", "a\udcff", "\udfffb")  # surrogates, which no UTF-8 holds

texts = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
any_texts = texts | st.sampled_from(LONE) | st.text(max_size=5)
numbers = st.integers() | st.floats() | st.sampled_from([-1, 0, 2**63, 2**64, 10**400])
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | any_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_texts, inner, max_size=3),
    max_leaves=4,
)


def cases(n: int) -> Callable[[Any], Any]:
    """Settings for n cases in `make test`, and 20 n in `make fuzz`."""
    return hypothesis.settings(
        max_examples=n * hypothesis.settings.default.max_examples // 100,  # type: ignore[union-attr]
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@contextlib.contextmanager
def only_input_errors() -> Iterator[None]:
    """Raise every exception but an InputError with a message, which is expected."""
    try:
        yield
    except InputError as error:
        assert str(error).strip()
