"""What of a sequence speaks for a label and against another: shares of the decision, in nats.

Where r is the classifier, with powers a of q(y | x) and b of p(y | x),

    log r(y | x) - log r(y' | x) = sum_t (n_t + e_t + d_t) + rest

n_t is a times the share of the linear part of q(y | x), exact for each n-gram and divided equally
among its symbols. e_t is a times that of the recurrent encoder: how much its logits change when
symbol t is shown, the mean over symbols shown from the first to the last and from the last to the
first, the others being UNK (two permutations of Castro et al. 2009, Polynomial calculation of the
Shapley value). d_t is b (log p(x_t | x_<t, y, z) - log p(x_t | x_<t, y', z')), z at its mean. The
rest is what no symbol has: biases, a vector beside the sequence, the encoder's logits of nothing
but UNK, p(y), and p(z).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae.data.batches import Batch, collate
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.vocabulary import EOS, SPECIAL_SYMBOLS, UNK, Vocabulary
from seqssvae.inference.classify import (
    NUM_POSITIONS,
    common_noise,
    label_log_prob,
    mode_powers,
    sample_z,
)
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.ngrams import locate_ngrams
from seqssvae.nn.precision import evaluation_mode
from seqssvae.shapes import wide

Float64 = NDArray[np.float64]

SOURCES = ("ngrams", "encoder", "decoder")
MAX_SHOWN = 256  # groups of symbols that the encoder is shown one after the other
MAX_NGRAMS = 20  # that are listed


@dataclasses.dataclass(frozen=True)
class Shares:
    """Shares in log r(y | x) - log r(y' | x) of one row of T symbols.

    Attributes:
        symbols: n, e and d of each symbol, `[3, T]`.
        ngrams: First symbol, last symbol and share of each n-gram of the linear part.
        rest: What no symbol has.
    """

    symbols: Float64
    ngrams: list[tuple[int, int, float]]
    rest: float


def share_out(
    model: SSVAE,
    rows: EncodedRows,
    row: int,
    labels: tuple[int, int],
    *,
    mode: str,
    weights: tuple[float, float],
) -> Shares:
    """Shares of the symbols of a row, as `classify` would label it with no samples of z.

    Args:
        model: A model with classes.
        rows: The rows.
        row: Number of the row.
        labels: y and y'.
        mode: As of `classify`.
        weights: As of `classify`.
    """
    a, b = mode_powers(mode, weights)
    with evaluation_mode(model):
        batch = collate(rows, np.array([row]), num_classes=0).to(model.prior_logits.device)
        x, lengths = batch.whole or (batch.x, batch.lengths)
        symbols, ngrams, rest = np.zeros((3, int(lengths[0]))), [], 0.0
        if a:
            known, shared = _encoder_shares(model, batch, labels)
            symbols[1, : len(shared)] = a * shared
            rest += a * known
            if model.ngrams is not None:
                rest += a * _difference(model.ngrams.of_classes(model.ngrams.bias), labels)
                if model.vectors is not None and batch.v is not None:
                    rest += a * _difference(model.vectors.logits(batch.v)[0], labels)
                ngrams = _ngram_shares(model, x[0, : int(lengths[0])], labels, a)
                symbols[0] = _spread(ngrams, symbols.shape[1])
        if b:
            known, shared = _decoder_shares(model, batch, labels)
            symbols[2, : len(shared)] = b * shared
            rest += b * known
    return Shares(symbols, ngrams, rest)


def explain_row(
    model: SSVAE,
    rows: EncodedRows,
    row: int,
    labels: tuple[int, int],
    *,
    vocabulary: Vocabulary,
    mode: str,
    weights: tuple[float, float],
) -> dict[str, Any]:
    """The shares of a row as plain values; arguments as of `share_out`.

    Returns:
        `difference`, log r(y | x) - log r(y' | x); `symbols`, each with its text, its `share` and
        the parts of this by source; `words`, the sums over symbols between spaces, of texts of
        more than one word; `ngrams`, those of the linear part with the greatest shares; `rest`.
    """
    shares, ids = share_out(model, rows, row, labels, mode=mode, weights=weights), rows.row(row)
    texts, starts = _units(vocabulary, ids.tolist())
    by_source = np.add.reduceat(shares.symbols, starts, axis=1)  # [3, U]
    total = by_source.sum(0)
    is_tokens = vocabulary.kind == "tokens"
    of_words = [] if is_tokens else _words(texts)
    sums: dict[str, float] = {}
    for first, last, share in shares.ngrams:
        text = (" " * is_tokens).join(_units(vocabulary, ids[first : last + 1].tolist())[0])
        sums[text] = sums.get(text, 0.0) + share
    greatest = sorted(sums.items(), key=lambda one: -abs(one[1]))[:MAX_NGRAMS]
    return {
        "difference": float(total.sum() + shares.rest),
        "symbols": [
            {"text": text, "share": float(share), **dict(zip(SOURCES, parts, strict=True))}
            for text, share, parts in zip(texts, total, by_source.T.tolist(), strict=True)
        ],
        "words": [
            {"text": "".join(texts[i:j]).strip(), "share": float(total[i:j].sum())}
            for i, j in of_words
        ],
        "ngrams": [{"text": text, "share": share} for text, share in greatest],
        "rest": shares.rest,
    }


def explain_rows(
    model: SSVAE,
    rows: EncodedRows,
    probabilities: Float64,
    names: Sequence[str],
    given: Sequence[int | None],
    *,
    vocabulary: Vocabulary,
    mode: str,
    weights: tuple[float, float],
) -> list[dict[str, Any]]:
    """`explain_row` of each row, and the names `label` and `against` of its y and y'.

    Args:
        model: A model with two classes or more.
        rows: The rows.
        probabilities: Of every label, `[n, K]`.
        names: Of the classes, K.
        given: y and y'; None for the likeliest, and the likeliest other one.
        vocabulary: Symbols to texts.
        mode: As of `classify`.
        weights: As of `classify`.
    """
    found = []
    for row, of_row in enumerate(probabilities):
        order = [y for y in (-of_row).argsort().tolist() if y not in given]
        y, other = (order.pop(0) if one is None else one for one in given)
        shares = explain_row(
            model, rows, row, (y, other), vocabulary=vocabulary, mode=mode, weights=weights
        )
        found.append({"label": names[y], "against": names[other], **shares})
    return found


def _difference(value: Tensor, labels: tuple[int, int]) -> float:
    return float(wide(value[labels[0]]) - wide(value[labels[1]]))


def _ngram_shares(
    model: SSVAE, x: Tensor, labels: tuple[int, int], power: float
) -> list[tuple[int, int, float]]:
    """Each n-gram's share of the linear part; one bucket's is divided among those that are in it.

    Args:
        model: A model with such a part.
        x: Symbol ids of a row, `[T]`.
        labels: y and y'.
        power: What shares are multiplied by.
    """
    linear = model.ngrams
    assert linear is not None
    located = [
        locate_ngrams(x, block, num_buckets=linear.num_buckets, words=linear.words)
        for block in linear.blocks
    ]
    firsts, lasts = (torch.cat([one[part] for one in located]) for part in (1, 2))
    buckets = torch.cat([n * linear.num_buckets + one[0] for n, one in enumerate(located)])
    distinct, _, values = linear.features(x.unsqueeze(0), torch.tensor([len(x)]))
    weight = wide(linear.of_classes(linear.weight[distinct]))
    shares = power * wide(values) * (weight[:, labels[0]] - weight[:, labels[1]])
    place = torch.searchsorted(distinct, buckets)  # ascending, of one row
    of_each = (shares / torch.bincount(place, minlength=len(distinct)))[place]
    return list(zip(firsts.tolist(), lasts.tolist(), of_each.tolist(), strict=True))


def _spread(ngrams: Sequence[tuple[int, int, float]], size: int) -> Float64:
    """Shares of n-grams divided equally among their symbols, `[T]`."""
    changes = np.zeros(size + 1)
    for first, last, share in ngrams:
        changes[first] += share / (last + 1 - first)
        changes[last + 1] -= share / (last + 1 - first)
    return changes.cumsum()[:size]


def _encoder_shares(model: SSVAE, batch: Batch, labels: tuple[int, int]) -> tuple[float, Float64]:
    """The logits' difference for hidden symbols alone, and what each symbol adds to it, `[T]`.

    Args:
        model: A model with classes.
        batch: One row.
        labels: y and y'.
    """
    size, device = int(batch.lengths[0]), batch.x.device
    num_groups = min(size, MAX_SHOWN)
    edges = torch.arange(num_groups + 1) * size // num_groups
    time = torch.arange(size, device=device)
    until = edges.to(device).unsqueeze(1)  # [G + 1, 1]
    hidden = torch.cat([time >= until, time < size - until])
    shown = batch.x[:, :size].masked_fill(hidden, UNK)  # [2 (G + 1), T]
    parts = shown.split(NUM_POSITIONS // size or 1)
    logits = torch.cat([_encoder_logits(model, x, batch.v) for x in parts])
    value = wide(logits[:, labels[0]] - logits[:, labels[1]]).cpu().view(2, -1)  # [2, G + 1]
    added, sizes = value.diff(dim=1).numpy(), edges.diff().numpy()
    forward, backward = np.repeat(added[0] / sizes, sizes), np.repeat(added[1] / sizes, sizes)
    return float(value[0, 0]), (forward + backward[::-1]) / 2


def _encoder_logits(model: SSVAE, x: Tensor, v: Tensor | None) -> Tensor:
    """log q(y | x) without its linear part, `[B, K]`, of rows without padding, `[B, T]`.

    All have the vector v, `[1, D]`, if there is one.
    """
    v = None if v is None else v.expand(len(x), -1)
    lengths = torch.full((len(x),), x.shape[1])
    nothing = x.new_zeros(len(x), model.num_classes, dtype=model.prior_logits.dtype)
    features = model.encode(x, lengths, v=v, ngram_logits=nothing, only_y=not model.y_reads_z)
    return label_log_prob(model, features, common_noise(model, 0, None))[0]


def _decoder_shares(model: SSVAE, batch: Batch, labels: tuple[int, int]) -> tuple[float, Float64]:
    """The difference of log p(y) p(z) / q(z | x, y), and of log p of each symbol, `[T]`.

    Args:
        model: A model with classes.
        batch: One row.
        labels: y and y'.
    """
    y = torch.tensor(labels, device=batch.x.device).unsqueeze(1)  # [2, 1]
    features = model.encode_batch(batch)
    z, log_ratio = sample_z(model, features, y, common_noise(model, 0, None))
    z, log_ratio = z[0].expand(2, 1, -1), log_ratio[0].expand(2, 1)
    log_prob = model.likelihood(batch.lengths, z, y).symbol_log_prob(batch.x)[:, 0]  # [2, T]
    known = _difference(model.prior_logits, labels) + _difference(log_ratio[:, 0], (0, 1))
    return known, (wide(log_prob[0]) - wide(log_prob[1])).cpu().numpy()


def _units(vocabulary: Vocabulary, ids: Sequence[int]) -> tuple[list[str], list[int]]:
    """Texts of symbols, and the first symbol of each: bytes one after the other have one text."""
    symbols = [vocabulary.symbol(id) for id in ids]
    is_byte = vocabulary.is_unseen(np.array(ids)) & (np.array(ids) != UNK)
    starts = [0, *(t for t in range(1, len(ids)) if not (is_byte[t] and is_byte[t - 1]))]
    if vocabulary.kind == "tokens":
        return symbols, starts
    ends = [*starts[1:], len(ids)]
    texts = [
        symbols[i] if ids[i] == EOS else str(vocabulary.decode(ids[i:j]))
        for i, j in zip(starts, ends, strict=True)
    ]
    return texts, starts


def _words(texts: Sequence[str]) -> list[tuple[int, int]]:
    """First and end of each word, of texts with more than one: spaces start a word, and EOS is one.

    Args:
        texts: Texts of the symbols.
    """
    starts = [
        i for i, text in enumerate(texts) if text[:1].isspace() and i and not texts[i - 1].isspace()
    ]
    if starts and texts[-1] == SPECIAL_SYMBOLS[EOS]:
        starts.append(len(texts) - 1)
    return list(zip([0, *starts], [*starts, len(texts)], strict=True)) if starts else []
