"""A small model and batch for tests, and the objective by plain loops over examples and labels."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

from seqssvae.config import ModelConfig
from seqssvae.data.batches import Batch
from seqssvae.data.encoded import EncodedRows, offsets_of
from seqssvae.data.vocabulary import BOS, EOS, NUM_SPECIAL, PAD
from seqssvae.model.build import build_model
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.ngram_counts import NGramCounts
from seqssvae.nn.ngram_lm import NGramLM
from seqssvae.nn.recurrent_decoder import RecurrentDecoder
from seqssvae.shapes import length_mask

SMALL = ModelConfig(
    embedding_size=3,
    encoder_size=4,
    decoder_size=4,
    latent_size=2,
    ngram_buckets=64,
    decoder_ngrams=2,
    dropout=0.0,
    word_dropout=0.0,
    encoder_word_dropout=0.0,
)

FACTORISATIONS = ["z-given-y", "independent", "y-given-z"]
DECODERS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "gru, 2 layers": {"cell": "gru", "decoder_layers": 2},
    "tied": {"tied_embeddings": True},
    "nothing fed": {"feed_y": False, "feed_z": False, "class_bias": False},
    "no z": {"latent_size": 0},
}


def _weights(module: nn.Module) -> Iterator[Tensor]:
    """The parameters, without those of n-grams that are logarithms."""
    return (one for name, one in module.named_parameters() if not name.endswith("backoff"))


def make_model(
    num_classes: int = 3,
    *,
    vocabulary_size: int = 7,
    prior: Tensor | None = None,
    label_columns: dict[str, int] | None = None,
    voters: Sequence[str] = (),
    **changes: Any,
) -> SSVAE:
    """A model with random weights and n-gram counts, all away from 0, in evaluation mode."""
    config = dataclasses.replace(SMALL, **changes)
    model = build_model(
        config,
        vocabulary_size=vocabulary_size,
        num_classes=num_classes,
        prior=prior,
        label_columns=label_columns,
        voters=voters,
    )
    with torch.no_grad():
        for parameter in _weights(model):
            parameter.normal_(std=0.5)
    if model.votes is not None:
        model.votes.share.uniform_(0.1, 0.5)
    if model.decoder.ngrams is not None:
        count_random_rows(model.decoder.ngrams)
    return model.eval()


def make_decoder(num_classes: int = 3, **changes: Any) -> RecurrentDecoder:
    """The decoder of such a model."""
    decoder = make_model(num_classes, **changes).decoder
    assert isinstance(decoder, RecurrentDecoder)
    return decoder


def count_random_rows(ngrams: NGramLM, num_rows: int = 20) -> None:
    """Fill the tables of an n-gram model from random rows with random weights of the classes.

    Each table falls back in another way.
    """
    ngrams.backoff.data = torch.linspace(-0.1, 0.1, 3 * ngrams.num_tables).view(3, -1)
    batch = make_batch([-1] * num_rows, vocabulary_size=ngrams.vocabulary_size)
    symbols = batch.x[length_mask(batch.lengths, batch.x.shape[1])].numpy().astype(np.int32)
    rows = EncodedRows(symbols, offsets_of(batch.lengths.numpy()))
    index = NGramCounts(rows, vocabulary_size=ngrams.vocabulary_size, order=ngrams.order)
    weights = torch.rand(num_rows, ngrams.num_classes)
    ngrams.assign(index.keys, index.count(weights.numpy()))


def sharpen(model: SSVAE) -> SSVAE:
    """Multiply the decoder's weights, so that z and y change what is decoded."""
    with torch.no_grad():
        for parameter in _weights(model.decoder):
            parameter.mul_(4)
    return model


def make_batch(
    labels: list[int],
    *,
    max_length: int = 5,
    vocabulary_size: int = 7,
    extra_padding: int = 0,
    candidates: Tensor | None = None,
    w: Tensor | None = None,
    alpha: Tensor | None = None,
    vector_size: int = 0,
    evidence: Tensor | None = None,
    votes: Tensor | None = None,
) -> Batch:
    """Random rows of unsorted lengths that end with EOS; the first is the longest.

    If they have vectors, one is missing: the second.
    """
    num_rows = len(labels)
    lengths = torch.randint(1, max_length + 1, (num_rows,))
    lengths[0] = max_length
    x = torch.full((num_rows, max_length + extra_padding), PAD)
    for row, length in enumerate(lengths.tolist()):
        x[row, : length - 1] = torch.randint(NUM_SPECIAL, vocabulary_size, (length - 1,))
        x[row, length - 1] = EOS
    batch = Batch(
        x=x,
        lengths=lengths,
        y=torch.tensor(labels),
        candidates=candidates,
        w=w,
        alpha=alpha,
        evidence=evidence,
        votes=votes,
    )
    if not vector_size:
        return batch
    v = torch.randn(num_rows, vector_size)
    v[1:2] = torch.nan
    return dataclasses.replace(batch, v=v)


def stepwise_log_prob(
    model: SSVAE, symbols: list[int], z: Tensor, y: int | Tensor | None
) -> Tensor:
    """log p(x | y, z) of one sequence, symbol by symbol; z `[Z]`, y a class or weights `[K]`."""
    label = None if y is None else torch.as_tensor(y).unsqueeze(0)
    state = model.decoder.start(z.unsqueeze(0), label)
    total = z.new_zeros(())
    for before, symbol in zip([BOS, *symbols], symbols, strict=False):
        logits, state = model.decoder.step(torch.tensor([before]), state)
        # a mixture with n-grams is normalised, where the weights of y sum to 1
        log_prob = logits.log_softmax(-1) if model.decoder.ngrams is None else logits
        total = total + log_prob[0, symbol]
    return total


