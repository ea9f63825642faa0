"""Semi-supervised variational autoencoders over sequences of discrete symbols."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqssvae.batches import Batch
    from seqssvae.classifier import LabelledKFold, SeqSSVAEClassifier, labelled_scorer
    from seqssvae.config import Config, InputError
    from seqssvae.fitting import fit
    from seqssvae.model import SSVAE
    from seqssvae.trained import TrainedModel, load

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
    "Batch": "batches",
    "Config": "config",
    "InputError": "config",
    "LabelledKFold": "classifier",
    "SSVAE": "model",
    "SeqSSVAEClassifier": "classifier",
    "TrainedModel": "trained",
    "fit": "fitting",
    "labelled_scorer": "classifier",
    "load": "trained",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `seqssvae --help` needs no torch."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'seqssvae' has no attribute {name!r}")
    return getattr(importlib.import_module(f"seqssvae.{_ROOMS[name]}"), name)
