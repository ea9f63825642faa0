"""A class-conditional n-gram language model and the gate that mixes it with the recurrent one.

The probability of symbol v after the k - 1 symbols c, among rows of class y:

    p_k(v | c, y) = (n(c v, y) + a_k r_k(v | c, y)) / (n(c, y) + a_k)
    r_k(v | c, y) = s_k q_k(v | c) + (1 - s_k) p_{k-1}(v | c', y)
    q_k(v | c)    = (n(c v) + b_k q_{k-1}(v | c')) / (n(c) + b_k)

with counts n(., y) of the class and n(.) of all rows, n(c, y) = sum_v n(c v, y), c' the context
without its first symbol, and learned pseudo-counts a_k and b_k and shares s_k: what follows a
context in the rows of other classes says little of languages, and much of topics. p_0 = q_0 is
uniform over the symbols other than PAD and BOS, so each p_k sums to 1 over v. In contexts, a BOS
precedes the row. One more model has the position in the row, up to 63, as context in place of
symbols, and p_1 and q_1 below it.

With several columns of labels, a class is a combination y that few rows may have. Between q_k and
p_k is then m_k, with the place of q_k in p_k and, among the rows that have a label of y in at least
one column, each counted once for each of these columns, the counts of p_k in place of the class's.
p_1 has m_1 alone below it, so that a combination of no row has nothing of the uniform p_0.

Counts are data and no parameters: they are set by `assign`. A row that was counted has, in its own
likelihood, its own counts left out (`counted`), so that rows of training are as likely as new ones.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seqssvae.data.vocabulary import BOS, PAD
from seqssvae.shapes import count_equal, label_index, of_classes

PSEUDO_COUNTS = (1.0, 4.0)  # a_1 and b_1, and those of other k, before training
START_SHARE = 0.2  # s_k before training
SPEED = 10.0  # of their logarithms and logits, which the learning rate of weights would hardly move
LAST_POSITION = 63  # this position and all later ones are one context
MAX_NGRAMS = 2**19  # of one table


class Mixture(NamedTuple):
    """The two sides of p = exp(log_share) p_rnn + exp(log_rest), at each of M positions.

    Attributes:
        log_share: Log of the share of the recurrent decoder, `[M]`.
        log_rest: Log of what the n-grams add, `[M]`.
    """

    log_share: Tensor
    log_rest: Tensor

    def log_prob(self, log_prob: Tensor) -> Tensor:
        """Log of the mixture for log-probabilities of the recurrent decoder, `[M]`."""
        return torch.logaddexp(self.log_share + log_prob, self.log_rest)

    def responsibility(self, log_prob: Tensor, part: slice = slice(None)) -> Tensor:
        """Posterior probability of the recurrent decoder at the positions of `log_prob`, `[m]`."""
        return (self.log_share[part] + log_prob - self.log_rest[part]).sigmoid()


class Table(NamedTuple):
    """The n-grams of one size, or the symbols by position: G of them, in C contexts.

    Attributes:
        keys: Context times V plus symbol, ascending, `[G]`; contexts are 0 at a row's start, and
            1 plus the number of the n-gram that is one symbol shorter, or they are positions.
        counts: n(c v, y), `[G, K]`.
        contexts: n(c, y), `[C, K]`.
        starts: Number of the first n-gram of each context, and G, `[C + 1]`.
    """

    keys: Tensor
    counts: Tensor
    contexts: Tensor
    starts: Tensor


class NGramLM(nn.Module):
    """Class-conditional n-gram models of sizes 1 to `order`, and the gate of their mixture.

    The gate is a softmax, linear in the decoder's states, over the recurrent decoder, p_1 to
    p_order, and the model by position: D of them beside the decoder. Without counts all of these
    are uniform.

    Args:
        vocabulary_size: V.
        num_classes: K; 1 where there are no classes.
        order: Size of the longest n-grams, context included, at least 1.
        num_features: Size of the decoder's states.
        label_sizes: As of `LabelTable`.

    Attributes:
        backoff: Parameters of s_k, a_k and b_k, `[3, D]`; 0 for a half and for `PSEUDO_COUNTS`.
    """

    index: Tensor | None
    keys: Tensor
    counts: Tensor
    sizes: Tensor
    usual: Tensor

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        order: int,
        num_features: int,
        label_sizes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.num_labels = sum(label_sizes)
        self.register_buffer("index", label_index(label_sizes), persistent=False)
        self.vocabulary_size, self.order = vocabulary_size, order
        self.num_classes = max(num_classes, 1)
        self.num_tables = order + 1
        self.gate = nn.Linear(num_features, 1 + self.num_tables)
        first, others = PSEUDO_COUNTS
        usual = torch.tensor([first] + [others] * order)
        self.register_buffer("usual", usual, persistent=False)
        self.backoff = nn.Parameter(torch.zeros(3, self.num_tables))
        with torch.no_grad():
            self.backoff[0] = math.log(START_SHARE / (1 - START_SHARE)) / SPEED
        self.register_buffer("keys", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("counts", torch.zeros(0, self.num_classes))
        self.register_buffer("sizes", torch.zeros(self.num_tables, dtype=torch.int64))
        self._tables: list[Table] | None = None
        self.contexts = self._first = self._starts = self.keys

    def strengths(self) -> tuple[Tensor, Tensor]:
        """s_k of every table, `[D]`, and b_k and a_k, `[2, D]`."""
        shares, pseudo_counts = self.backoff.split([1, 2])
        return (SPEED * shares[0]).sigmoid(), self.usual * (SPEED * pseudo_counts).exp()

    def assign(self, keys: Sequence[Tensor], counts: Tensor) -> None:
        """Set the n-grams and their counts.

        Args:
            keys: The n-grams of each table, the one of positions last, as in `Table`.
            counts: Their counts for each class, `[G, K]`, of the tables in turn.
        """
        device, dtype = self.gate.weight.device, self.gate.weight.dtype
        self.keys = torch.cat(list(keys)).to(device)
        self.counts = counts.to(device, dtype)
        self.sizes = torch.tensor([len(part) for part in keys], device=device)
        self._tables = None

    def tables(self) -> list[Table]:
        """The tables, derived from the buffers and kept until these change."""
        if self._tables is None:
            sizes, num_contexts, self._tables = self.sizes.tolist(), 1, []
            for keys, counts in zip(self.keys.split(sizes), self.counts.split(sizes), strict=True):
                if len(self._tables) == self.order:
                    num_contexts = LAST_POSITION + 1
                context = keys // self.vocabulary_size
                totals = counts.new_zeros(num_contexts, self.num_classes)
                totals.index_add_(0, context, counts)
                starts = torch.searchsorted(context, torch.arange(num_contexts + 1).to(context))
                self._tables.append(Table(keys, counts, totals, starts))
                num_contexts = len(keys) + 1
            # of all tables together, and where each one's part begins
            self.contexts = torch.cat([table.contexts for table in self._tables])
            ends = [[len(part) for part in (t.counts, t.contexts)] for t in self._tables]
            first = torch.tensor(ends).cumsum(0) - torch.tensor(ends)
            self._first = first.t().unsqueeze(-1).to(self.keys.device)  # [2, D, 1]
            every = zip(self._tables, self._first[0], strict=True)
            self._starts = torch.cat([table.starts + of for table, of in every])
        return self._tables

    def _apply(self, fn: Any, recurse: bool = True) -> "NGramLM":
        self._tables = None  # other device or dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(
        self,
        state: dict[str, Any],
        prefix: str,
        metadata: Any,
        strict: bool,
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
        """Take the number of n-grams from the state, which is not trusted."""
        self._tables = None
        state.setdefault(f"{prefix}backoff", torch.zeros_like(self.backoff))  # of earlier versions
        for name in ("keys", "counts"):
            value, own = state.get(prefix + name), getattr(self, name)
            if value is not None and value.dim() and value.shape[1:] == own.shape[1:]:
                setattr(self, name, own.new_zeros(value.shape))
        super()._load_from_state_dict(state, prefix, metadata, strict, missing, unexpected, errors)
        errors += [f"{prefix}{problem}" for problem in self._problems()]

    def _problems(self) -> Iterator[str]:
        """What of the buffers is no table; indices are not checked again when they are used."""
        sizes, num_contexts = self.sizes.tolist(), 1
        if min(sizes) < 0 or {sum(sizes), len(self.counts)} != {len(self.keys)}:
            yield f"sizes: wanted a sum of {len(self.keys)}, and as many counts, got {sizes}"
            return
        if not bool((self.counts.isfinite() & (self.counts >= 0)).all()):
            yield "counts: wanted finite numbers of at least 0, got others"
        for number, keys in enumerate(self.keys.split(sizes)):
            if number == self.order:
                num_contexts = LAST_POSITION + 1
            end = num_contexts * self.vocabulary_size
            is_within = not len(keys) or (int(keys[0]) >= 0 and int(keys[-1]) < end)
            if not is_within or bool((keys[1:] <= keys[:-1]).any()):
                yield f"keys: wanted ascending numbers below {end} in table {number}, got others"
            num_contexts = len(keys) + 1

    def look_up(self, table: Table, context: Tensor, symbol: Tensor) -> Tensor:
        """Numbers of n-grams, -1 for one that was not counted or has no context (-1)."""
        if not len(table.keys):
            return torch.full_like(context, -1)
        key = context * self.vocabulary_size + symbol  # of no context below 0, as no key is
        index = torch.searchsorted(table.keys, key).clamp(max=len(table.keys) - 1)
        return index.where(table.keys[index] == key, -1)

    def uniform(self, symbol: Tensor) -> Tensor:
        """p_0, of the gate's dtype and the shape of `symbol`."""
        possible = (symbol != PAD) & (symbol != BOS)
        return possible.to(self.gate.weight.dtype) / (self.vocabulary_size - 2)

    def target_probabilities(
        self, symbol: Tensor, row: Tensor, time: Tensor, counted: Tensor | None = None
    ) -> Tensor:
        """Probabilities of each symbol of B rows by every table and class.

        Args:
            symbol: Ids, the rows one after the other without padding, `[S]`.
            row: Row of each, `[S]`.
            time: Position of each in its row, `[S]`.
            counted: Weights with which the rows are in the counts, `[B, K]`; None: they are not.

        Returns:
            `[S, D, K]`.
        """
        tables, is_first = self.tables(), time == 0
        ngrams, contexts, context = [], [], torch.zeros_like(symbol)
        for number, table in enumerate(tables):
            if number == self.order:
                context = time.clamp(max=LAST_POSITION)
            ngrams.append(self.look_up(table, context, symbol))
            contexts.append(context)
            after = torch.where(ngrams[-1] >= 0, ngrams[-1] + 1, -1)
            context = after.roll(1).masked_fill(is_first, 0)
        # all tables at once from here: on a GPU each operation costs as much as a larger one
        numbers = torch.stack([torch.stack(ngrams), torch.stack(contexts)])  # [2, D, S]
        index = torch.where(numbers >= 0, numbers + self._first, -1)
        n, total = rows_of(self.counts, index[0]), rows_of(self.contexts, index[1])  # [D, S, K]
        if counted is not None:
            block = torch.arange(2 * len(tables), device=row.device).view(2, -1, 1) * len(counted)
            # a number, from -1 on, is below the limit less 1
            keys = (block + row) * (len(self.keys) + LAST_POSITION + 2) + numbers
            equal = count_equal(keys.flatten(), (numbers[0] >= 0).repeat(2, 1).flatten())
            own = equal.view(*keys.shape, 1) * counted.to(self.counts)[row]  # [2, D, S, K]
            n, total = (n - own[0]).clamp(min=0), (total - own[1]).clamp(min=0)  # rounding
        levels = list(zip(self.levels(n), self.levels(total), strict=True))
        strengths = self.strengths()
        found = [[self.uniform(symbol).unsqueeze(-1)] * len(levels)]
        for number in range(len(tables)):
            of_table = [(one[number], of_context[number]) for one, of_context in levels]
            below = found[number if number < self.order else 1]
            found.append(_interpolate(number, strengths, of_table, below))
        return torch.stack([ps[-1] for ps in found[1:]], 1)

    def levels(self, counts: Tensor) -> list[Tensor]:
        """Of counts `[..., K]` those of all rows, `[..., 1]`, and of each class, `[..., K]`.

        Between them, with several columns, those of rows that have a label of the class.
        """
        levels = [counts.sum(-1, keepdim=True), counts]
        if self.index is not None:
            sums = counts.new_zeros(*counts.shape[:-1], self.num_labels)
            for of_column in self.index.unbind(1):
                sums.index_add_(-1, of_column, counts)
            levels.insert(1, of_classes(sums, self.index))
        return levels

    def levels_of(self, counts: Tensor, y: Tensor) -> list[Tensor]:
        """`levels` of class y `[N]`: of counts `[N, ..., K]`, `[N, ...]` each."""
        number = y.view(-1, *[1] * (counts.dim() - 1)).expand(*counts.shape[:-1], 1)
        levels = self.levels(counts)
        found = [of if of.shape[-1] == 1 else of.gather(-1, number) for of in levels]
        return [of.squeeze(-1) for of in found]

    def flat_contexts(self, contexts: Tensor) -> Tensor:
        """Numbers of contexts `[N, D]` in `contexts` of all tables, -1 for none."""
        return torch.where(contexts >= 0, contexts + self._first[1].squeeze(-1), -1)

    def followers(self, table: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """The first n-gram of a context, and how many it has, of all tables together, `[N]`."""
        place = self._first[1].squeeze(-1)[table] + table + context  # each has one start more
        return self._starts[place], self._starts[place + 1] - self._starts[place]

    def start(self, num_rows: int) -> Tensor:
        """Contexts in each table before the first symbol, `[N, D]`."""
        return self.sizes.new_zeros(num_rows, self.num_tables)

    def advance(self, contexts: Tensor, symbol: Tensor) -> Tensor:
        """Contexts `[N, D]` after one more symbol `[N]`; BOS changes none."""
        *by_size, position = contexts.unbind(1)
        after = [torch.zeros_like(symbol)]
        for table, context in zip(self.tables(), by_size[:-1], strict=False):
            ngram = self.look_up(table, context, symbol)
            after.append(torch.where(ngram >= 0, ngram + 1, -1))
        after.append((position + 1).clamp(max=LAST_POSITION))
        return torch.stack(after, 1).where((symbol != BOS).unsqueeze(1), contexts)

    def next_probabilities(self, contexts: Tensor, y: Tensor | None) -> Tensor:
        """Probabilities of every symbol by every table, `[N, D, V]`.

        Args:
            contexts: `[N, D]`.
            y: Classes `[N]`, weights of classes `[N, K]`, or None.
        """
        if y is not None and y.dtype.is_floating_point:
            every = torch.arange(self.num_classes, device=y.device)
            by_class = (self.next_probabilities(contexts, k.expand(len(y))) for k in every)
            return sum(w[:, None, None] * p for w, p in zip(y.unbind(1), by_class, strict=True))  # type: ignore[return-value]
        y = contexts.new_zeros(len(contexts)) if y is None else y
        symbols = torch.arange(self.vocabulary_size, device=contexts.device)
        uniform = self.uniform(symbols).expand(len(contexts), -1)  # [N, V]
        found, strengths = [[uniform] * (2 if self.index is None else 3)], self.strengths()
        tables = zip(self.tables(), contexts.unbind(1), strict=True)
        for number, (table, context) in enumerate(tables):
            known = context.clamp(min=0)
            num = torch.where(context >= 0, table.starts[known + 1] - table.starts[known], 0)
            row = torch.arange(len(num), device=num.device).repeat_interleave(num)
            offset = torch.arange(len(row), device=num.device) - (num.cumsum(0) - num)[row]
            ngram = table.starts[known][row] + offset
            where = row, table.keys[ngram] % self.vocabulary_size
            of_rows = self.levels_of(table.counts[ngram], y[row])
            of_contexts = self.levels_of(rows_of(table.contexts, context), y)
            of_table = [
                (torch.zeros_like(uniform).index_put(where, n), total.unsqueeze(1))
                for n, total in zip(of_rows, of_contexts, strict=True)
            ]
            below = found[number if number < self.order else 1]
            found.append(_interpolate(number, strengths, of_table, below))
        return torch.stack([ps[-1] for ps in found[1:]], 1)

    def mix(self, hidden: Tensor, probability: Tensor) -> Mixture:
        """The gate's mixture at M positions.

        Args:
            hidden: States of the decoder, `[M, F]`.
            probability: Those of each position's target, `[M, D]`.
        """
        gate = self.gate(hidden).float() if hidden.dtype != torch.float64 else self.gate(hidden)
        log_gate = gate.log_softmax(-1)
        tiny = torch.finfo(log_gate.dtype).tiny
        log_p = probability.to(log_gate).clamp(min=tiny).log()
        return Mixture(log_gate[:, 0], (log_gate[:, 1:] + log_p).logsumexp(-1))

    def mix_all(
        self, log_prob: Tensor, hidden: Tensor, contexts: Tensor, y: Tensor | None
    ) -> Tensor:
        """Log of the mixture for every symbol, `[N, V]`.

        Args:
            log_prob: Log-probabilities by the recurrent decoder, `[N, V]`.
            hidden: `[N, F]`.
            contexts: `[N, D]`.
            y: As in `next_probabilities`.
        """
        gate = self.gate(hidden).softmax(-1)
        rest = torch.einsum("nk,nkv->nv", gate[:, 1:], self.next_probabilities(contexts, y))
        rest = rest.clamp(min=torch.finfo(rest.dtype).tiny).log()
        return torch.logaddexp(gate[:, :1].log() + log_prob, rest)


def rows_of(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table `[G, K]`, zeros at -1: `[..., K]`."""
    if not len(table):
        return table.new_zeros(*index.shape, table.shape[1])
    return table[index.clamp(min=0)] * (index >= 0).unsqueeze(-1)


def _interpolate(
    number: int,
    strengths: tuple[Tensor, Tensor],
    levels: Sequence[tuple[Tensor, Tensor]],
    below: Sequence[Tensor],
) -> list[Tensor]:
    """q to p of a table, from n(c v) and n(c) of all rows to a class's, and from the one below."""
    share, pseudo_counts, found = strengths[0][number], strengths[1][:, number], list[Tensor]()
    for (n, total), p in zip(levels, below, strict=True):
        a = pseudo_counts[min(len(found), 1)]
        before = a * (share * found[-1] + (1 - share) * p) if found else a * p
        if len(found) > 1 and not number:  # of a combination: it may have no counts at all
            before = a * found[-1]
        found.append((n + before) / (total + a))
    return found
