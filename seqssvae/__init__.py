"""Semi-supervised variational autoencoders over sequences of discrete symbols."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqssvae.config import Config
    from seqssvae.data.batches import Batch
    from seqssvae.errors import InputError
    from seqssvae.export.sklearn import LabelledKFold, SeqSSVAEClassifier, labelled_scorer
    from seqssvae.model.ssvae import SSVAE
    from seqssvae.trained import TrainedModel, load
    from seqssvae.training.fit import fit

__all__ = [
    "SSVAE",
    "Batch",
    "Config",
    "InputError",
    "LabelledKFold",
    "SeqSSVAEClassifier",
    "TrainedModel",
    "fit",
    "labelled_scorer",
    "load",
]

_ROOMS = {
    "Batch": "data.batches",
    "Config": "config",
    "InputError": "errors",
    "LabelledKFold": "export.sklearn",
    "SSVAE": "model.ssvae",
    "SeqSSVAEClassifier": "export.sklearn",
    "TrainedModel": "trained",
    "fit": "training.fit",
    "labelled_scorer": "export.sklearn",
    "load": "trained",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `seqssvae --help` needs no torch."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'seqssvae' has no attribute {name!r}")
    return getattr(importlib.import_module(f"seqssvae.{_ROOMS[name]}"), name)
