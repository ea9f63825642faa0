"""Which symbols may come next, so that only sequences of wanted lengths and form are decoded.

A regular expression becomes an automaton over characters, and this one an automaton over symbols:
characters, pieces of text, or tokens with spaces between them. A symbol after which no match can be
finished within the lengths has probability 0, so that no path needs to be tried again.
"""

import copy
import dataclasses
import re
import warnings
from collections.abc import Iterable, Sequence
from re import _compiler, _constants, _parser  # type: ignore[attr-defined] # Python's own syntax
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae.data.sentencepieces import NUM_BYTES, SPACE_MARK
from seqssvae.data.vocabulary import EOS, NUM_SPECIAL, Vocabulary
from seqssvae.errors import InputError

MAX_STATES = 10_000
MAX_ENTRIES = 2**25  # of a table of states and symbols
DEAD = 0  # the state that nothing leaves
ONE_CHARACTER = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN)
REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
STARTS = (_constants.AT_BEGINNING, _constants.AT_BEGINNING_STRING)
ENDS = (_constants.AT_END, _constants.AT_END_STRING)


@dataclasses.dataclass(frozen=True)
class Automaton:
    """States of what was written so far, S of them; 0 is that of what is no start of a match.

    Attributes:
        after: The state after a symbol, int32 `[S, V]`.
        accepts: In which states the sequence is a match, `[S]`.
        start: The first state.
    """

    after: NDArray[np.int32]
    accepts: NDArray[np.bool_]
    start: int

    @classmethod
    def of_any(cls, vocabulary_size: int) -> "Automaton":
        """The automaton of all sequences."""
        after = np.ones((2, vocabulary_size), np.int32)
        after[DEAD] = after[:, :NUM_SPECIAL] = DEAD
        return cls(after, np.array([False, True]), 1)


class Limits:
    """Which symbols may come next in sequences of an automaton and of some lengths.

    Args:
        automaton: The automaton.
        min_length: Symbols of a sequence at least, prefix included.
        max_length: Symbols of a sequence at most, prefix included.
        prefix: Symbols that every sequence begins with.

    Raises:
        InputError: there is no such sequence.
    """

    def __init__(
        self, automaton: Automaton, *, min_length: int, max_length: int, prefix: Sequence[int] = ()
    ) -> None:
        state, after = automaton.start, automaton.after
        source, target = np.unique(
            np.stack([np.repeat(np.arange(len(after)), after.shape[1]), after.ravel()]), axis=1
        )
        possible, index, settled = [automaton.accepts], [0], None  # from the longest length down
        for length in reversed(range(max_length)):
            may_end = length >= min_length
            if settled is not may_end:  # once a length changes nothing, a shorter one does not
                found = automaton.accepts & may_end
                found[source[possible[-1][target]]] = True
                settled = may_end if (found == possible[-1]).all() else None
                possible.append(found)
            index.append(len(possible) - 1)
        for symbol in prefix:
            state = int(after[state, symbol])
        self._index = index[::-1]  # of each length, which of the rows of `_possible`
        if not possible[self._index[len(prefix)]][state]:
            raise InputError(
                f"constraint: wanted sequences of {min_length} to {max_length} symbols of the "
                "vocabulary that match and begin with the prefix, got none that does"
            )
        self.min_length, self.num_before, self.start = min_length, len(prefix), state
        self._after = torch.from_numpy(after)
        self._accepts = torch.from_numpy(automaton.accepts)
        self._possible = torch.from_numpy(np.stack(possible))  # that a match can be finished

    def fit(self, path: Sequence[int]) -> bool:
        """Whether a whole path that begins with the prefix is such a sequence."""
        state = self.start
        for symbol in path[self.num_before :]:
            state = int(self._after[state, symbol])
        return len(path) >= self.min_length and bool(self._accepts[state])

    def states(self, rows: Tensor) -> Tensor:
        """The states of rows after the prefix, of the shape of `rows`."""
        self._after, self._accepts, self._possible = (
            table.to(rows.device) for table in (self._after, self._accepts, self._possible)
        )
        return torch.full_like(rows, self.start)

    def mask(self, scores: Tensor, states: Tensor, step: int) -> Tensor:
        """Scores `[..., V]` with minus infinity where no match can be finished.

        Args:
            scores: Of the next symbols.
            states: `[...]`.
            step: Number of symbols after the prefix.
        """
        length = self.num_before + step
        after = self._after[states]  # [..., V]
        allowed = self._possible[self._index[length + 1]][after.long()]
        allowed[..., EOS] = self._accepts[states] & (length >= self.min_length)
        return scores.masked_fill(~allowed, -torch.inf)

    def advance(self, states: Tensor, symbols: Tensor) -> Tensor:
        """The states `[...]` after one more symbol, `[...]`."""
        return self._after[states, symbols].long()


