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

import sys
from collections.abc import Sequence
from pathlib import Path

from seqssvae.cli.parser import Parser
from seqssvae.compare.wordlists import LANGUAGES, read_lists, write_words
from seqssvae.errors import InputError

__all__ = ["main"]


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
        lists = read_lists([code.strip() for code in arguments.languages.split(",")])
        num_train, num_test = arguments.words, arguments.test
        write_words(
            arguments.out, lists, num_train=num_train, num_test=num_test, seed=arguments.seed
        )
    except InputError as error:
        parser.error(str(error))
    print(
        f"{arguments.out}: {num_train * len(lists)} training and {num_test * len(lists)} test "
        f"words in {len(lists)} languages"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
