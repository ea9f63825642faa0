"""A convolutional encoder of q(y | x) and q(z | x, y) (Kim 2014).

seqssvae train --data words.jsonl --model.class convolutional_encoder:build --out runs/words
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqssvae import SSVAE, Encoder, build_model

PAD = 0


class ConvolutionalEncoder(Encoder):
    """The largest response of each filter to some symbols in a row.

    Args:
        vocabulary_size: V.
        size: Size of an embedding, and number of filters of each width.
        widths: How many symbols a filter reads.
        dropout: Dropout probability of the features.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        size: int,
        widths: Sequence[int] = (2, 3, 5),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, size, padding_idx=PAD)
        self.filters = nn.ModuleList(nn.Conv1d(size, size, width) for width in widths)
        self.widest, self.dropout = max(widths), nn.Dropout(dropout)
        self.num_features = size * len(widths)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Features `[B, F]`."""
        time = torch.arange(x.shape[1], device=x.device)
        lengths = lengths.to(x.device).unsqueeze(1)
        x = x.masked_fill(time >= lengths, PAD)
        x = functional.pad(x, (0, self.widest - 1), value=PAD)  # a short row has windows too
        embedded = self.embedding(x).transpose(1, 2)  # [B, E, T + widest - 1]
        is_outside = (time >= lengths.clamp(min=1)).unsqueeze(1)  # where a window starts
        pooled = [
            one(embedded)[..., : len(time)].masked_fill(is_outside, -torch.inf).amax(-1)
            for one in self.filters
        ]
        features: Tensor = self.dropout(torch.cat(pooled, 1).relu())
        return features


def build(config: Any, **sizes: Any) -> SSVAE:
    """The networks of the settings, but for the encoders."""
    both = [
        ConvolutionalEncoder(
            vocabulary_size=sizes["vocabulary_size"],
            size=config.encoder_size,
            dropout=config.dropout,
        )
        for _ in range(2)
    ]
    return build_model(config, encoders=(both[0], both[1]), **sizes)
