"""What in a corpus is likely not meant: it is told, and the rows stay as they are."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from seqssvae.corpora import Corpus
from seqssvae.rows import list_names

__all__ = ["count_shared", "find_oddities"]

SHOWN = 5  # labels of a line


def find_oddities(
    corpus: Corpus, names: Sequence[str], labelled: Sequence[int], *, seen: Iterable[int]
) -> Iterator[str]:
    """Yield a line for each thing that a user should know of.

    Args:
        corpus: The training rows.
        names: The classes.
        labelled: y of every row, -1 for an unlabelled one.
        seen: The rows whose label training or dev sees.
    """
    repeated = corpus.num_repeated_ids
    if repeated:
        yield f"{repeated} rows have an id that came before: told apart by -2, -3, ... behind it"
    for alike in _alike(names):
        yield (
            f"the labels {list_names(alike, SHOWN)} differ by case, space or Unicode form alone: "
            "taken as different classes"
        )
    if "-1" in names:
        count = list(labelled).count(list(names).index("-1"))
        yield (
            f"{count} rows have the label -1: taken as a class of its own; leave a label empty if "
            "it is not known"
        )
    if not names:
        return
    counts = Counter(labelled[row] for row in seen)
    if len(names) == 1:
        yield f"all labels are {names[0]!r}: with one class there is nothing to tell apart"
    without = [name for y, name in enumerate(names) if not counts[y]]
    if without:
        yield f"no row with a label is left for {len(without)} of {len(names)} classes: " + (
            list_names(without, SHOWN)
        )
    single = [name for y, name in enumerate(names) if counts[y] == 1]
    if single:
        yield f"one row alone has the label of {len(single)} classes, and none is held out: " + (
            list_names(single, SHOWN)
        )


def count_shared(test: Corpus, training: Iterable[Corpus]) -> int:
    """How many test rows hold a sequence that a training row holds, whatever their labels."""
    wanted = Counter(map(_key, test.sequences()))
    found = {key for corpus in training for key in map(_key, corpus.sequences()) if key in wanted}
    return sum(wanted[key] for key in found)


def _key(sequence: str | list[str]) -> str | tuple[str, ...]:
    return sequence if isinstance(sequence, str) else tuple(sequence)


def _alike(names: Sequence[str]) -> list[list[str]]:
    """Names that are the same to a reader who does not look closely."""
    groups: dict[str, list[str]] = {}
    for name in names:
        plain = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups.setdefault(plain, []).append(name)
    return [group for group in groups.values() if len(group) > 1]
