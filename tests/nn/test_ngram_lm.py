"""The n-gram models and their mixture, against dicts of counts and plain recursion."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqssvae.data.vocabulary import BOS, EOS, PAD
from seqssvae.nn.ngram_counts import NGramCounts
from seqssvae.nn.ngram_lm import SPEED, NGramLM
from tests.support.rows import make_rows

V, K = 9, 3
SHARES = [0.1, 0.7, 0.4, 0.9, 0.3]  # s_k of up to five tables
OF_CLASSES, OF_ALL = [1.5, 3.0, 5.0, 2.0, 0.5], [0.5, 4.0, 1.0, 3.0, 2.0]  # a_k, b_k
LONG = [4, 5, 6] * 23  # its last positions share a context


class Counts:
    """n(c v, y) and n(c, y) in dicts, of rows with weights of the classes, `[n, K]`."""

    def __init__(self, rows: Sequence[Sequence[int]], weights: Tensor, order: int) -> None:
        self.order, num_classes = order, weights.shape[1]
        self.ngrams: dict[Any, Tensor] = defaultdict(lambda: torch.zeros(num_classes))
        self.contexts: dict[Any, Tensor] = defaultdict(lambda: torch.zeros(num_classes))
        for row, weight in zip(rows, weights, strict=True):
            for time, symbol in enumerate(row):
                for context in self.contexts_of(row[:time]):
                    self.ngrams[context, symbol] += weight
                    self.contexts[context] += weight

    def contexts_of(self, before: Sequence[int]) -> list[Any]:
        """The context of each table after some symbols."""
        known = [BOS, *before]
        by_size = [(size, *known[len(known) - min(size, len(known)) :]) for size in range(1, 99)]
        position = ("position", min(len(before), 63))
        return [(), *by_size[: self.order - 1], position]

    def probabilities(self, before: Sequence[int], symbol: int, y: int) -> list[float]:
        """p of every table: the formulas of the module, term by term."""
        p = q = 0.0 if symbol in (PAD, BOS) else 1 / (V - 2)
        values, first = [], (p, q)
        for number, context in enumerate(self.contexts_of(before)):
            a, b = OF_CLASSES[number], OF_ALL[number]
            if number == self.order:
                p, q = first
            of_class, of_all = self.ngrams[context, symbol], self.contexts[context]
            q = (float(of_class.sum()) + b * q) / (float(of_all.sum()) + b)
            base = SHARES[number] * q + (1 - SHARES[number]) * p
            p = (float(of_class[y]) + a * base) / (float(of_all[y]) + a)
            if number == 0:
                first = p, q
            values.append(p)
        return values


def flat(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Symbols, their rows and their positions, `[S]` each."""
    symbols = [(s, row, time) for row, ids in enumerate(rows) for time, s in enumerate(ids)]
    symbol, row, time = torch.tensor(symbols).t()
    return symbol, row, time


def random_rows(num: int, seed: int, symbols: tuple[int, int] = (4, 7)) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [
        [*generator.integers(*symbols, generator.integers(0, 7)).tolist(), EOS] for _ in range(num)
    ]


def make_lm(
    rows: Sequence[Sequence[int]],
    weights: Tensor,
    order: int,
    num_classes: int = K,
    label_sizes: Sequence[int] = (),
) -> NGramLM:
    lm = NGramLM(
        vocabulary_size=V,
        num_classes=num_classes,
        order=order,
        num_features=2,
        label_sizes=label_sizes,
    )
    start = torch.tensor([1.0] + [4.0] * order)
    strengths = torch.tensor([OF_ALL[: order + 1], OF_CLASSES[: order + 1]])
    shares = torch.tensor(SHARES[: order + 1]).logit()
    lm.backoff.data = torch.cat([shares.unsqueeze(0), (strengths / start).log()]) / SPEED
    index = NGramCounts(make_rows(rows), vocabulary_size=V, order=order)
    lm.assign(index.keys, index.count(weights.numpy()))
    return lm