def compile_constraint(pattern: str, vocabulary: Vocabulary) -> Automaton:
    """The automaton of the sequences that match a regular expression as a whole.

    Args:
        pattern: In the syntax of `re`; of tokens, for the tokens with a space between them.
            SentencePiece spells characters in bytes only where they are in the pattern.
        vocabulary: The symbols.

    Raises:
        InputError: no regular expression, one with a lookaround, a backreference or a boundary
            within it, or one of too many states.
    """
    ids = range(NUM_SPECIAL, len(vocabulary))
    spelled = [vocabulary.symbol(id) for id in ids]
    if vocabulary.kind == "sentencepiece":
        spelled = [
            *map(chr, range(NUM_BYTES)),
            *(piece.replace(SPACE_MARK, " ") for piece in spelled[NUM_BYTES:]),
        ]
    alphabet = sorted({" ", *pattern, *"".join(spelled)})
    classes, table, accepts = _Compiler(pattern, alphabet).determinise()
    check_size(pattern, len(table) * len(vocabulary), MAX_ENTRIES)
    of_character = dict(zip(alphabet, classes.tolist(), strict=True))
    before = " " if vocabulary.kind == "tokens" else ""
    after = _walk(table, [[of_character[c] for c in before + one] for one in spelled])
    start = 1
    if vocabulary.kind == "tokens":  # the first one has no space before it
        first = _walk(
            table[: start + 1], [[of_character[c] for c in one] for one in spelled], table
        )
        start = len(after)
        after, accepts = np.concatenate([after, first[1:]]), np.append(accepts, accepts[1])
    if vocabulary.kind == "sentencepiece":
        after[:, 128:NUM_BYTES] = DEAD  # parts of characters
        pieces = set(spelled[NUM_BYTES:])
        bytewise = [c for c in set(pattern) - pieces if not c.isascii()]
        after = _spell_in_bytes(after, {c: table[:, of_character[c]] for c in bytewise})
        accepts = np.pad(accepts, (0, len(after) - len(accepts)))
    return Automaton(np.pad(after, ((0, 0), (NUM_SPECIAL, 0))), accepts, start)


def check_size(pattern: str, size: int, limit: int) -> None:
    """Raise if an automaton is too large."""
    if size > limit:
        raise InputError(f"constraint: wanted a simpler regular expression, got {pattern!r:.60}")


def _walk(
    table: NDArray[np.int32], spelled: Sequence[Sequence[int]], all: NDArray[np.int32] | None = None
) -> NDArray[np.int32]:
    """The state after each text, `[S, V - NUM_SPECIAL]`, from those after each character.

    Args:
        table: Of the states from which to start, `[S, Q]`.
        spelled: The classes of each text's characters.
        all: Of all states, if these are more.
    """
    whole = table if all is None else all
    stays = np.arange(len(whole), dtype=np.int32)[:, None]
    whole = np.concatenate([whole, stays], 1)  # for what is after a text's end
    codes = np.full((len(spelled), max(map(len, spelled), default=0)), whole.shape[1] - 1)
    for row, text in enumerate(spelled):
        codes[row, : len(text)] = text
    states = np.broadcast_to(stays[: len(table)], (len(table), len(spelled)))
    for column in codes.T:
        states = whole[states, column]
    return np.array(states)


def _spell_in_bytes(
    after: NDArray[np.int32], targets: dict[str, NDArray[np.int32]]
) -> NDArray[np.int32]:
    """Add states for characters that SentencePiece spells in bytes.

    Args:
        after: As of `_walk`.
        targets: For each character the state after it, `[S]`.
    """
    rows, known = list(after), {}
    for character, of_state in targets.items():
        *first, last = character.encode()
        for start in np.flatnonzero(of_state).tolist():
            state = start
            for number, byte in enumerate(first):
                key = (start, *first[: number + 1])
                if key not in known:
                    known[key] = len(rows)
                    rows.append(np.zeros_like(after[0]))
                rows[state][byte] = state = known[key]
            rows[state][last] = of_state[start]
    check_size("".join(targets), len(rows) * len(after[0]), MAX_ENTRIES)
    return np.stack(rows)


