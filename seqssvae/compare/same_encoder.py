"""The SS-VAE's encoder of y trained in other ways: what unlabelled rows give without a decoder.

On labels alone; on its own guesses too (self-training); after language modelling of all rows.
"""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from seqssvae.config import Config
from seqssvae.data.batches import Batch, collate
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared
from seqssvae.data.streams import Stream
from seqssvae.inference.classify import label_log_prob
from seqssvae.model.build import build
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.encoders import SequenceEncoder
from seqssvae.trained import classify_table
from seqssvae.training.schedules import learning_rate

__all__ = ["Clock", "fit_pretrained", "fit_self_trained", "fit_supervised", "pretrain"]

SHARES = (1 / 3, 2 / 3, 1.0)  # of the unlabelled rows, the surest first, in rounds of self-training


@dataclasses.dataclass(frozen=True)
class Clock:
    """When training has to end.

    Attributes:
        end: By `time.monotonic`.
    """

    end: float

    @classmethod
    def start(cls, config: Config) -> "Clock":
        """`training.max_minutes` from now."""
        return cls(time.monotonic() + 60 * config.training.max_minutes)

    @property
    def is_over(self) -> bool:
        """Whether that was."""
        return time.monotonic() >= self.end


def fit_supervised(config: Config, prepared: Prepared) -> SSVAE:
    """q(y | x) by cross-entropy on the rows with a label, and on no others.

    Args:
        config: The settings: steps, rate, patience and so on are those of the SS-VAE.
        prepared: The rows. Those with several possible labels are left out.

    Returns:
        A model whose q(y | x) is the one that was best on labelled dev rows; the rest of it is as
        it was made.
    """
    model = build(config, prepared)
    _train(config, model, prepared, _known(prepared), None, Clock.start(config))
    return model


def fit_self_trained(config: Config, prepared: Prepared) -> SSVAE:
    """Rounds of self-training, each from new weights (Cascante-Bonilla et al. 2021).

    Round by round a larger share of the unlabelled rows, those of which the last round was
    surest, is learned as if its guesses were labels.

    Args:
        config: As in `fit_supervised`; the time is that of all rounds.
        prepared: The rows.

    Returns:
        The best round's model by labelled dev rows; the first is `fit_supervised`'s.
    """
    clock, labelled = Clock.start(config), _known(prepared)
    best = build(config, prepared)
    best_score = _train(config, best, prepared, labelled, None, clock)
    last = best
    for share in SHARES:
        if clock.is_over or not len(prepared.unlabelled):
            break
        probabilities = classify_table(last, prepared.unlabelled)
        surest = np.argsort(-probabilities.max(1), kind="stable")
        surest = surest[: max(1, int(share * len(surest)))]
        y = probabilities.argmax(1)[surest]
        guessed = prepared.unlabelled.take(surest).with_labels(y, {})
        last = build(config, prepared)
        score = _train(config, last, prepared, labelled, guessed, clock)
        if score > best_score:
            best, best_score = last, score
    return best


def fit_pretrained(config: Config, prepared: Prepared) -> SSVAE:
    """Language modelling of all rows, then `fit_supervised` (Dai and Le 2015).

    Args:
        config: As in `fit_supervised`; half of the time at most is spent on pretraining.
        prepared: The rows.
    """
    model, clock = build(config, prepared), Clock.start(config)
    half = Clock(time.monotonic() + 30 * config.training.max_minutes)
    rows = EncodedRows.concatenate([prepared.labelled, prepared.unlabelled])
    pretrain(config, model.encoder_y, rows, half)
    _train(config, model, prepared, _known(prepared), None, clock)
    return model


