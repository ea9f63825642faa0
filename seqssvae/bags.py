"""A linear map of hashed n-grams: logits of q(y | x) from the model's own symbol ids."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqssvae.ngrams import hash_ngrams

__all__ = ["NGramLogits"]


@final
class NGramLogits(nn.Module):
    """Logits W^T f(x) + b, where f(x) is the TF-IDF of the n-grams of x, of Euclidean norm 1.

    It is what `regression.fit_student` fits, for batches and with gradients: an n-gram that x has
    c times weighs (1 + log c) idf. W and b begin as 0, idf as 1. The gradient of W is dense.

    Args:
        order: The longest n-grams; see `ngrams.hash_ngrams` for these three.
        num_buckets: F.
        num_positions: Places from either end that are features too.
        num_classes: K.
    """

    idf: Tensor

    def __init__(
        self, *, order: int, num_buckets: int, num_positions: int, num_classes: int
    ) -> None:
        super().__init__()
        self.order, self.num_buckets, self.num_positions = order, num_buckets, num_positions
        self.weight = nn.Parameter(torch.zeros(num_buckets, num_classes))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.register_buffer("idf", torch.ones(num_buckets))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits of q(y | x), `[B, K]`; those of a row without symbols are b.

        Args:
            x: Symbol ids, `[B, T]`, anything after `lengths`.
            lengths: Symbols of each row, EOS included, `[B]`, from 0 to T.
        """
        buckets, rows, values = self.features(x, lengths)
        ends = torch.bincount(rows, minlength=len(x)).cumsum(0)
        begins = torch.cat((ends.new_zeros(1), ends))
        sums = functional.embedding_bag(
            buckets,
            self.weight,
            begins,
            mode="sum",
            per_sample_weights=values,
            include_last_offset=True,
        )
        return sums + self.bias

    def features(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """f(x), sparse: different buckets, their rows (ascending) and their values, all `[M]`."""
        buckets, rows = hash_ngrams(
            x,
            lengths,
            order=self.order,
            num_buckets=self.num_buckets,
            num_positions=self.num_positions,
        )
        keys, counts = torch.unique(rows * self.num_buckets + buckets, return_counts=True)
        rows, buckets = keys // self.num_buckets, keys % self.num_buckets
        values = (1 + counts.to(self.idf).log()) * self.idf[buckets]
        squares = values.new_zeros(len(x)).index_add(0, rows, values.square())
        return buckets, rows, values * squares.clamp(min=1e-24).rsqrt()[rows]

    @torch.no_grad()
    def assign(self, weight: Tensor, bias: Tensor, idf: Tensor) -> None:
        """Take over W `[F, K]`, b `[K]` and idf `[F]`, for instance of `fit_student`.

        Raises:
            ValueError: a shape is not this module's.
        """
        for name, value in (("weight", weight), ("bias", bias), ("idf", idf)):
            own: Tensor = getattr(self, name)
            if value.shape != own.shape:
                raise ValueError(
                    f"{name}: wanted shape {tuple(own.shape)}, got {tuple(value.shape)}"
                )
            own.copy_(value)