class _Compiler:
    """A regular expression as a nondeterministic automaton over an alphabet (Thompson 1968)."""

    def __init__(self, pattern: str, alphabet: Sequence[str]) -> None:
        self.pattern, self.alphabet = pattern, alphabet
        self.edges: list[list[tuple[int | None, int]]] = [[]]  # test, None for none, and target
        self.tests: list[NDArray[np.bool_]] = [np.ones(len(alphabet), np.bool_)]
        self._known: dict[Any, int] = {}
        try:
            with warnings.catch_warnings(action="ignore"):
                self._tree = _parser.parse(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise InputError(
                f"constraint: wanted a regular expression, got {pattern!r:.60}: {error}"
            ) from error
        items = list(self._tree)
        while items and items[0][0] is _constants.AT and items[0][1] in STARTS:
            del items[0]
        while items and items[-1][0] is _constants.AT and items[-1][1] in ENDS:
            del items[-1]
        self.end = self._add(items, 0, self._tree.state.flags)

    def _state(self) -> int:
        self.edges.append([])
        check_size(self.pattern, len(self.edges), MAX_STATES)
        return len(self.edges) - 1

    def _add(self, items: Iterable[tuple[Any, Any]], start: int, flags: int) -> int:
        """Add what matches items one after the other; returns the state after them."""
        for op, argument in items:
            start = self._add_one(op, argument, start, flags)
        return start

    def _add_one(self, op: Any, argument: Any, start: int, flags: int) -> int:
        if op in ONE_CHARACTER:
            end = self._state()
            self.edges[start].append((self._test((op, argument), flags), end))
            return end
        if op is _constants.BRANCH:
            end = self._state()
            for items in argument[1]:
                self.edges[self._add(items, start, flags)].append((None, end))
            return end
        if op is _constants.SUBPATTERN:
            _, added, removed, items = argument
            return self._add(items, start, (flags | added) & ~removed)
        if op in REPEATS:
            low, high, items = argument
            for _ in range(low):
                before, start = start, self._add(items, start, flags)
                if start == before:  # of nothing
                    return start
            if high is _constants.MAXREPEAT:
                loop = self._state()
                self.edges[start].append((None, loop))
                self.edges[self._add(items, loop, flags)].append((None, loop))
                return loop
            ends = [start]
            for _ in range(high - low):
                ends.append(self._add(items, ends[-1], flags))
                if ends[-1] == ends[-2]:
                    break
            for end in ends[:-1]:
                self.edges[end].append((None, ends[-1]))
            return ends[-1]
        raise InputError(
            "constraint: wanted a regular expression without lookaround, backreferences, "
            f"boundaries and possessive repeats, got {self.pattern!r:.60}"
        )

    def _test(self, item: tuple[Any, Any], flags: int) -> int:
        """The number of the test for the characters that an item matches."""
        key = repr(item), flags
        if key not in self._known:
            state = copy.copy(self._tree.state)
            state.flags = flags
            one = _compiler.compile(_parser.SubPattern(state, [item]))
            matches = [one.fullmatch(character) is not None for character in self.alphabet]
            self._known[key] = len(self.tests)
            self.tests.append(np.array(matches, np.bool_))
        return self._known[key]

    def determinise(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_]]:
        """The automaton of sets of states.

        Returns:
            The class of each character, of Q; the state after a character of each class, int32
            `[S, Q]`, 0 for none, the first state being 1; and which states accept, `[S]`.
        """
        by_class, classes = np.unique(np.stack(self.tests), axis=1, return_inverse=True)
        first = self._closure({0})
        numbers, todo, rows = {first: 1}, [first], [[DEAD] * by_class.shape[1]]
        for states in todo:
            row = []
            steps = [edge for state in states for edge in self.edges[state] if edge[0] is not None]
            for tests in by_class.T:
                found = self._closure({target for test, target in steps if tests[test]})
                if found and found not in numbers:
                    numbers[found] = len(numbers) + 1
                    check_size(self.pattern, len(numbers), MAX_STATES)
                    todo.append(found)
                row.append(numbers.get(found, DEAD))
            rows.append(row)
        accepts = [False, *(self.end in states for states in todo)]
        return classes.ravel(), np.array(rows, np.int32), np.array(accepts)

    def _closure(self, states: set[int]) -> frozenset[int]:
        """All states that are reached from some without a character."""
        todo = list(states)
        for state in todo:
            for test, target in self.edges[state]:
                if test is None and target not in states:
                    states.add(target)
                    todo.append(target)
        return frozenset(states)
