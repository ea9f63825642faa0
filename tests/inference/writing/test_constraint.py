"""Automata agree with `re.fullmatch` on all short texts, and limits with a search of all paths."""

import itertools
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqssvae.data.sentencepieces import train_pieces
from seqssvae.data.vocabulary import (
    EOS,
    NUM_SPECIAL,
    SPECIAL_SYMBOLS,
    CharacterVocabulary,
    SentencePieceVocabulary,
    TokenVocabulary,
    Vocabulary,
)
from seqssvae.errors import InputError
from seqssvae.inference.writing.constraint import (
    Automaton,
    Limits,
    compile_constraint,
)

CHARACTERS = CharacterVocabulary(list("abB1 ü"))


def _accepts(automaton: Automaton, ids: list[int]) -> bool:
    state = automaton.start
    for symbol in ids:
        state = int(automaton.after[state, symbol])
    return bool(automaton.accepts[state])


def _texts(vocabulary: Vocabulary, longest: int) -> list[list[int]]:
    symbols = range(NUM_SPECIAL, len(vocabulary))
    return [list(ids) for n in range(longest + 1) for ids in itertools.product(symbols, repeat=n)]


patterns = st.recursive(
    st.sampled_from(["a", "b", ".", "[^a]", r"\w", r"\d", "[aü]", "(?i:b)", ""]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{0,2}", "*?"])).map(
            lambda pair: f"({pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(patterns)
def test_an_automaton_accepts_what_matches(pattern: str) -> None:
    automaton = compile_constraint(pattern, CHARACTERS)
    for ids in _texts(CHARACTERS, 3):
        text = CHARACTERS.decode(ids)
        assert _accepts(automaton, ids) == (re.fullmatch(pattern, text) is not None), text


def test_tokens_are_matched_with_spaces_between_them() -> None:
    vocabulary = TokenVocabulary(["x", "yy", "x y"])
    for pattern in ("x.*", "(x )*yy", "x y( x y)?", "", "x yy|yy x", "( x)*"):
        automaton = compile_constraint(pattern, vocabulary)
        for ids in _texts(vocabulary, 3):
            text = " ".join(vocabulary.decode(ids))
            assert _accepts(automaton, ids) == (re.fullmatch(pattern, text) is not None), text


def test_pieces_and_what_is_spelled_in_bytes() -> None:
    texts = ["ab ab", "abab cd", "cd ab"] * 5
    vocabulary = SentencePieceVocabulary(train_pieces(texts, size=300, special=SPECIAL_SYMBOLS))
    given = ["ab ab", "abab", " cd", "aß", "ßß", "日", "日ß", "a語", "a\tb", ""]
    for pattern in ("[ab ]+", "(ab|cd)+", "a?ß*", "日ß?|a.", r"\s?\w+", ".*"):
        automaton = compile_constraint(pattern, vocabulary)
        for text in given:
            want = re.fullmatch(pattern, text) is not None
            if set(text) - set(pattern) <= set("abcd \t"):  # spelled as the pattern has it
                assert _accepts(automaton, vocabulary.encode(text)) == want, (pattern, text)
        part_of_a_character = vocabulary.encode("ß")[:1]
        assert not _accepts(automaton, part_of_a_character)


@pytest.mark.parametrize("pattern", ["a*b", "(ab|ü){2}", "[^1]*1", ".*"])
@pytest.mark.parametrize(("least", "most", "prefix"), [(0, 4, ""), (2, 3, "a"), (4, 4, "")])
def test_limits_leave_the_symbols_after_which_a_match_can_be_finished(
    pattern: str, least: int, most: int, prefix: str
) -> None:
    """By a list of all texts of the allowed lengths that match."""
    ids = CHARACTERS.encode(prefix)
    found = [
        CHARACTERS.encode(text)
        for text in map(CHARACTERS.decode, _texts(CHARACTERS, most))
        if least <= len(text) and re.fullmatch(pattern, text) and text.startswith(prefix)
    ]
    automaton = compile_constraint(pattern, CHARACTERS)
    try:
        limits = Limits(automaton, min_length=least, max_length=most, prefix=ids)
    except InputError:
        assert not found
        return
    todo = [ids]
    for path in todo:
        states = limits.states(torch.zeros(1, dtype=torch.int64))
        for symbol in path[len(ids) :]:
            states = limits.advance(states, torch.tensor([symbol]))
        if len(path) == most:
            assert path in found
            continue
        scores = limits.mask(torch.zeros(1, len(CHARACTERS)), states, len(path) - len(ids))[0]
        allowed = {int(symbol) for symbol in torch.isfinite(scores).nonzero()}
        size = len(path)
        want = {one[size] for one in found if one[:size] == path and len(one) > size}
        assert allowed == want | ({EOS} if path in found else set())
        todo += [[*path, symbol] for symbol in sorted(want)]
    assert len(todo) > 1


def test_long_limits_take_little_memory() -> None:
    limits = Limits(Automaton.of_any(7), min_length=3, max_length=999_999)
    states = limits.states(torch.zeros(1, dtype=torch.int64))
    for step, may_end in ((2, False), (3, True), (999_998, True)):
        scores = limits.mask(torch.zeros(1, 7), states, step)[0]
        assert bool(torch.isfinite(scores[EOS])) == may_end
        assert np.isfinite(scores[NUM_SPECIAL:].numpy()).all()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(a", "wanted a regular expression, got '\\(a': missing \\)"),
        ("(?=a)b", "without lookaround"),
        (r"a\bb", "without lookaround"),
        (r"(a)\1", "without lookaround"),
        ("a$b", "without lookaround"),
        ("a++", "without lookaround"),
        (".*a.{22}", "wanted a simpler regular expression"),
        ("(a{1000}){1000}", "wanted a simpler regular expression"),
    ],
)
def test_other_patterns_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compile_constraint(pattern, CHARACTERS)


def test_anchors_and_repeats_of_nothing() -> None:
    for pattern in ("^ab$", r"\Aab\Z", "ab(){3,}"):
        assert _accepts(compile_constraint(pattern, CHARACTERS), CHARACTERS.encode("ab"))


def test_what_nothing_fits_is_refused() -> None:
    automaton = compile_constraint("aaa", CHARACTERS)
    for least, most, prefix in ((4, 9, ""), (0, 2, ""), (0, 9, "b"), (0, 9, "aaaa")):
        with pytest.raises(InputError, match="got none that does"):
            ids = CHARACTERS.encode(prefix)
            Limits(automaton, min_length=least, max_length=most, prefix=ids)
