"""Words of one language only: the choice against plain loops, and the files."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqssvae.compare.wordlists import (
    LANGUAGES,
    choose_words,
    read_lists,
    read_small_lists,
    write_rows,
)
from seqssvae.errors import InputError

LISTS = {
    "aa": ["the", "uno", "lake", "o", "it's", "hotel", "river", "ab1", "stone", "field"],
    "bb": ["lac", "hotel", "rivière", "pierre", "été", "lake", "champ", "à"],
    "cc": ["göl", "nehir", "taş", "hotel", "tarla", "çay"],
}
words = st.text(st.sampled_from("abé1'"), min_size=1, max_size=4)


def plain_choice(lists: dict[str, list[str]], language: str, number: int) -> list[str]:
    """The first words that are plain and stand nowhere else, by loops."""
    chosen: list[str] = []
    for word in lists[language]:
        elsewhere = any(word in other for name, other in lists.items() if name != language)
        if word.isalpha() and len(word) >= 3 and not elsewhere and word not in chosen:
            chosen.append(word)
    return chosen[:number]


def test_the_most_frequent_words_of_one_language_are_chosen() -> None:
    train, test = choose_words(LISTS, num_train=3, num_test=1, seed=0)
    by_language = {
        name: sorted(word for word, label in train + test if label == name) for name in LISTS
    }
    assert by_language == {
        "aa": ["river", "stone", "the", "uno"],  # not lake, it's, hotel, ab1; field is too rare
        "bb": ["lac", "pierre", "rivière", "été"],
        "cc": ["göl", "nehir", "tarla", "taş"],
    }


@given(
    st.lists(st.lists(words, max_size=12), min_size=2, max_size=3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 5),
)
def test_choice_equals_plain_loops(
    drawn: list[list[str]], num_train: int, num_test: int, seed: int
) -> None:
    lists = {f"l{i}": drawn_words for i, drawn_words in enumerate(drawn)}
    number = num_train + num_test
    wanted = {(word, name) for name in lists for word in plain_choice(lists, name, number)}
    if len(wanted) < number * len(lists):
        with pytest.raises(InputError, match=rf"wanted {num_train} \+ {num_test} words of l\d"):
            choose_words(lists, num_train=num_train, num_test=num_test, seed=seed)
        return
    train, test = choose_words(lists, num_train=num_train, num_test=num_test, seed=seed)
    assert set(train) | set(test) == wanted
    assert len(train) + len(test) == len(wanted)
    for name in lists:
        assert sum(label == name for _, label in test) == num_test
    again = choose_words(lists, num_train=num_train, num_test=num_test, seed=seed)
    assert again == (train, test)


def test_the_seed_decides_which_words_are_held_out() -> None:
    tests = [choose_words(LISTS, num_train=2, num_test=2, seed=seed)[1] for seed in range(5)]
    assert len({frozenset(test) for test in tests}) > 1


def test_a_language_list_is_the_whole_of_it() -> None:
    import wordfreq

    lists = read_lists(["hu", "lt"])
    assert list(lists) == ["hu", "lt"]
    for language, found in lists.items():
        assert len(found) > 20_000
        plain = {word for word in wordfreq.iter_wordlist(language) if word.isalpha()}
        assert plain == {word for word in found if word.isalpha()}
        frequencies = [wordfreq.word_frequency(word, language) for word in found[:50]]
        assert frequencies == sorted(frequencies, reverse=True)


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "train.jsonl"
    write_rows(path, [("été", "fr")])
    assert path.read_text(encoding="utf-8") == '{"text": "été", "label": "fr"}\n'

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"train.jsonl: wanted to write it, got No space left"):
        write_rows(path, [("lake", "en")])
    assert [p.name for p in tmp_path.iterdir()] == ["train.jsonl"]
    assert path.read_text(encoding="utf-8") == '{"text": "été", "label": "fr"}\n'


def test_the_words_of_the_package_are_each_of_one_language() -> None:
    """More than three times as frequent there as in any other, by wordfreq."""
    import wordfreq

    lists = read_small_lists()
    assert list(lists) == list(LANGUAGES)
    assert {len(words) for words in lists.values()} == {180}
    for language, words in lists.items():
        for word in words:
            own, *others = (
                wordfreq.word_frequency(word, one) for one in sorted(lists, key=language.__ne__)
            )
            assert own > 3 * max(others), word
    train, test = choose_words(lists, num_train=150, num_test=30, seed=0)
    assert len(train) + len(test) == len(set(train + test)) == 8 * 180  # none is left out
