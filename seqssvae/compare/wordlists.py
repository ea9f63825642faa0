"""Words labelled by their language: those of wordfreq, or the few that come with the package."""

import collections
import csv
import difflib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from seqssvae.errors import InputError
from seqssvae.storage.files import write_lines

LANGUAGES = ("en", "de", "fr", "es", "it", "pl", "fi", "tr")
MIN_LETTERS = 3
WHOLE_LIST = 10**9

Row = tuple[str, str]  # a word and its language
Lists = Mapping[str, Sequence[str]]  # words by language, most frequent first


def example_words() -> str:
    """The path of a file of words that comes with the package, to train a first model on.

    180 common words of each of eight languages, which are their labels.

    Example:
        >>> model = seqssvae.load(run)
        >>> len(model.read(seqssvae.example_words()))
        1440
    """
    return str(Path(__file__).with_name("words.csv"))


def read_small_lists() -> Lists:
    """The words of `example_words`, by language."""
    lists: dict[str, list[str]] = {language: [] for language in LANGUAGES}
    with open(example_words(), encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            lists[row["label"]].append(row["text"])
    return lists


def read_lists(languages: Sequence[str]) -> Lists:
    """All words that wordfreq, an optional dependency, has for each language.

    Args:
        languages: Language codes such as "en", each once.

    Raises:
        InputError: There are fewer than two languages, one is given twice, or wordfreq does not
            know one; the message suggests similar codes.
    """
    import wordfreq

    known = wordfreq.available_languages("best")
    for language in languages:
        if language not in known:
            near = difflib.get_close_matches(language, known, 3, 0.5)
            hint = (
                f"did you mean {' or '.join(near)}" if near else f"known: {' '.join(sorted(known))}"
            )
            raise InputError(f"--languages: unknown language {language!r}, {hint}")
    if len(set(languages)) < max(2, len(languages)):
        got = ",".join(languages) or "none"
        raise InputError(f"--languages: wanted at least two, each once, got {got}")
    return {language: wordfreq.top_n_list(language, WHOLE_LIST) for language in languages}


def choose_words(
    lists: Lists, *, num_train: int, num_test: int, seed: int
) -> tuple[list[Row], list[Row]]:
    """Choose the most frequent words that are in one list only.

    Args:
        lists: The words of each language, most frequent first.
        num_train: Number of training words per language, at least 1.
        num_test: Number of test words per language, at least 1.
        seed: Seed of the shuffling, at least 0.

    Returns:
        Training and test rows, shuffled; no word occurs twice.

    Raises:
        InputError: A number is out of range, or a language has too few words.
    """
    for name, value, low in (("words", num_train, 1), ("test", num_test, 1), ("seed", seed, 0)):
        if value < low:
            raise InputError(f"--{name}: wanted at least {low}, got {value}")
    num_lists = collections.Counter(word for words in lists.values() for word in set(words))
    rng = random.Random(seed)
    train: list[Row] = []
    test: list[Row] = []
    for language, words in lists.items():
        own = [word for word in dict.fromkeys(words) if _is_plain(word) and num_lists[word] == 1]
        if len(own) < num_train + num_test:
            raise InputError(
                f"--words, --test: wanted {num_train} + {num_test} words of {language}, "
                f"got {len(own)} that are in no other list"
            )
        chosen = [(word, language) for word in own[: num_train + num_test]]
        rng.shuffle(chosen)
        train += chosen[:num_train]
        test += chosen[num_train:]
    rng.shuffle(train)
    rng.shuffle(test)
    return train, test


def write_words(
    folder: Path, lists: Lists, *, num_train: int, num_test: int, seed: int
) -> tuple[Path, Path]:
    """Write the words of `choose_words` to `train.jsonl` and `test.jsonl`, and return the paths.

    Raises:
        InputError: as of `choose_words`, or a file cannot be written.
    """
    paths = folder / "train.jsonl", folder / "test.jsonl"
    parts = choose_words(lists, num_train=num_train, num_test=num_test, seed=seed)
    for path, rows in zip(paths, parts, strict=True):
        write_rows(path, rows)
    return paths


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a JSONL file atomically.

    Raises:
        InputError: The file cannot be written.
    """
    records = ({"text": text, "label": label} for text, label in rows)
    write_lines(path, (json.dumps(record, ensure_ascii=False) for record in records))


def _is_plain(word: str) -> bool:
    return len(word) >= MIN_LETTERS and word.isalpha()
