"""From a config to untrained networks."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from seqssvae.config import Config, ModelConfig
from seqssvae.data.columns import voters_of
from seqssvae.data.labels import Labels
from seqssvae.data.prepare import Prepared
from seqssvae.data.rows import has_words
from seqssvae.errors import InputError
from seqssvae.extensions import call
from seqssvae.model.prior import NormalPrior
from seqssvae.model.ssvae import SSVAE
from seqssvae.model.votes import Voters
from seqssvae.nn.decoder import Decoder
from seqssvae.nn.encoders import Encoder, SequenceEncoder
from seqssvae.nn.ngram_lm import MAX_NGRAMS
from seqssvae.nn.ngram_logits import build_ngrams
from seqssvae.nn.recurrent_decoder import RecurrentDecoder
from seqssvae.nn.vectors import VectorReader
from seqssvae.nn.words import tabulate_words
from seqssvae.overrides import as_config

INSPECTED_ROWS = 1000  # checked for words
STANDARDISED_ROWS = 50_000  # by whose vectors others are standardised


def build_model(
    config: ModelConfig | Config | Mapping[str, Any],
    *,
    vocabulary_size: int,
    num_classes: int,
    prior: Tensor | None = None,
    label_columns: Mapping[str, int] | None = None,
    voters: Sequence[str] = (),
    encoders: tuple[Encoder, Encoder] | None = None,
    decoder: Decoder | None = None,
) -> SSVAE:
    """The networks that a config describes, whose `class` is not called.

    Args:
        config: The settings, or a mapping as of `override`: `{"model.latent_size": 4}`.
        vocabulary_size: V.
        num_classes: K, 0 for the plain VAE.
        prior: p(y) `[K]`, uniform when None.
        label_columns: Number of labels of each of several columns of labels, whose product is K.
        voters: Names of voters that vote for labels.
        encoders: Bodies of your own for q(y | x) and q(z | x, y), or one twice; else as described.
        decoder: A decoder of your own; else as described.

    Example:
        >>> settings = {"model.latent_size": 2}
        >>> seqssvae.build_model(settings, vocabulary_size=9, num_classes=3).latent_size
        2
    """
    config = config if isinstance(config, ModelConfig) else as_config(config).model
    columns = label_columns or {}
    sizes = tuple(columns.values())
    if encoders is None:
        num_encoders = 1 if config.shared_encoder or not num_classes else 2
        bodies = [_build_encoder(config, vocabulary_size) for _ in range(num_encoders)]
        encoders = (bodies[0], bodies[-1])
    decoder = decoder or _build_decoder(config, vocabulary_size, num_classes, sizes)
    of_classes = num_classes if config.z_prior == "by-class" else 0
    words, buckets = vocabulary_size * config.ngram_words, config.ngram_buckets
    ngrams = build_ngrams(buckets, num_classes, vocabulary_size=words, label_sizes=sizes)
    return SSVAE(
        encoders=encoders,
        decoder=decoder,
        factorisation=config.factorisation,
        prior=prior,
        z_prior=NormalPrior(config.latent_size, of_classes, sizes),
        ngrams=ngrams,
        label_columns=tuple(columns),
        vectors=_build_vectors(config, num_classes, sizes, has_logits=ngrams is not None),
        votes=Voters(voters, num_classes) if voters and num_classes else None,
    )


def build_networks(config: ModelConfig, *, where: str = "", **sizes: Any) -> SSVAE:
    """The networks by `model.class`, if there is one, or else by `build_model`.

    Args:
        config: The settings.
        where: Prefix of errors, for instance the run.
        sizes: The arguments of `build_model` from `vocabulary_size` to `voters`.

    Raises:
        InputError: the function cannot be imported, or makes something else.
    """
    if config.class_ is None:
        return build_model(config, **sizes)
    what = f"{where}model.class"
    model = call(config.class_, what, config, **sizes)
    if not isinstance(model, SSVAE):
        raise InputError(f"{what}: wanted a function that returns an SSVAE, got {model!r:.100}")
    wanted = (sizes["vocabulary_size"], sizes["num_classes"])
    if (got := (model.vocabulary_size, model.num_classes)) != wanted:
        names = "{} symbols and {} classes".format
        raise InputError(f"{what}: wanted {names(*wanted)}, got {names(*got)}")
    return model


def _build_vectors(
    config: ModelConfig, num_classes: int, sizes: Sequence[int], *, has_logits: bool
) -> VectorReader | None:
    if not config.vector_size:
        return None
    return VectorReader(
        config.vector_size,
        num_features=config.encoder_size,
        num_classes=num_classes,
        has_logits=has_logits,
        label_sizes=sizes,
        dropout=config.dropout,
    )


def _build_decoder(
    config: ModelConfig, vocabulary_size: int, num_classes: int, sizes: Sequence[int]
) -> Decoder:
    return RecurrentDecoder(
        vocabulary_size=vocabulary_size,
        num_classes=num_classes,
        latent_size=config.latent_size,
        embedding_size=config.embedding_size,
        hidden_size=config.decoder_size,
        num_layers=config.decoder_layers,
        cell=config.cell,
        dropout=config.dropout,
        word_dropout=config.word_dropout,
        feed_y=config.feed_y,
        feed_z=config.feed_z,
        class_bias=config.class_bias,
        tied_embeddings=config.tied_embeddings,
        ngram_order=config.decoder_ngrams,
        softmax_memory=config.softmax_memory,
        label_sizes=sizes,
    )


def _build_encoder(config: ModelConfig, vocabulary_size: int) -> SequenceEncoder:
    return SequenceEncoder(
        vocabulary_size=vocabulary_size,
        embedding_size=config.embedding_size,
        hidden_size=config.encoder_size,
        num_layers=config.encoder_layers,
        cell=config.cell,
        bidirectional=config.bidirectional,
        pooling=config.pooling,
        dropout=config.dropout,
        word_dropout=config.encoder_word_dropout,
    )


def meta_weights(config: Config, vocabulary_size: int, labels: Labels) -> dict[str, Tensor]:
    """A model's state dict on the meta device: names, shapes and dtypes without the memory.

    N-gram tables have their greatest size.
    """
    prior = torch.ones(len(labels.names))  # a real tensor: its values are read
    with torch.device("meta"), _SkipInit():
        model = build_model(
            config.model,
            vocabulary_size=vocabulary_size,
            num_classes=len(labels.names),
            prior=prior,
            label_columns=labels.sizes,
            voters=voters_of(config.data.vote_columns),
        )
    if (ngrams := model.decoder.ngrams) is not None:
        num_ngrams = ngrams.num_tables * MAX_NGRAMS
        ngrams.keys = ngrams.keys.new_empty(num_ngrams)
        ngrams.counts = ngrams.counts.new_empty(num_ngrams, ngrams.num_classes)
    return dict(model.state_dict())


class _SkipInit(TorchFunctionMode):
    """Skips `nn.init`: on the meta device torch would import its compiler for it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def build(config: Config, prepared: Prepared) -> SSVAE:
    """A new, untrained model for prepared rows, on the CPU.

    Args:
        config: The settings; the first weights depend on the seed alone.
        prepared: The rows: their vocabulary, classes and, for p(y), labels are read.

    Raises:
        InputError: `model.prior` has no positive number for each class, or as of `build_networks`.
    """
    torch.manual_seed(config.training.seed)
    model = build_networks(
        config.model,
        vocabulary_size=len(prepared.vocabulary),
        num_classes=len(prepared.labels.names),
        prior=_prior(config.model.prior, prepared),
        label_columns=prepared.labels.sizes,
        voters=voters_of(config.data.vote_columns),
    )
    if model.ngrams is not None and model.ngrams.words is not None:
        rows = prepared.unlabelled or prepared.labelled
        first = range(min(len(rows), INSPECTED_ROWS))
        if has_words(prepared.vocabulary.decode(rows.row(row).tolist()) for row in first):
            model.ngrams.words.copy_(torch.from_numpy(tabulate_words(prepared.vocabulary)))
    if model.vectors is not None:
        parts = [prepared.labelled, prepared.unlabelled]
        some = [part.slice(0, STANDARDISED_ROWS).vectors() for part in parts]
        known = torch.from_numpy(np.concatenate([part for part in some if part is not None]))
        model.vectors.standardise_by(known)
    return model


