"""What q(y | x, v) and q(z | x, y, v) read of a vector v beside a sequence, as of another network.

A vector that is missing, NaN, adds nothing to logits and features.
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from seqssvae.nn.ngram_logits import NGramLogits
from seqssvae.shapes import label_index, of_classes, wide

TINY = 1e-6  # share of the greatest number, below which a deviation is rounding


@final
class VectorReader(nn.Module):
    """Standardises vectors; features of them for both encoders, and a linear term of logits of y.

    Args:
        size: D.
        num_features: Features for each encoder.
        num_classes: K; 0 for no logits and for features of z alone.
        has_logits: Whether there is a linear term; it is initialised with 0.
        dropout: Dropout probability of the features.
        label_sizes: As of `LabelTable`; logits are sums over a class's labels then.
    """

    index: Tensor | None
    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        size: int,
        *,
        num_features: int,
        num_classes: int,
        has_logits: bool,
        dropout: float = 0.0,
        label_sizes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.register_buffer("index", label_index(label_sizes), persistent=False)
        self.size, self.num_features = size, num_features
        self.register_buffer("loc", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.y = nn.Linear(size, num_features) if num_classes else None
        self.z = nn.Linear(size, num_features)
        self.linear = nn.Linear(size, sum(label_sizes) or num_classes) if has_logits else None
        for parameter in () if self.linear is None else self.linear.parameters():
            nn.init.zeros_(parameter)
        self.dropout = nn.Dropout(dropout)

    def standardise(self, v: Tensor) -> Tensor:
        """(v - loc) / scale, and 0 where a vector is missing, `[B, D]`.

        Raises:
            ValueError: vectors of another size.
        """
        if v.shape[-1] != self.size:
            raise ValueError(f"v: wanted vectors of {self.size} numbers, got {v.shape[-1]}")
        return ((v.to(self.loc) - self.loc) / self.scale).nan_to_num(0.0)

    def features(self, v: Tensor, standard: Tensor, layer: nn.Linear) -> Tensor:
        """Features of one encoder, `[B, F]`, 0 where a vector is missing.

        Args:
            v: Vectors, `[B, D]`.
            standard: Of `standardise`.
            layer: `y` or `z`.
        """
        hidden = torch.tanh(layer(standard))
        features: Tensor = self.dropout(hidden * are_known(v))
        return features

    def join(self, for_y: Tensor, for_z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Features of both encoders, `[B, F]` each, with those of the vectors beside them."""
        standard = self.standardise(v)
        of_z = torch.cat([for_z, self.features(v, standard, self.z).to(for_z.dtype)], -1)
        if self.y is None:
            return of_z, of_z
        return torch.cat([for_y, self.features(v, standard, self.y).to(for_y.dtype)], -1), of_z

    def logits(self, v: Tensor) -> Tensor:
        """The linear term of the logits of y, `[B, K]`, 0 where a vector is missing."""
        assert self.linear is not None
        logits: Tensor = self.linear(self.standardise(v)) * are_known(v)
        return of_classes(logits, self.index)

    @torch.no_grad()
    def standardise_by(self, v: Tensor) -> None:
        """Set location and scale to mean and standard deviation of vectors, `[n, D]`."""
        known = wide(v[are_known(v).squeeze(-1)])
        if len(known):
            scale = known.std(0, correction=0)
            is_constant = scale <= TINY * known.abs().amax(0)
            self.loc.copy_(known.mean(0))
            self.scale.copy_(scale.masked_fill(is_constant, 1.0))

    @torch.no_grad()
    def assign(self, weight: Tensor, bias: Tensor) -> None:
        """Set the linear term to v W + b, for W `[D, U]` and b `[U]`, as of `NGramLogits`."""
        assert self.linear is not None
        weight, bias = wide(weight), wide(bias)
        self.linear.weight.copy_((wide(self.scale).unsqueeze(1) * weight).t())
        self.linear.bias.copy_(bias + wide(self.loc) @ weight)


def are_known(v: Tensor) -> Tensor:
    """Which vectors are there, bool `[B, 1]`."""
    return ~v.isnan().any(-1, keepdim=True)


def linear_logits(
    ngrams: NGramLogits,
    vectors: VectorReader | None,
    rows: tuple[Tensor, Tensor],
    v: Tensor | None,
) -> Tensor:
    """The linear terms of the logits of q(y | x, v), `[B, K]`.

    Args:
        ngrams: That of n-grams.
        vectors: That of vectors, if any.
        rows: Symbol ids of whole rows, `[B, T]`, and lengths, `[B]`.
        v: Vectors, `[B, D]`.
    """
    logits: Tensor = ngrams(*rows)
    return logits if vectors is None or v is None else logits + vectors.logits(v)
