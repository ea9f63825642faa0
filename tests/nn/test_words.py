"""Words of symbols, against words of the text."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqssvae.data.sentencepieces import train_pieces
from seqssvae.data.vocabulary import (
    SPECIAL_SYMBOLS,
    CharacterVocabulary,
    SentencePieceVocabulary,
    TokenVocabulary,
    Vocabulary,
)
from seqssvae.nn.words import Symbols, find_words, tabulate_words
from tests.support.rows import make_rows

TEXTS = ["Oil prices rise 3 percent", "the oil, the Oil! THE OIL", "prices of wheat (and oil) fall"]
CHARACTERS = CharacterVocabulary(sorted({*"".join(TEXTS), *"abcäß_é-"}))


@pytest.fixture(scope="module")
def pieces() -> SentencePieceVocabulary:
    return SentencePieceVocabulary(train_pieces(TEXTS * 20, size=300, special=SPECIAL_SYMBOLS))


def words_of(text: str) -> list[str]:
    """By a plain loop: runs of letters and digits, in lower case."""
    runs = itertools.groupby(text, str.isalnum)
    return ["".join(run).lower() for is_word, run in runs if is_word]


def hash_by_hand(word: str) -> int:
    """The hash of a word; saved weights are tied to it."""
    prime, value = 2**31 - 1, 0
    for position, byte in enumerate(word.encode()):
        value += (byte + 1) * pow(1_664_525, min(position, 255), prime)
    return value % prime


def words_in(vocabulary: Vocabulary, texts: list[str]) -> Symbols:
    rows = make_rows([vocabulary.encode(text) for text in texts])
    lengths = torch.from_numpy(np.diff(rows.offsets))
    row = torch.arange(len(texts)).repeat_interleave(lengths)
    symbols = Symbols.from_rows(torch.from_numpy(rows.symbols).long(), row, lengths)
    return find_words(symbols, len(texts), torch.from_numpy(tabulate_words(vocabulary)))


def assert_are_the_words(result: Symbols, texts: list[str]) -> None:
    expected = [
        (hash_by_hand(word), row, position, len(words) - 1 - position)
        for row, words in enumerate(map(words_of, texts))
        for position, word in enumerate(words)
    ]
    assert list(zip(*(part.tolist() for part in result), strict=True)) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("abAB1 ä,_-é", max_size=20), min_size=1, max_size=5))
def test_words_of_characters_are_runs_of_letters_and_digits(texts: list[str]) -> None:
    vocabulary = CharacterVocabulary("abAB1 ä,_-é")
    assert_are_the_words(words_in(vocabulary, texts), texts)


@pytest.mark.parametrize(
    "text",
    [
        *TEXTS,
        "Oil",
        "",
        " ",
        "quite unknown words, spelled in letters",
        "日本 öl",  # in bytes
        "two  spaces and a tab\there",
    ],
)
def test_words_do_not_depend_on_the_pieces(pieces: SentencePieceVocabulary, text: str) -> None:
    texts = [text, "the oil", text]
    assert len(pieces.encode("oil prices")) < len("oil prices")  # there are pieces of letters
    assert_are_the_words(words_in(pieces, texts), texts)


def test_a_very_long_word_has_a_hash() -> None:
    vocabulary = CharacterVocabulary("ab ")
    texts = ["a" * 1000, "a" * 1000 + "b", "a" * 999 + " a"]
    result = words_in(vocabulary, texts)
    assert_are_the_words(result, texts)
    assert len(set(result.ids.tolist())) == 4


def test_tokens_have_no_words() -> None:
    vocabulary = TokenVocabulary(["oil", "prices"])
    assert tabulate_words(vocabulary).shape == (6, 3)
    assert not tabulate_words(vocabulary).any()


def test_any_table_gives_hashes_in_range() -> None:
    table = torch.randint(-(2**62), 2**62, (9, 3), generator=torch.Generator().manual_seed(0))
    row, lengths = torch.arange(3).repeat_interleave(30), torch.full((3,), 30)
    symbols = Symbols.from_rows(torch.arange(90) % 9, row, lengths)
    result = find_words(symbols, 3, table)
    assert len(result.ids)
    assert bool(((result.ids >= 0) & (result.ids < 2**31 - 1)).all())
