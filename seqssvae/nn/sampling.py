"""Symbols drawn from a mixture of n-grams, without the probability of every symbol.

Unrolled, the formulas of `NGramLM` say with which probability a symbol comes from each of these:
the network, the uniform distribution, and the counts of the row's context in each table, those of
all rows or of its class. So one of them is drawn first, and a symbol of its counts then: this takes
as long for a large vocabulary as for a small one. Both draws invert a distribution function by the
same uniform number, of which each leaves what it has not used.
"""

import torch
from torch import Tensor

from seqssvae.nn.ngram_lm import NGramLM, rows_of
from seqssvae.shapes import wide

NETWORK = -1  # in the place of a symbol


def invert(weights: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Draw one of J, each with the probability of its weight.

    Args:
        weights: `[N, J]`, 0 or more, not all of a row 0.
        uniform: From [0, 1), `[N]`.

    Returns:
        Numbers from 0 to J - 1, never one of weight 0, `[N]`; and the rest of `uniform`, which is
        uniform again and independent of them, `[N]`.
    """
    cumulative = weights.cumsum(-1).contiguous()
    total = cumulative[:, -1:].contiguous()
    place = uniform.unsqueeze(-1) * total
    chosen = torch.searchsorted(cumulative, place, right=True)
    last = torch.searchsorted(cumulative, total)  # if rounding moved `uniform` to the end
    chosen = torch.minimum(chosen, last)
    weight = weights.gather(-1, chosen)
    return chosen.squeeze(-1), _rest(place - cumulative.gather(-1, chosen) + weight, weight)


def _rest(place: Tensor, weight: Tensor) -> Tensor:
    """Where a number is within a part of this length, from 0 to below 1, flat."""
    below_1 = 1 - torch.finfo(weight.dtype).eps
    return (place / weight).clamp(0, below_1).flatten()


def draw_symbols(
    lm: NGramLM, gate: Tensor, contexts: Tensor, y: Tensor | None, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw the next symbol of N rows from the mixture, if it comes from n-grams.

    Args:
        lm: The n-grams.
        gate: Shares of the network and of each table, `[N, 1 + D]`.
        contexts: `[N, D]`.
        y: Classes `[N]`, weights of classes `[N, K]`, or None.
        uniform: From [0, 1), `[N]`.

    Returns:
        Symbols, or `NETWORK` where the network has to say, and the rest of `uniform`, `[N]` each.
    """
    lm.tables()  # of the counts as they are
    if y is not None and y.dtype.is_floating_point:
        y, uniform = invert(wide(y), uniform)
    y = torch.zeros_like(contexts[:, 0]) if y is None else y
    number, rest = invert(_shares(lm, wide(gate), contexts, y), uniform)
    symbol = torch.full_like(number, NETWORK)
    rows = (number == 1).nonzero().squeeze(1)
    if len(rows):
        possible = lm.uniform(torch.arange(lm.vocabulary_size, device=gate.device))
        symbol[rows], rest[rows] = invert(wide(possible).expand(len(rows), -1), rest[rows])
    rows = (number > 1).nonzero().squeeze(1)
    if len(rows):
        node = number[rows] - 2
        level, table = node // lm.num_tables, node % lm.num_tables
        symbol[rows], rest[rows] = _of_counts(
            lm, table, contexts[rows, table], level, y[rows], rest[rows]
        )
    return symbol, rest


def _shares(lm: NGramLM, gate: Tensor, contexts: Tensor, y: Tensor) -> Tensor:
    """Probabilities of the network, of the uniform distribution, and of each level's tables.

    Returns:
        `[N, 2 + L D]`, the levels as of `NGramLM.levels`, the least one first.
    """
    totals = torch.stack(lm.levels_of(rows_of(lm.contexts, lm.flat_contexts(contexts)), y))
    shares, pseudo_counts = (of.to(gate) for of in lm.strengths())
    of_rows, of_classes = pseudo_counts
    stop = totals.to(gate)  # [L, N, D]
    stop = stop / (stop + torch.stack([of_rows] + [of_classes] * (len(stop) - 1)).unsqueeze(1))
    num_levels = len(stop)
    nothing = torch.zeros_like(gate[:, 0])
    inflow = [[nothing] * (num_levels - 1) + [share] for share in gate[:, 1:].unbind(1)]
    uniform, nodes = nothing, torch.zeros_like(stop)
    for table in reversed(range(lm.num_tables)):
        for level in reversed(range(num_levels)):
            share = inflow[table][level]
            nodes[level, :, table] = share * stop[level, :, table]
            share = share - nodes[level, :, table]
            if level:  # all of a combination's: see `NGramLM`
                part = share if level > 1 and not table else share * shares[table]
                inflow[table][level - 1] = inflow[table][level - 1] + part
                share = share - part
            if table:
                below = inflow[table - 1 if table < lm.order else 0]
                below[level] = below[level] + share
            else:
                uniform = uniform + share
    return torch.cat([gate[:, :1], uniform.unsqueeze(1), *nodes], 1)


def _of_counts(
    lm: NGramLM, table: Tensor, context: Tensor, level: Tensor, y: Tensor, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw from the counts of a context, all `[m]`; as of `invert`."""
    first, num = lm.followers(table, context)
    row = torch.arange(len(num), device=num.device).repeat_interleave(num)
    begin = num.cumsum(0) - num
    ngram = first[row] + torch.arange(len(row), device=num.device) - begin[row]
    levels = lm.levels_of(lm.counts[ngram], y[row])
    weights = wide(torch.stack(levels).gather(0, level[row].unsqueeze(0)).squeeze(0))
    cumulative = torch.cat([weights.new_zeros(1), weights.cumsum(0)])
    before, end = cumulative[begin], cumulative[begin + num]
    place = before + uniform * (end - before)
    chosen = torch.searchsorted(cumulative, place, right=True) - 1
    last = torch.searchsorted(cumulative, end) - 1  # as in `invert`
    chosen = torch.minimum(chosen, last)
    rest = _rest(place - cumulative[chosen], weights[chosen])
    return lm.keys[ngram[chosen]] % lm.vocabulary_size, rest