def count_batch(model: SSVAE, batch: Batch) -> tuple[Batch, Callable[[int], None]]:
    """Count the rows of a batch with random weights of the classes.

    Returns:
        The batch with these weights, and a function that counts all rows but one, or with -1 all
        of them: the oracle of a likelihood that leaves a row out.
    """
    lm = model.decoder.ngrams
    assert lm is not None
    symbols = batch.x[length_mask(batch.lengths, batch.x.shape[1])].numpy().astype(np.int32)
    rows = EncodedRows(symbols, offsets_of(batch.lengths.numpy()))
    index = NGramCounts(rows, vocabulary_size=lm.vocabulary_size, order=lm.order)
    weights = torch.rand(batch.num_rows, lm.num_classes)

    def count_without(row: int) -> None:
        others = weights.clone()
        if row >= 0:
            others[row] = 0
        lm.assign(index.keys, index.count(others.numpy()))

    count_without(-1)
    return dataclasses.replace(batch, counted=weights), count_without


def prior_of(model: SSVAE, y: int) -> Normal:
    """p(z | y)."""
    tables = model.z_prior.loc, model.z_prior.log_scale
    if tables[0] is None or tables[1] is None:
        return Normal(0.0, 1.0)
    return Normal(tables[0].table[y], tables[1].table[y].exp())


def example_terms(
    model: SSVAE, batch: Batch, row: int, noise: Tensor, *, kl: str, kl_weight: float
) -> tuple[Tensor, Tensor]:
    """(log q(y|x), L(x, y)) of one row for every y, each `[S, K]`; no padding, no neighbours."""
    length = int(batch.lengths[row])
    x, lengths = batch.x[row : row + 1, :length], batch.lengths[row : row + 1]
    v = None if batch.v is None else batch.v[row : row + 1]
    features = model.encode(x, lengths, v=v)
    log_q, bounds = [], []
    for epsilon in noise:
        values = []
        for y in range(model.num_classes):
            loc, scale = model.z_posterior(features, torch.tensor([y]))
            z, prior = (loc + scale * epsilon)[0], prior_of(model, y)
            if kl == "analytic":
                divergence = torch.distributions.kl_divergence(Normal(loc, scale), prior).sum()
            else:
                divergence = (Normal(loc[0], scale[0]).log_prob(z) - prior.log_prob(z)).sum()
            likelihood = stepwise_log_prob(model, x[0].tolist(), z, y)
            values.append(likelihood + model.prior_logits[y] - kl_weight * divergence)
        bounds.append(torch.stack(values))
        needs_z = model.y_reads_z
        log_q.append(model.y_logits(features, z.unsqueeze(0) if needs_z else None)[0])
    return torch.stack(log_q), torch.stack(bounds)


def evidence_about(model: SSVAE, batch: Batch, row: int) -> Tensor:
    """log e(y) of one row, `[K]`: source by source, label by label."""
    total = torch.zeros(model.num_classes)
    if batch.evidence is not None:
        total = total + batch.evidence[row]
    if model.votes is None or batch.votes is None:
        return total
    for source, vote in enumerate(batch.votes[row].tolist()):
        if vote >= 0:
            confusion = Categorical(logits=model.votes.logits[source])  # of each label
            total = total + confusion.log_prob(torch.tensor(vote))
            total = total + model.votes.share[source] * confusion.logits.sum()
    return total


def brute_force_loss(
    model: SSVAE,
    batch: Batch,
    noise: Tensor,
    *,
    kl: str = "analytic",
    kl_weight: float = 1.0,
    before_row: Callable[[int], None] = lambda row: None,
) -> Tensor:
    """Minus the objective of Kingma et al. 2014, eq. 6 to 9, row by row and label by label.

    A teacher pulls q(y | x) of rows without a label. `before_row` is called before each row.
    """
    total = torch.zeros(())
    for row in range(batch.num_rows):
        before_row(row)
        log_q, bound = example_terms(model, batch, row, noise, kl=kl, kl_weight=kl_weight)
        evidence = evidence_about(model, batch, row)
        bound, known = bound + evidence, log_q + evidence
        w = 1.0 if batch.w is None else batch.w[row]
        alpha = 1.0 if batch.alpha is None else batch.alpha[row]
        y = int(batch.y[row])
        if y >= 0:
            total = total + w * bound[:, y].mean() + alpha * known[:, y].mean()
            continue
        if batch.candidates is not None:
            possible = batch.candidates[row].nonzero().squeeze(1)
        else:
            possible = torch.arange(model.num_classes)
        inside = known[:, possible].logsumexp(1, keepdim=True)
        among = known[:, possible] - inside  # [S, C]
        total = total + w * (among.exp() * (bound[:, possible] - among)).sum(1).mean()
        total = total + alpha * inside.mean()
        if len(possible) == model.num_classes and model.teacher_weight:
            assert model.ngrams is not None
            teacher = model.ngrams(batch.x[row : row + 1], batch.lengths[row : row + 1])
            if model.vectors is not None and batch.v is not None:
                teacher = teacher + model.vectors.logits(batch.v[row : row + 1])
            pull = (log_q.exp() * (log_q - teacher.log_softmax(-1))).sum(1).mean()
            total = total - w * model.teacher_weight * pull
    return -total