NEW: dict[str, list[list[int]]] = {
    "rows of three symbols": random_rows(6, 1),
    "symbols that were not counted": random_rows(6, 2, (4, 9)),
    "long rows": [[*LONG, EOS], [EOS], [6, *LONG, 7]],
}


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("new", NEW.values(), ids=list(NEW))
def test_probabilities_are_those_of_the_formulas(new: list[list[int]], order: int) -> None:
    """Of targets in rows, and of every symbol after each of their beginnings, which sum to 1."""
    rows = [*random_rows(20, 0), [*LONG, EOS]]
    weights = torch.rand(len(rows), K)
    lm, counts = make_lm(rows, weights, order), Counts(rows, weights, order)
    got = lm.target_probabilities(*flat(new))
    want = [
        [counts.probabilities(row[:time], symbol, y) for y in range(K)]
        for row in new
        for time, symbol in enumerate(row)
    ]
    torch.testing.assert_close(got, torch.tensor(want).transpose(1, 2), rtol=0, atol=1e-12)
    assert got.std(0).min() > 0.01 and got.std(-1).max() > 0.01
    contexts, y = lm.start(K), torch.arange(K)
    for time, symbol in enumerate([*new[0], 5, 8]):
        contexts = lm.advance(contexts, torch.full((K,), [BOS, *new[0], 5][time]))
        every = lm.next_probabilities(contexts, y)  # [K, D, V]
        torch.testing.assert_close(every.sum(-1), torch.ones(K, order + 1), rtol=0, atol=1e-12)
        assert not every[:, :, [PAD, BOS]].any()
        want_next = [counts.probabilities([*new[0], 5][:time], symbol, k) for k in range(K)]
        torch.testing.assert_close(every[..., symbol], torch.tensor(want_next), rtol=0, atol=1e-12)


COLUMNS = (2, 3)  # labels of two columns; K is 6


def test_a_combination_backs_off_to_rows_that_share_a_label() -> None:
    """Term by term, for targets and for every symbol; the probabilities sum to 1."""
    rows, order, y_of = random_rows(20, 0), 3, [divmod(y, 3) for y in range(6)]
    weights = torch.rand(20, 6)
    weights[:, 4] = 0  # a combination that was not counted
    lm = make_lm(rows, weights, order, 6, COLUMNS)
    shared = torch.tensor([[(a == i) + (b == j) for i, j in y_of] for a, b in y_of]).double()
    own, of_shared = Counts(rows, weights, order), Counts(rows, weights @ shared, order)

    def want(before: Sequence[int], symbol: int, y: int) -> list[float]:
        p = m = q = 1 / (V - 2)
        values, first = [], (p, m, q)
        for number, context in enumerate(own.contexts_of(before)):
            a, b = OF_CLASSES[number], OF_ALL[number]
            if number == order:
                p, m, q = first
            n, total = own.ngrams[context, symbol], own.contexts[context]
            n_m, total_m = of_shared.ngrams[context, symbol], of_shared.contexts[context]
            q = (float(n.sum()) + b * q) / (float(total.sum()) + b)
            share = SHARES[number]
            m = (float(n_m[y]) + a * (share * q + (1 - share) * m)) / (float(total_m[y]) + a)
            base = m if number == 0 else share * m + (1 - share) * p
            p = (float(n[y]) + a * base) / (float(total[y]) + a)
            if number == 0:
                first = p, m, q
            values.append(p)
        return values

    new = random_rows(4, 1, (4, 9))
    got = lm.target_probabilities(*flat(new))
    of_rows = [
        [want(row[:time], symbol, y) for y in range(6)]
        for row in new
        for time, symbol in enumerate(row)
    ]
    torch.testing.assert_close(got, torch.tensor(of_rows).transpose(1, 2), rtol=0, atol=1e-12)
    assert got[..., 4].std() > 0.01 and (got[..., 4] - got[..., 3]).abs().max() > 0.01
    contexts, y = lm.start(6), torch.arange(6)
    for time, symbol in enumerate([5, 4, 8]):
        contexts = lm.advance(contexts, torch.full((6,), [BOS, 5, 4][time]))
        every = lm.next_probabilities(contexts, y)
        torch.testing.assert_close(every.sum(-1), torch.ones(6, order + 1), rtol=0, atol=1e-12)
        of_next = [want([5, 4][:time], symbol, k) for k in range(6)]
        torch.testing.assert_close(every[..., symbol], torch.tensor(of_next), rtol=0, atol=1e-12)


