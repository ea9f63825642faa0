"""Prepare single words labelled by their language, from the wordfreq package.

    python data/prepare_words.py --out data/words

A word is taken if it has at least three characters, all of them letters, and stands in no other
chosen language's list. The lists are compared to their very end, some hundred thousand words each,
where a language's list holds many words of its neighbours: what remains is a word of one language,
and common words that travel ("hotel", "the") are left out. The most frequent of what remains are
taken and shuffled; training and test words are different words.

Written to the folder: `train.jsonl` and `test.jsonl`, rows `{"text": ..., "label": "de"}`.

The words come from wordfreq by Robyn Speer (https://doi.org/10.5281/zenodo.7199437), under the
Apache license 2.0, its data under CC BY-SA 4.0. They derive from Wikipedia, OpenSubtitles and OPUS,
the SUBTLEX lists of Marc Brysbaert and others (freely available), Google Books Ngrams
(http://books.google.com/ngrams), the Leeds Internet Corpus, ParaCrawl and others; see wordfreq's
README. Credit them where you pass the files on.
"""

import argparse
import collections
import difflib
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from seqssvae.cli import Parser
from seqssvae.errors import InputError
from seqssvae.storage.files import write_lines

__all__ = ["LANGUAGES", "choose_words", "main", "read_lists", "write_rows"]

LANGUAGES = ("en", "de", "fr", "es", "it", "pl", "fi", "tr")
SHORTEST = 3  # letters of a word
WHOLE_LIST = 10**9

Row = tuple[str, str]  # a word and its language


def read_lists(languages: Sequence[str]) -> dict[str, list[str]]:
    """Every chosen language's words, from the most frequent one to the last that wordfreq knows.

    Args:
        languages: Codes such as "en", each once.

    Raises:
        InputError: fewer than two languages, one twice, or one that wordfreq does not know; the
            message names the nearest ones.
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
    """Choose the most frequent words that stand in one list only.

    Args:
        lists: Each language's words, most frequent first.
        num_train: Training words of each language, at least 1.
        num_test: Test words of each language, at least 1.
        seed: Of the shuffles, at least 0.

    Returns:
        Training and test rows, shuffled; no word stands twice.

    Raises:
        InputError: a number out of its range, or more words wanted than a language has.
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
                f"got {len(own)} that stand in no other list"
            )
        chosen = [(word, language) for word in own[: num_train + num_test]]
        rng.shuffle(chosen)
        train += chosen[:num_train]
        test += chosen[num_train:]
    rng.shuffle(train)
    rng.shuffle(test)
    return train, test


def _is_plain(word: str) -> bool:
    return len(word) >= SHORTEST and word.isalpha()


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a JSONL file whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    records = ({"text": text, "label": label} for text, label in rows)
    write_lines(path, (json.dumps(record, ensure_ascii=False) for record in records))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status: 0, or 2 after a user's mistake."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    codes = ",".join(LANGUAGES)
    add("--languages", default=codes, metavar="CODES", help=f"default {codes}")
    add("--words", type=int, default=4000, help="training words of each language; default 4000")
    add("--test", type=int, default=500, help="test words of each language; default 500")
    add("--out", type=Path, default=Path("data/words"), help="folder; default data/words")
    add("--seed", type=int, default=0, help="of the shuffles; default 0")
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
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    print(
        f"{arguments.out}: {len(train)} training and {len(test)} test words "
        f"in {len(languages)} languages"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