def pretrain(
    config: Config, encoder: SequenceEncoder, rows: EncodedRows, clock: Clock
) -> list[float]:
    """Train an encoder's recurrent body to predict the symbol that each direction reads next.

    Args:
        config: The settings.
        encoder: Changed in place.
        rows: Their labels are not read.
        clock: Ends it before `training.num_steps` are done.

    Returns:
        The loss of each step, in nats per symbol and direction.
    """
    settings = config.training
    torch.manual_seed(settings.seed)
    directions = encoder.num_features // encoder.rnn.hidden_size
    heads = nn.ModuleList(
        nn.Linear(encoder.rnn.hidden_size, encoder.embedding.num_embeddings)
        for _ in range(directions)
    )
    size = settings.labelled_batch_size + settings.unlabelled_batch_size
    stream = Stream(rows.lengths, size, seed=settings.seed)
    losses: list[float] = []

    def loss_of(step: int) -> Tensor:
        batch = collate(rows, stream.indices(step), num_classes=0)
        states = encoder.states(batch.x, batch.lengths)  # [S, F]
        symbols = batch.x[torch.arange(batch.x.shape[1]) < batch.lengths.unsqueeze(1)]  # [S]
        row = torch.arange(batch.num_rows).repeat_interleave(batch.lengths)
        here = (row[1:] == row[:-1]).nonzero()[:, 0]  # with a symbol after it
        total = states.new_zeros(())
        for head, part, read, told in zip(
            heads, states.chunk(directions, 1), (here, here + 1), (here + 1, here), strict=False
        ):
            total = total + nn.functional.cross_entropy(head(part[read]), symbols[told])
        losses.append(float(total.detach()) / directions)
        return total

    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = _Optimizer(config, parameters)
    encoder.train()
    for step in range(settings.num_steps):
        if clock.is_over:
            break
        optimizer.step(step, loss_of)
    return losses


class _Optimizer:
    """AdamW with the SS-VAE's rate and clipping."""

    def __init__(self, config: Config, parameters: list[nn.Parameter]) -> None:
        self.settings, self.parameters = config.training, parameters
        self.adam = torch.optim.AdamW(
            parameters, weight_decay=self.settings.weight_decay, fused=True
        )

    def step(self, step: int, loss_of: Callable[[int], Tensor]) -> None:
        for group in self.adam.param_groups:
            group["lr"] = learning_rate(
                step,
                start=self.settings.learning_rate,
                final_share=self.settings.final_learning_rate,
                steps=self.settings.num_steps,
            )
        self.adam.zero_grad(set_to_none=True)
        loss_of(step).backward()
        nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.adam.step()


def _train(
    config: Config,
    model: SSVAE,
    prepared: Prepared,
    labelled: EncodedRows,
    guessed: EncodedRows | None,
    clock: Clock,
) -> tuple[float, float]:
    """Train q(y | x), keep the best, and return its accuracy and log-likelihood on dev."""
    settings = config.training
    torch.manual_seed(settings.seed)
    sources = [(labelled, settings.labelled_batch_size)]
    if guessed is not None:
        sources.append((guessed, settings.unlabelled_batch_size))
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

    optimizer = _Optimizer(config, parameters)
    best, kept, since = _score(model, prepared), _copy_weights(model), 0
    for step in range(settings.num_steps):
        optimizer.step(step, loss_of)
        is_last = step + 1 == settings.num_steps or clock.is_over
        if is_last or (step + 1) % settings.evaluate_every == 0:
            score = _score(model, prepared)
            since += 1
            if score > best or not len(prepared.labelled_dev):
                best, kept, since = score, _copy_weights(model), 0
        if is_last or (settings.patience and since >= settings.patience):
            break
    model.load_state_dict(kept)
    return best


def _copy_weights(model: SSVAE) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def _known(prepared: Prepared) -> EncodedRows:
    return prepared.labelled.take(prepared.labelled.y >= 0)


def _cross_entropy(model: SSVAE, batch: Batch) -> Tensor:
    """Of q(y | x), under "y-given-z" at the mean of q(z | x)."""
    features = model.encode(batch.x, batch.lengths)
    log_prob = label_log_prob(model, features, torch.zeros(1, 1, model.latent_size))
    return nn.functional.nll_loss(log_prob[0], batch.y)


def _score(model: SSVAE, prepared: Prepared) -> tuple[float, float]:
    """Accuracy, and mean log q(y | x) between equals, on labelled dev rows; 0 without any."""
    dev = prepared.labelled_dev
    if not len(dev):
        return (0.0, 0.0)
    table: npt.NDArray[np.float64] = classify_table(model, dev)
    chosen = table[np.arange(len(dev)), dev.y]
    accuracy = float(np.mean(table.argmax(1) == dev.y))
    return (accuracy, float(np.mean(np.log(np.maximum(chosen, 1e-12)))))
