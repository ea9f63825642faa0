"""A linear map of hashed n-grams: logits of q(y | x) from the model's own symbol ids."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqssvae.nn.ngrams import SYMBOL_NGRAMS, WORD_NGRAMS, NGrams, hash_ngrams
from seqssvae.shapes import label_index, of_classes

MAX_WEIGHTS = 2**21  # of a block: with more than 32 classes there are fewer buckets
MAX_SYMBOLS = 2**16  # hashed at once, of a batch of more than one row


@final
class NGramLogits(nn.Module):
    """Logits W^T f(x) + b, where f(x) is the TF-IDF of the n-grams of x.

    The teacher's `fit_student` fits the same function to the counts of `count_ngrams`; here it is
    computed for batches and with gradients: an n-gram that occurs c times in x has the weight
    (1 + log c) idf, and each block of features is divided by its Euclidean norm. W and b are
    initialised with 0, idf with 1. The gradient of W is dense.

    Args:
        num_buckets: Number of buckets of each block; F of all blocks together.
        num_classes: K.
        blocks: Kinds of n-grams.
        vocabulary_size: V, needed for blocks of words: `words` `[V, 3]` is initialised with 0,
            which means that no row contains a word.
        label_sizes: As of `LabelTable`; W is `[F, U]`.
    """

    index: Tensor | None
    idf: Tensor
    words: Tensor | None

    def __init__(
        self,
        *,
        num_buckets: int,
        num_classes: int,
        blocks: Sequence[NGrams] = SYMBOL_NGRAMS,
        vocabulary_size: int = 0,
        label_sizes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        num_labels = sum(label_sizes) or num_classes
        self.register_buffer("index", label_index(label_sizes), persistent=False)
        self.num_buckets, self.blocks = num_buckets, tuple(blocks)
        num_features = num_buckets * len(self.blocks)
        self.weight = nn.Parameter(torch.zeros(num_features, num_labels))
        self.bias = nn.Parameter(torch.zeros(num_labels))
        self.register_buffer("idf", torch.ones(num_features))
        reads_words = any(block.of_words for block in self.blocks)
        words = torch.zeros(vocabulary_size, 3, dtype=torch.int64) if reads_words else None
        self.register_buffer("words", words)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits of q(y | x), `[B, K]`; those of a row without symbols are b.

        Args:
            x: Symbol ids, `[B, T]`, anything after `lengths`.
            lengths: Symbols of each row, EOS included, `[B]`, from 0 to T.
        """
        buckets, rows, values = self.features(x, lengths)
        ends = torch.bincount(rows, minlength=len(x)).cumsum(0)
        offsets = torch.cat((ends.new_zeros(1), ends))
        sums = functional.embedding_bag(
            buckets,
            self.weight,
            offsets,
            mode="sum",
            per_sample_weights=values,
            include_last_offset=True,
        )
        return self.of_classes(sums + self.bias)

    def of_classes(self, value: Tensor) -> Tensor:
        """Sums `[..., K]` of what the labels of a class have, `[..., U]`; of weights, a class's."""
        return of_classes(value, self.index)

    def features(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """f(x), sparse: distinct buckets, their rows (ascending) and their values, all `[M]`."""
        size = max(1, MAX_SYMBOLS // max(1, x.shape[1]))
        if len(x) > size:
            starts = range(0, len(x), size)
            parts = [self.features(x[i : i + size], lengths[i : i + size]) for i in starts]
            parts = [(b, i + r, v) for i, (b, r, v) in zip(starts, parts, strict=True)]
            buckets, rows, values = map(torch.cat, zip(*parts, strict=True))
            return buckets, rows, values
        num_features, num_blocks = len(self.idf), len(self.blocks)
        hashed = hash_ngrams(
            x, lengths, self.blocks, num_buckets=self.num_buckets, words=self.words
        )
        keys = [
            rows * num_features + number * self.num_buckets + buckets
            for number, (buckets, rows) in enumerate(hashed)
        ]
        distinct, counts = torch.unique(torch.cat(keys), return_counts=True)
        rows, buckets = distinct // num_features, distinct % num_features
        values = (1 + counts.to(self.idf).log()) * self.idf[buckets]
        block = distinct // self.num_buckets  # row times num_blocks plus number of the block
        squares = values.new_zeros(x.shape[0] * num_blocks).scatter_add(0, block, values.square())
        return buckets, rows, values * squares.clamp(min=1e-24).rsqrt()[block]

    def assign(self, weight: Tensor, bias: Tensor, idf: Tensor) -> None:
        """Copy W `[F, U]`, b `[U]` and idf `[F]` into this module, for instance of `fit_student`.

        Raises:
            RuntimeError: a shape differs from this module's.
        """
        self.load_state_dict({"weight": weight, "bias": bias, "idf": idf}, strict=False)


def build_ngrams(
    num_buckets: int,
    num_classes: int,
    *,
    vocabulary_size: int = 0,
    label_sizes: Sequence[int] = (),
) -> NGramLogits | None:
    """The n-gram part of q(y | x), or None without buckets or classes.

    Args:
        num_buckets: Number of buckets of each block; lowered if there are many classes.
        num_classes: K.
        vocabulary_size: V; 0 for no n-grams of words.
        label_sizes: As of `LabelTable`.
    """
    if not (num_buckets and num_classes):
        return None
    return NGramLogits(
        num_buckets=min(num_buckets, max(1, MAX_WEIGHTS // (sum(label_sizes) or num_classes))),
        num_classes=num_classes,
        blocks=(*SYMBOL_NGRAMS, *WORD_NGRAMS) if vocabulary_size else SYMBOL_NGRAMS,
        vocabulary_size=vocabulary_size,
        label_sizes=label_sizes,
    )
