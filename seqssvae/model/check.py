"""Whether a decoder or an encoder of a user's own keeps to its interface."""

import copy
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from seqssvae.data.vocabulary import BOS, EOS, PAD
from seqssvae.model.likelihood import ExpandedBatch, SequenceLikelihood
from seqssvae.nn.decoder import Decoder
from seqssvae.nn.encoders import Encoder

TOLERANCE = 1e-8  # relative, in float64
MOST_SEQUENCES = 2000  # that are summed over
LENGTHS = (5, 3, 1, 4)


def check_decoder(decoder: Decoder, *, seed: int = 0) -> None:
    """Check a decoder: a copy of it, in float64, without dropout, on random rows.

    Args:
        decoder: Best a small one, with some symbols and classes more than one.
        seed: Seed of the rows.

    Raises:
        ValueError: a line for each check that failed: "causality", "rows", "padding", "sum",
            "steps", "selection", "expanded batch", "weights of classes".

    Example:
        >>> seqssvae.check_decoder(seqssvae.load(run).model.decoder)
    """
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        _raise(_DecoderChecks(copy.deepcopy(decoder).double().cpu().eval()).problems())


def check_encoder(encoder: Encoder, vocabulary_size: int, *, seed: int = 0) -> None:
    """Check an encoder: a copy of it, in float64, without dropout, on random rows.

    Args:
        encoder: The encoder.
        vocabulary_size: V.
        seed: Seed of the rows.

    Raises:
        ValueError: a line for each check that failed: "shape", "rows", "padding", "empty row".

    Example:
        >>> seqssvae.check_encoder(seqssvae.load(run).model.encoder_y, 4)
    """
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        _raise(_encoder_problems(copy.deepcopy(encoder).double().cpu().eval(), vocabulary_size))


def _raise(problems: Iterator[str]) -> None:
    if found := list(problems):
        raise ValueError("\n".join(found))


def _differ(value: Tensor, other: Tensor) -> str | None:
    """Where two values differ, and by how much; None if they do not."""
    if value.shape != other.shape:
        return f"shapes {list(value.shape)} and {list(other.shape)}"
    difference = (value - other).abs() / (1 + other.abs())
    difference = difference.nan_to_num(torch.inf)
    if not value.numel() or float(difference.max()) <= TOLERANCE:
        return None
    place = [int(index) for index in torch.unravel_index(difference.argmax(), difference.shape)]
    return f"{float(value[tuple(place)]):.6g} and {float(other[tuple(place)]):.6g} at {place}"


def _random_rows(vocabulary_size: int) -> tuple[Tensor, Tensor]:
    """Symbols `[B, T]`, also after the lengths, and lengths `[B]`; the first row is the longest."""
    lengths = torch.tensor(LENGTHS)
    x = torch.randint(
        min(EOS + 1, vocabulary_size - 1), vocabulary_size, (len(lengths), LENGTHS[0])
    )
    x[torch.arange(len(lengths)), lengths - 1] = EOS
    return x, lengths