def _prior(setting: str | tuple[float, ...], prepared: Prepared) -> Tensor | None:
    """p(y) up to a factor, `[K]`, None for a uniform one; of several columns the product."""
    labels, dtype = prepared.labels, torch.get_default_dtype()
    sizes = tuple(labels.sizes.values()) or (len(labels.names),)
    if isinstance(setting, tuple):
        if len(setting) != sum(sizes) or not all(0 < share < math.inf for share in setting):
            raise InputError(
                f"model.prior: wanted {sum(sizes)} numbers above 0, one for each class, "
                f"got {list(setting)}"
            )
        shares = np.split(np.array(setting), np.cumsum(sizes)[:-1])
    elif setting != "uniform" and labels.names:
        rows = prepared.labelled
        known = [labels.of_column(c, rows.y, rows.candidates)[0] for c in labels.columns]
        shares = [  # no class is impossible
            np.bincount(y[y >= 0], minlength=size) + 1.0
            for y, size in zip(known or [rows.y], sizes, strict=True)
        ]
    else:
        return None
    return torch.tensor(of_combinations(shares), dtype=dtype)


def of_combinations(shares: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Shares of the combinations of independent columns' labels, `[K]`, from those of each."""
    combined: NDArray[np.float64] = functools.reduce(np.multiply.outer, shares).ravel()
    return combined
