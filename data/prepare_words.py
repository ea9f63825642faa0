"""Prepare words labelled by their language, from the wordfreq package.

    python data/prepare_words.py --out data/words

A word is used if it has at least three characters, all of them letters, and is in no other chosen
language's list. The whole lists are compared, some hundred thousand words each; their rare words
include many of other languages. So words that occur in several languages ("hotel", "the") are left
out. The most frequent remaining words are chosen and shuffled; no word is in both parts.

Output: `train.jsonl` and `test.jsonl` with rows `{"text": ..., "label": "de"}`.

The words come from wordfreq by Robyn Speer (https://doi.org/10.5281/zenodo.7199437), under the
Apache license 2.0, its data under CC BY-SA 4.0. They derive from Wikipedia, OpenSubtitles and OPUS,
the SUBTLEX lists of Marc Brysbaert and others (freely available), Google Books Ngrams
(http://books.google.com/ngrams), the Leeds Internet Corpus, ParaCrawl and others; see wordfreq's
README. Credit them when you redistribute the files.
"""

import collections
import difflib
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from seqssvae.cli.parser import Parser
from seqssvae.errors import InputError
from seqssvae.storage.files import write_lines

__all__ = ["LANGUAGES", "choose_words", "main", "read_lists", "write_rows"]

LANGUAGES = ("en", "de", "fr", "es", "it", "pl", "fi", "tr")
MIN_LETTERS = 3
WHOLE_LIST = 10**9

Row = tuple[str, str]  # a word and its language


def read_lists(languages: Sequence[str]) -> dict[str, list[str]]:
    """Read all words that wordfreq has for each language, most frequent first.

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
    lists: dict[str, list[str]], *, num_train: int, num_test: int, seed: int
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


def _is_plain(word: str) -> bool:
    return len(word) >= MIN_LETTERS and word.isalpha()


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a JSONL file atomically.

    Raises:
        InputError: The file cannot be written.
    """
    records = ({"text": text, "label": label} for text, label in rows)
    write_lines(path, (json.dumps(record, ensure_ascii=False) for record in records))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status: 0, or 2 after a user's error."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    codes = ",".join(LANGUAGES)
    add("--languages", default=codes, metavar="CODES", help="languages")
    add("--words", type=int, default=4000, help="training words per language")
    add("--test", type=int, default=500, help="test words per language")
    add("--out", type=Path, default=Path("data/words"), help="output folder")
    add("--seed", type=int, default=0, help="seed of the shuffling")
    arguments = parser.parse_args(argv)
    try:
        languages = [code.strip() for code in arguments.languages.split(",")]
        train, test = choose_words(
            read_lists(languages),
            num_train=arguments.words,
            num_test=arguments.test,
            seed=arguments.seed,
        )
        write_rows(arguments.out / "train.jsonl", train)
        write_rows(arguments.out / "test.jsonl", test)
    except InputError as error:
        parser.error(str(error))
    print(
        f"{arguments.out}: {len(train)} training and {len(test)} test words "
        f"in {len(languages)} languages"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