class _DecoderChecks:
    """Oracles of a decoder, each a method that yields lines of what is wrong."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.x, self.lengths = _random_rows(decoder.vocabulary_size)
        self.z = torch.randn(len(self.x), decoder.latent_size, dtype=torch.float64)
        classes = torch.arange(len(self.x)) % max(decoder.num_classes, 1)
        self.y = classes if decoder.num_classes else None

    def problems(self) -> Iterator[str]:
        """All that is wrong."""
        for check in (
            self.causality,
            self.rows,
            self.padding,
            self.sum,
            self.steps,
            self.selection,
            self.expanded_batch,
            self.weights_of_classes,
        ):
            try:
                yield from check()
            except Exception as error:  # of the network
                name = check.__name__.replace("_", " ")
                yield f"{name}: {type(error).__name__}: {error}"

    def likelihood(self, z: Tensor, y: Tensor | None, lengths: Tensor) -> SequenceLikelihood:
        return SequenceLikelihood(self.decoder, z, y, lengths)

    def hidden(self, x: Tensor, rows: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Hidden states of some rows, one after the other without padding, `[S, H]`."""
        lengths = self.lengths[rows] if lengths is None else lengths
        y = None if self.y is None else self.y[rows]
        example = torch.arange(len(rows))
        batch = ExpandedBatch(self.decoder, x[rows], lengths, example, self.z[rows], y)
        packing = batch.packing
        place = packing.order[packing.row] * x.shape[1] + packing.time[packing.position]
        return batch.hidden[place.argsort()]

    def causality(self) -> Iterator[str]:
        """Hidden states up to position t do not depend on x_t."""
        first, length = torch.tensor([0]), LENGTHS[0]
        before = self.hidden(self.x, first)
        for time in range(length):
            other = self.x.clone()
            other[0, time] = EOS if other[0, time] != EOS else self.decoder.vocabulary_size - 1
            after = self.hidden(other, first)
            if found := _differ(after[: time + 1], before[: time + 1]):
                yield f"causality: hidden states change with a symbol after them, {time}: {found}"
                return

    def rows(self) -> Iterator[str]:
        """A row of a batch is the same with others of its length beside it, and alone."""
        lengths = torch.full_like(self.lengths, LENGTHS[0])
        every = torch.arange(len(self.x))
        states = self.hidden(self.x, every, lengths).split(LENGTHS[0])
        for row, together in enumerate(states):
            alone = self.hidden(self.x, torch.tensor([row]), lengths[:1])
            if found := _differ(together, alone):
                yield f"rows: a row of a batch is another one alone: {found}"
                return

    def padding(self) -> Iterator[str]:
        """A row of a batch is the same with longer ones beside it, and alone."""
        states = self.hidden(self.x, torch.arange(len(self.x))).split(list(LENGTHS))
        for row, together in enumerate(states):
            alone = self.hidden(self.x, torch.tensor([row]))
            if found := _differ(together, alone):
                yield f"padding: a row beside longer ones is another one alone: {found}"
                return

    def sum(self) -> Iterator[str]:
        """p(x | y, z) sums to 1 over all sequences up to a length, finished or cut there."""
        symbols = [one for one in range(self.decoder.vocabulary_size) if one not in (PAD, BOS)]
        longest = next(n for n in (3, 2, 1) if n == 1 or len(symbols) ** n <= MOST_SEQUENCES)
        cut = itertools.product([one for one in symbols if one != EOS], repeat=longest)
        ended = (
            (*start, EOS)
            for n in range(longest)
            for start in itertools.product([one for one in symbols if one != EOS], repeat=n)
        )
        sequences = [*cut, *ended]
        lengths = torch.tensor(list(map(len, sequences)))
        x = torch.tensor([[*one, *[PAD] * (longest - len(one))] for one in sequences])
        y = None if self.y is None else self.y[-1:].expand(len(x))
        total = self.likelihood(self.z[-1].expand(len(x), -1), y, lengths).log_prob(x).exp().sum()
        if _differ(total, torch.ones_like(total)):
            yield f"sum: wanted 1 over all sequences of {longest} symbols, got {float(total):.6g}"

    def step_by_step(self, select: Tensor | None = None) -> Tensor:
        """log p of each symbol, `[B, T]`; some rows may be selected midway."""
        state = self.decoder.start(self.z, self.y)
        log_probs: list[Tensor] = []
        before, x = torch.full_like(self.x[:, 0], BOS), self.x
        for time in range(x.shape[1]):
            if time == 2 and select is not None:
                state, before, x = state.select(select), before[select], x[select]
                log_probs = [one[select] for one in log_probs]
            logits, state = self.decoder.step(before, state)
            before = x[:, time]
            log_probs.append(logits.log_softmax(-1).gather(1, before.unsqueeze(1)).squeeze(1))
        return torch.stack(log_probs, 1)

    def steps(self) -> Iterator[str]:
        """Step by step log p is that of the whole sequence."""
        lengths = torch.full_like(self.lengths, self.x.shape[1])
        whole = self.likelihood(self.z, self.y, lengths).symbol_log_prob(self.x)
        if found := _differ(self.step_by_step(), whole):
            yield f"steps: log p(x_t) step by step and of the whole row: {found}"

    def selection(self) -> Iterator[str]:
        """Rows of a state can be chosen, repeated and put in another order."""
        index = torch.tensor([2, 0, 0])
        whole = self.step_by_step()
        if found := _differ(self.step_by_step(index), whole[index]):
            yield f"selection: steps of rows of a state that were selected, and of all: {found}"

    def expanded_batch(self) -> Iterator[str]:
        """Particles and labels in leading dims are a loop over particles, labels and rows."""
        num_classes = max(self.decoder.num_classes, 1)
        z = torch.randn(2, 1, len(self.x), self.decoder.latent_size, dtype=torch.float64)
        y = None if self.y is None else torch.arange(num_classes).unsqueeze(1)
        z = z.expand(-1, num_classes, -1, -1)
        together = self.likelihood(z, y, self.lengths).log_prob(self.x)
        alone = torch.zeros_like(together)
        for s, k, b in itertools.product(*map(range, together.shape)):
            length = self.lengths[b : b + 1]
            label = None if y is None else y[k]
            one = self.likelihood(z[s, k, b : b + 1], label, length)
            alone[s, k, b] = one.log_prob(self.x[b : b + 1, : int(length)])[0]
        if found := _differ(together, alone):
            yield f"expanded batch: log p(x) of [particle, label, row] and in a loop: {found}"

    def weights_of_classes(self) -> Iterator[str]:
        """A one-hot vector of classes is the class."""
        if self.y is None:
            return
        one_hot = torch.nn.functional.one_hot(self.y, self.decoder.num_classes).double()
        both = [self.likelihood(self.z, y, self.lengths) for y in (one_hot, self.y)]
        if found := _differ(both[0].log_prob(self.x), both[1].log_prob(self.x)):
            yield f"weights of classes: log p(x) with y one-hot, and as a class: {found}"


def _encoder_problems(encoder: Encoder, vocabulary_size: int) -> Iterator[str]:
    x, lengths = _random_rows(vocabulary_size)
    features = encoder(x, lengths)
    if features.shape != (len(x), encoder.num_features):
        wanted = [len(x), encoder.num_features]
        yield f"shape: wanted [B, num_features] = {wanted}, got {list(features.shape)}"
        return
    same_length = encoder(x, torch.full_like(lengths, x.shape[1]))
    for row in range(len(x)):
        alone = encoder(x[row : row + 1], torch.tensor([x.shape[1]]))
        if found := _differ(same_length[row : row + 1], alone):
            yield f"rows: a row of a batch is another one alone: {found}"
            break
    for row, length in enumerate(LENGTHS):
        if found := _differ(
            features[row], encoder(x[row : row + 1, :length], lengths[row][None])[0]
        ):
            yield f"padding: a row beside longer ones is another one alone: {found}"
            break
    empty = encoder(x, lengths.where(lengths > 1, 0))
    if not bool(empty.isfinite().all()):
        yield "empty row: wanted finite features of a row of length 0, got others"
