"""Words of one language only: the choice against plain loops, the files, the command."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.prepare_words import choose_words, main, read_lists, write_rows
from seqssvae.errors import InputError
from tests.support.commands import assert_refused, read_train_and_test, run_data_script

ROOT = Path(__file__).parent.parent
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--languages", "en,dee"], "unknown language 'dee', did you mean de"),
        (["--languages", "en,??"], "unknown language '??', known: ar "),
        (["--languages", "fi"], "wanted at least two, each once, got fi"),
        (["--languages", "lt,hu,lt"], "wanted at least two, each once, got lt,hu,lt"),
        (["--languages", "lt,hu", "--words", "10000000"], "wanted 10000000 + 500 words of lt, got"),
        (["--languages", "lt,hu", "--test", "0"], "--test: wanted at least 1, got 0"),
        (["--words", "many"], "invalid int value: 'many'"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(main, options, message, tmp_path / "new", capsys)


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


def test_runs_as_a_script(tmp_path: Path) -> None:
    options = ["--languages", "lt,hu", "--words", 40, "--test", 10, "--out", tmp_path]
    for _ in range(2):  # a second run replaces the files with the same ones
        run_data_script("prepare_words.py", *options, folder=tmp_path)
    train, test = read_train_and_test(tmp_path)
    assert [len(train), len(test)] == [80, 20]
    assert len({row["text"] for row in train + test}) == 100
    assert {row["label"] for row in test} == {"lt", "hu"}
