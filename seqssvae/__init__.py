"""Semi-supervised variational autoencoders over sequences of discrete symbols."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqssvae.compare.demo import demo
    from seqssvae.compare.wordlists import example_words
    from seqssvae.config import Config
    from seqssvae.data.batches import Batch, collate
    from seqssvae.errors import InputError
    from seqssvae.estimators import (
        Estimator,
        FusedEnum,
        RelaxedLabels,
        ScoreFunction,
        SumAndSample,
        TraceEnum,
    )
    from seqssvae.export.sklearn import SeqSSVAEClassifier
    from seqssvae.export.unlabelled import LabelledKFold, is_unlabelled, labelled_scorer
    from seqssvae.model.build import build_model
    from seqssvae.model.check import check_decoder, check_encoder
    from seqssvae.model.ssvae import SSVAE
    from seqssvae.nn.decoder import Decoder
    from seqssvae.nn.encoders import Encoder, LabelTable
    from seqssvae.nn.recurrent import Packing
    from seqssvae.overrides import override
    from seqssvae.storage.vectors import with_vectors
    from seqssvae.trained import TrainedModel, load
    from seqssvae.training.fit import fit

__all__ = [
    "SSVAE",
    "Batch",
    "Config",
    "Decoder",
    "Encoder",
    "Estimator",
    "FusedEnum",
    "InputError",
    "LabelTable",
    "LabelledKFold",
    "Packing",
    "RelaxedLabels",
    "ScoreFunction",
    "SeqSSVAEClassifier",
    "SumAndSample",
    "TraceEnum",
    "TrainedModel",
    "build_model",
    "check_decoder",
    "check_encoder",
    "collate",
    "demo",
    "example_words",
    "fit",
    "is_unlabelled",
    "labelled_scorer",
    "load",
    "override",
    "with_vectors",
]

_MODULES = {
    "compare.demo": ("demo",),
    "compare.wordlists": ("example_words",),
    "config": ("Config",),
    "data.batches": ("Batch", "collate"),
    "errors": ("InputError",),
    "estimators": (
        "Estimator",
        "FusedEnum",
        "RelaxedLabels",
        "ScoreFunction",
        "SumAndSample",
        "TraceEnum",
    ),
    "export.sklearn": ("SeqSSVAEClassifier",),
    "export.unlabelled": ("LabelledKFold", "is_unlabelled", "labelled_scorer"),
    "model.build": ("build_model",),
    "model.check": ("check_decoder", "check_encoder"),
    "model.ssvae": ("SSVAE",),
    "nn.decoder": ("Decoder",),
    "nn.encoders": ("Encoder", "LabelTable"),
    "nn.recurrent": ("Packing",),
    "overrides": ("override",),
    "storage.vectors": ("with_vectors",),
    "trained": ("TrainedModel", "load"),
    "training.fit": ("fit",),
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `seqssvae --help` does not import torch."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"seqssvae.{module}"), name)
    raise AttributeError(f"module 'seqssvae' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, for completion."""
    return __all__
