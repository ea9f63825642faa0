"""Baselines with the SS-VAE's encoder of y and no decoder.

It is trained on labels alone, by self-training, or after pretraining as a language model. The
number of steps is chosen on labelled dev rows; then it is trained again for as many steps with the
labels of dev rows too, by the same schedule of the rate, from the same start, and with the same
limit on the minutes.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from seqssvae import devices, progress
from seqssvae.compare.baselines import dev_score
from seqssvae.config import Config
from seqssvae.data.batches import Batch, collate
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared
from seqssvae.data.streams import Stream
from seqssvae.errors import InputError
from seqssvae.inference.classify import common_noise, label_log_prob
from seqssvae.inference.predict import classify_table
from seqssvae.model.build import build
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.encoders import SequenceEncoder
from seqssvae.shapes import arrays_to_device, symbol_index
from seqssvae.training.averaging import WeightAverage
from seqssvae.training.schedules import learning_rate

SHARES = (1 / 3, 2 / 3, 1.0)  # of the unlabelled rows, most confident first, in each round


class Best(NamedTuple):
    """The best evaluation on labelled dev rows; random weights are never the best."""

    score: tuple[float, float] = (-math.inf, -math.inf)
    num_steps: int = 0


def fit_supervised(config: Config, prepared: Prepared) -> SSVAE:
    """q(y | x) by cross-entropy on the rows with one label.

    Args:
        config: The settings: steps, rate, patience and so on are those of the SS-VAE.
        prepared: The rows.

    Returns:
        A model with a trained q(y | x); its other weights are untrained.
    """
    model = _untrained(config, prepared)
    best = _train(config, model, prepared, None, _end(config))
    return _learn_all_labels(config, model, _untrained(config, prepared), prepared, best)


def fit_self_trained(config: Config, prepared: Prepared) -> SSVAE:
    """Rounds of self-training, each from new weights (Cascante-Bonilla et al. 2021).

    In each round a larger share of the unlabelled rows, those with the most confident predictions
    in the last round, get these predictions as labels.

    Args:
        config: As in `fit_supervised`; the time limit holds for all rounds together.
        prepared: The rows.

    Returns:
        The model of the best round by labelled dev rows, whose pseudo-labels it learns again with
        all labels; the first round has none.
    """
    end, model = _end(config), _untrained(config, prepared)
    best, pseudo_of_best = _train(config, model, prepared, None, end), None
    last = model
    for share in SHARES:
        if time.monotonic() >= end or not len(prepared.unlabelled):
            break
        probabilities = classify_table(last, prepared.unlabelled)
        confident = np.argsort(-probabilities.max(1), kind="stable")
        confident = confident[: max(1, int(share * len(confident)))]
        pseudo_labels = probabilities.argmax(1)[confident]
        pseudo_labelled = prepared.unlabelled.take(confident).with_labels(pseudo_labels, {})
        last = _untrained(config, prepared)
        of_round = _train(config, last, prepared, pseudo_labelled, end)
        if of_round.score > best.score:
            model, best, pseudo_of_best = last, of_round, pseudo_labelled
    start = _untrained(config, prepared)
    return _learn_all_labels(config, model, start, prepared, best, pseudo_of_best)


def fit_pretrained(config: Config, prepared: Prepared) -> SSVAE:
    """Language modelling of all rows, then as `fit_supervised` (Dai and Le 2015).

    Args:
        config: As in `fit_supervised`; pretraining gets at most half of the time.
        prepared: The rows.
    """
    end, model = _end(config), _untrained(config, prepared)
    if not isinstance(model.encoder_y, SequenceEncoder):
        got = type(model.encoder_y).__name__
        raise InputError(f"arm pretrained: wanted the recurrent encoder of y, got {got}")
    rows = EncodedRows.concatenate([prepared.labelled, prepared.unlabelled])
    pretrain(config, model.encoder_y, rows, (time.monotonic() + end) / 2)
    pretrained = copy.deepcopy(model)
    best = _train(config, model, prepared, None, end)
    return _learn_all_labels(config, model, pretrained, prepared, best)


def _untrained(config: Config, prepared: Prepared) -> SSVAE:
    """An untrained model on the device of the settings."""
    return build(config, prepared).to(devices.resolve(config.training.device))


def pretrain(
    config: Config, encoder: SequenceEncoder, rows: EncodedRows, end: float = np.inf
) -> list[float]:
    """Train an encoder's recurrent layers to predict the next symbol in each direction.

    Args:
        config: The settings.
        encoder: Changed in place.
        rows: The rows; labels are not read.
        end: Time limit, by `time.monotonic`.

    Returns:
        The loss of each step, in nats per symbol and direction.
    """
    settings = config.training
    torch.manual_seed(settings.seed)
    device = encoder.embedding.weight.device
    directions = encoder.num_features // encoder.rnn.hidden_size
    heads = nn.ModuleList(
        nn.Linear(encoder.rnn.hidden_size, encoder.embedding.num_embeddings)
        for _ in range(directions)
    ).to(device)
    size = settings.labelled_batch_size + settings.unlabelled_batch_size
    stream = Stream(rows.lengths, size, seed=settings.seed)
    losses: list[float] = []

    def loss_of(step: int) -> Tensor:
        batch = collate(rows, stream.indices(step), num_classes=0).to(device)
        states = encoder.states(batch.x, batch.lengths)  # [S, F]
        of_row, times = symbol_index(batch.lengths)  # [S] each
        has_next = np.flatnonzero(of_row[1:] == of_row[:-1])  # symbols with another one after them
        row, time, first = arrays_to_device([of_row, times, has_next], device)
        symbols, second = batch.x[row, time], first + 1
        total = states.new_zeros(())
        for head, state, source, target in zip(
            heads, states.chunk(directions, 1), (first, second), (second, first), strict=False
        ):
            total = total + nn.functional.cross_entropy(head(state[source]), symbols[target])
        losses.append(float(total.detach()) / directions)
        return total

    encoder.train()
    steps = _steps(config, [*encoder.parameters(), *heads.parameters()], loss_of, end)
    for _ in progress.track(steps, "steps of pretraining", settings.num_steps):
        pass
    return losses


def _end(config: Config) -> float:
    """When `training.max_minutes` are over, by `time.monotonic`."""
    return time.monotonic() + 60 * (config.training.max_minutes or math.inf)


def _steps(
    config: Config, parameters: list[nn.Parameter], loss_of: Callable[[int], Tensor], end: float
) -> Iterator[tuple[int, bool]]:
    """Steps of AdamW with the SS-VAE's rate and clipping, until steps or time are over.

    Yields:
        The number of steps so far, and whether this was the last one, after each of them.
    """
    settings = config.training
    optimizer = torch.optim.AdamW(parameters, weight_decay=settings.weight_decay, fused=True)
    step, is_last = 0, time.monotonic() >= end
    while not is_last:
        optimizer.param_groups[0]["lr"] = learning_rate(
            step,
            start=settings.learning_rate,
            final_share=settings.final_learning_rate,
            steps=settings.num_steps,
        )
        optimizer.zero_grad(set_to_none=True)
        loss_of(step).backward()
        nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimizer.step()
        step += 1
        is_last = step == settings.num_steps or time.monotonic() >= end
        yield step, is_last


def _train(
    config: Config,
    model: SSVAE,
    prepared: Prepared,
    pseudo_labelled: EncodedRows | None,
    end: float,
    num_steps: int | None = None,
) -> Best:
    """Train q(y | x) for a number of steps; with None, as many as are best on labelled dev rows."""
    settings = config.training
    torch.manual_seed(settings.seed)
    sources = [
        (prepared.labelled.take(prepared.labelled.y >= 0), settings.labelled_batch_size),
        *([] if pseudo_labelled is None else [(pseudo_labelled, settings.unlabelled_batch_size)]),
    ]
    streams = [
        (rows, Stream(rows.lengths, size, seed=settings.seed, number=number))
        for number, (rows, size) in enumerate(sources)
    ]
    modules = [part for part in (model.encoder_y, model.head_y, model.ngrams) if part is not None]
    parameters = list(nn.ModuleList(modules).parameters())

    def loss_of(step: int) -> Tensor:
        model.train()
        batches = [
            collate(rows, stream.indices(step), num_classes=model.num_classes)
            for rows, stream in streams
        ]
        return torch.stack([_cross_entropy(model, batch) for batch in batches]).sum()

    best, best_weights, since = Best(), model.state_dict(), 0
    average = WeightAverage(parameters, settings.average_steps)
    steps = _steps(config, parameters, loss_of, end)
    for step, is_last in progress.track(steps, "steps", num_steps or settings.num_steps):
        average.update()
        if num_steps is None and (is_last or step % settings.evaluate_every == 0):
            with average.applied():
                score = _score(model, prepared)
                since += 1
                if score > best.score or not len(prepared.labelled_dev):
                    best, since = Best(score, step), 0
                    best_weights = copy.deepcopy(model.state_dict())
        if step == num_steps or (settings.patience and since >= settings.patience):
            break
    average.assign()
    if num_steps is None:
        model.load_state_dict(best_weights)
    return best


def _learn_all_labels(
    config: Config,
    chosen: SSVAE,
    start: SSVAE,
    prepared: Prepared,
    best: Best,
    pseudo_labelled: EncodedRows | None = None,
) -> SSVAE:
    """The chosen model, or where dev rows have labels one trained on these too, from `start`."""
    everything = prepared.with_dev_labels()
    if everything is prepared or not best.num_steps:
        return chosen
    _train(config, start, everything, pseudo_labelled, _end(config), best.num_steps)
    return start


def _cross_entropy(model: SSVAE, batch: Batch) -> Tensor:
    """Cross-entropy of q(y | x), under "y-given-z" at the mean of q(z | x)."""
    batch = batch.to(model.prior_logits.device)
    features = model.encode_batch(batch)
    log_prob = label_log_prob(model, features, common_noise(model, 0, None))
    return nn.functional.nll_loss(log_prob[0], batch.y)


def _score(model: SSVAE, prepared: Prepared) -> tuple[float, float]:
    """`dev_score` on labelled dev rows."""
    dev = prepared.labelled_dev
    return dev_score(classify_table(model, dev), dev.y) if len(dev) else (0.0, 0.0)
