"""A causal Transformer as the decoder of p(x | y, z), with cached steps.

seqssvae train --data words.jsonl --model.class transformer_decoder:build --out runs/words
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqssvae import SSVAE, Decoder, LabelTable, Packing, build_model

HEADS = 4
State = tuple[Tensor, ...]


class Block(nn.Module):
    """Self-attention and an MLP, each beside a residual connection (Radford et al. 2019)."""

    def __init__(self, size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, nn.Dropout(dropout)
        self.norm, self.mlp_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.mlp = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read `[N, T, E]` after keys and values `[N, t, 2 E]`; the result, and all of these."""
        query, *new = self.qkv(self.norm(x)).chunk(3, -1)
        seen = torch.cat(new, -1) if past is None else torch.cat([past, torch.cat(new, -1)], 1)
        parts = (query, *seen.chunk(2, -1))
        q, k, v = [p.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for p in parts]
        read = functional.scaled_dot_product_attention(q, k, v, is_causal=past is None)
        x = x + self.dropout(self.out(read.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.mlp(self.mlp_norm(x))), seen


class TransformerDecoder(Decoder):
    """Reads the symbols so far, with z and y added to each of them; `sizes` are of `Decoder`."""

    def __init__(self, size: int, num_layers: int, config: Any, **sizes: Any) -> None:
        super().__init__(latent_size=config.latent_size, **sizes)
        self.embedding = nn.Embedding(self.vocabulary_size, size)
        self.of_z = nn.Linear(self.latent_size, size) if self.latent_size else None
        self.of_y = LabelTable(self.num_classes or 1, size, self.label_sizes)
        blocks = (Block(size, HEADS, config.dropout) for _ in range(num_layers))
        self.blocks, self.norm = nn.ModuleList(blocks), nn.LayerNorm(size)
        self.add_output(size, class_bias=config.class_bias, ngram_order=config.decoder_ngrams)

    def condition(self, z: Tensor, y: Tensor | None) -> Tensor:
        """What z and y add to every symbol, `[N, E]`."""
        y = z.new_zeros(len(z), dtype=torch.int64) if y is None else y
        added: Tensor = self.of_y(y)
        return added if self.of_z is None else added + self.of_z(z)

    def positions(self, first: int, num: int, like: Tensor) -> Tensor:
        """Sines and cosines of positions, `[T, E]` (Vaswani et al. 2017)."""
        size = like.shape[-1]
        rate = 10_000 ** (-torch.arange(0, size, 2, device=like.device) / size)
        angle = torch.arange(first, first + num, device=like.device).unsqueeze(1) * rate
        return torch.cat([angle.sin(), angle.cos()], 1)[:, :size].to(like)

    def hidden_states(self, x: Tensor, z: Tensor, y: Tensor | None, packing: Packing) -> Tensor:
        """All positions of a batch at once."""
        rows = packing.pad(self.embedding(x)) + self.condition(z, y).unsqueeze(1)  # [N, T, E]
        rows = rows + self.positions(0, rows.shape[1], rows)
        for block in self.blocks:
            rows, _ = block(rows)
        return packing.unpad(self.norm(rows))

    def first_state(self, z: Tensor, y: Tensor | None) -> State:
        """What z and y add, and no keys and values yet."""
        added = self.condition(z, y)
        return (added, *[added.new_zeros(len(z), 0, 2 * added.shape[1]) for _ in self.blocks])

    def next_hidden(self, symbols: Tensor, state: State) -> tuple[Tensor, State]:
        """One more symbol, which reads the keys and values of those before it."""
        added, *pasts = state
        row = (self.embedding(symbols) + added).unsqueeze(1)  # [N, 1, E]
        row = row + self.positions(pasts[0].shape[1], 1, row)
        for number, block in enumerate(self.blocks):
            row, pasts[number] = block(row, pasts[number])
        return self.norm(row).squeeze(1), (added, *pasts)


def build(config: Any, **sizes: Any) -> SSVAE:
    """The networks of the settings, but for the decoder."""
    decoder = TransformerDecoder(
        config.decoder_size,
        config.decoder_layers,
        config,
        vocabulary_size=sizes["vocabulary_size"],
        num_classes=sizes["num_classes"],
        label_sizes=tuple((sizes["label_columns"] or {}).values()),
    )
    return build_model(config, decoder=decoder, **sizes)