def test_a_value_by_hand() -> None:
    """p_2(b | a, y), counted in "aab" of class 0 and in "b" of class 1."""
    a, b = 4, 5
    lm = make_lm([[a, a, b], [b]], torch.eye(2), 2, 2)
    got = lm.target_probabilities(*flat([[a, b]]))[1]  # [D, K]
    (s1, s2), (a1, a2), (b1, b2) = SHARES[:2], OF_CLASSES[:2], OF_ALL[:2]
    q1 = (2 + b1 / 7) / (4 + b1)
    p1 = [(1 + a1 * (s1 * q1 + (1 - s1) / 7)) / (n + a1) for n in (3, 1)]
    q2 = (1 + b2 * q1) / (2 + b2)  # "a" is followed by "a" once and by "b" once
    base = [s2 * q2 + (1 - s2) * p for p in p1]
    p2 = [(1 + a2 * base[0]) / (2 + a2), base[1]]
    torch.testing.assert_close(got[:2], torch.tensor([p1, p2]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize(("num_classes", "sizes"), [(0, ()), (K, ()), (6, COLUMNS)])
def test_a_row_that_is_left_out_was_never_counted(
    num_classes: int, sizes: tuple[int, ...], order: int
) -> None:
    """Also n-grams that are in no other row, and n-grams that are in it several times."""
    rows = [*random_rows(8, 0), [4, 4, 4, 4, EOS], [8, 7, 8, 7, EOS], [*LONG, EOS]]
    weights = torch.rand(len(rows), max(num_classes, 1))
    weights[1] = 0  # this one is not counted at all
    lm = make_lm(rows, weights, order, num_classes, sizes)
    got = lm.target_probabilities(*flat(rows), weights)
    want = []
    for row, sequence in enumerate(rows):
        others = [index for index in range(len(rows)) if index != row]
        rest = [rows[index] for index in others]
        without = make_lm(rest, weights[others], order, num_classes, sizes)
        want.append(without.target_probabilities(*flat([sequence])))
    torch.testing.assert_close(got, torch.cat(want), rtol=0, atol=1e-10)
    assert (got - lm.target_probabilities(*flat(rows))).abs().max() > 0.1


def test_without_counts_all_symbols_are_alike() -> None:
    lm = NGramLM(vocabulary_size=V, num_classes=K, order=3, num_features=2)
    got = lm.target_probabilities(*flat([[4, 8, EOS]]))
    torch.testing.assert_close(got, torch.full((3, 4, K), 1 / (V - 2)))
    got = lm.next_probabilities(lm.start(2), torch.tensor([0, 2]))
    assert got.shape == (2, 4, V) and got[:, :, EOS].eq(1 / (V - 2)).all()


def test_weights_of_classes_mix_and_without_classes_there_is_one() -> None:
    rows, share = random_rows(20, 0), torch.tensor([[0.2, 0.5, 0.3]])
    lm = make_lm(rows, torch.rand(20, K), 2)
    contexts = lm.advance(lm.start(1), torch.tensor([4]))
    by_class = [lm.next_probabilities(contexts, torch.tensor([y])) for y in range(K)]
    want = sum(float(share[0, y]) * by_class[y] for y in range(K))
    torch.testing.assert_close(lm.next_probabilities(contexts, share), want)
    plain = make_lm(rows, torch.ones(20, 1), 2, 0)
    want = plain.next_probabilities(contexts, torch.tensor([0]))
    torch.testing.assert_close(plain.next_probabilities(contexts, None), want)


def test_the_gate_mixes_the_tables_with_the_decoder() -> None:
    """At a target and for every symbol; the posterior of the decoder is a share of the mixture."""
    lm = make_lm(random_rows(20, 0), torch.rand(20, K), 2)
    torch.nn.init.normal_(lm.gate.weight)
    hidden, log_prob = torch.randn(K, 2), torch.randn(K, V).log_softmax(-1)
    contexts, y = lm.advance(lm.start(K), torch.full((K,), 4)), torch.arange(K)
    tables = lm.next_probabilities(contexts, y)  # [K, D, V]
    gate = (hidden @ lm.gate.weight.t() + lm.gate.bias).exp()
    gate = gate / gate.sum(1, keepdim=True)
    want = gate[:, :1] * log_prob.exp() + (gate[:, 1:, None] * tables).sum(1)
    every = lm.mix_all(log_prob, hidden, contexts, y)
    torch.testing.assert_close(every.exp(), want)
    torch.testing.assert_close(want.sum(1), torch.ones(K))
    for symbol in (4, 8, EOS):
        mixture = lm.mix(hidden, tables[..., symbol])
        torch.testing.assert_close(mixture.log_prob(log_prob[:, symbol]), every[:, symbol])
        torch.testing.assert_close(
            mixture.responsibility(log_prob[:, symbol]),
            gate[:, 0] * log_prob[:, symbol].exp() / want[:, symbol],
        )


def test_bos_changes_no_context() -> None:
    lm = make_lm(random_rows(20, 0), torch.rand(20, K), 3)
    after = lm.advance(lm.start(2), torch.tensor([4, BOS]))
    assert torch.equal(after[1], lm.start(1)[0]) and not torch.equal(after[0], after[1])


def test_a_state_of_another_size_is_loaded() -> None:
    """Tables that were derived before are not kept; neither by a change of dtype."""
    few = make_lm(random_rows(3, 0), torch.rand(3, K), 2)
    many = make_lm(random_rows(30, 1), torch.rand(30, K), 2)
    x = flat(random_rows(5, 2))
    want = many.target_probabilities(*x)
    assert (few.target_probabilities(*x) - want).abs().max() > 0.01
    few.load_state_dict(many.state_dict())
    torch.testing.assert_close(few.target_probabilities(*x), want, rtol=0, atol=0)
    state = many.state_dict()
    del state["backoff"]  # as in earlier versions, in which s_k, a_k and b_k were fixed
    few.load_state_dict(state)
    shares, pseudo_counts = few.strengths()
    assert shares.tolist() == [0.5] * 3 and pseudo_counts.tolist() == [[1.0, 4.0, 4.0]] * 2
    assert many.float().target_probabilities(*x).dtype == torch.float32


Damage = Callable[[dict[str, Tensor]], Any]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "sizes": (lambda s: s["sizes"][0].add_(1), "sizes: wanted a sum of"),
    "a negative size": (lambda s: s["sizes"].add_(torch.tensor([-99, 99, 0])), "sizes: wanted a"),
    "fewer counts": (lambda s: s.update(counts=s["counts"][1:]), "sizes: wanted a sum of"),
    "a negative count": (lambda s: s["counts"][3].fill_(-1), "counts: wanted finite numbers"),
    "a count of NaN": (lambda s: s["counts"][3].fill_(np.nan), "counts: wanted finite numbers"),
    "an infinite count": (lambda s: s["counts"][3].fill_(np.inf), "counts: wanted finite numbers"),
    "a negative key": (lambda s: s["keys"][0].fill_(-1), "keys: wanted ascending numbers below 9"),
    "a key twice": (lambda s: s["keys"][1].copy_(s["keys"][0]), "numbers below 9 in table 0"),
    "keys in another order": (lambda s: s.update(keys=s["keys"].flip(0)), "keys: wanted ascending"),
    "a symbol too large": (lambda s: s["keys"][3].fill_(9), "below 9 in table 0"),
    "a context too large": (
        lambda s: s["keys"][int(s["sizes"][:2].sum()) - 1].fill_(45),
        "below 45",
    ),
    "a late position": (lambda s: s["keys"][-1].fill_(64 * V), "below 576 in table 2"),
    "a huge key": (lambda s: s["keys"][-1].fill_(2**63 - 1), "below 576 in table 2"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=list(DAMAGES))
def test_a_state_that_is_no_table_is_refused(damage: Damage, message: str) -> None:
    lm = make_lm(random_rows(20, 0), torch.rand(20, K), 2)
    state = {name: value.clone() for name, value in lm.state_dict().items()}
    assert len(state["keys"]) > 9 and state["sizes"].tolist()[0] == 4
    lm.load_state_dict(state)
    damage(state)
    with pytest.raises(RuntimeError, match=message):
        lm.load_state_dict(state)
