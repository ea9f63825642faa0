"""q(y | x) as an ONNX file, with the vocabulary and the labels."""

import contextlib
import copy
import dataclasses
import io
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqssvae.data.vocabulary import EOS, NUM_SPECIAL, PAD, UNK
from seqssvae.errors import InputError
from seqssvae.model.ssvae import SSVAE, Features
from seqssvae.nn.encoders import Encoder, SequenceEncoder
from seqssvae.nn.ngram_logits import NGramLogits
from seqssvae.nn.precision import evaluation_mode
from seqssvae.shapes import length_mask
from seqssvae.trained import TrainedModel

ONNX_NAME, ABOUT_NAME, LABELS_NAME = "encoder.onnx", "encoder.json", "labels.json"
OPSET = 17
TOLERANCE = 1e-4  # of a probability


class EncoderForExport(nn.Module):
    """q(y | x) in operations that ONNX has; under "y-given-z" at the mean of q(z | x).

    The output is that of `classify --mode q`.

    Args:
        model: A model with classes.
        max_length: Symbols of a row that recurrent layers read; n-gram features read all.
        power: To which q(y | x) is raised.
    """

    def __init__(self, model: SSVAE, max_length: int, power: float) -> None:
        super().__init__()
        self.model, self.max_length, self.power = model, max_length, power

    def forward(self, x: Tensor, lengths: Tensor, v: Tensor | None = None) -> Tensor:
        """Probabilities of the labels, `[B, K]`.

        Args:
            x: Symbol ids, int64 `[B, T]`; symbols after `lengths` are ignored.
            lengths: Lengths of the rows, EOS included, int64 `[B]`, each from 0 to T.
            v: Vectors, float32 `[B, D]`, NaN where one is missing, if the model reads any.
        """
        model, whole = self.model, (x, lengths)
        x, lengths = x[:, : self.max_length], lengths.clamp(max=self.max_length)
        for_z = _features(model.encoder_z, x, lengths)
        shared = model.encoder_y is model.encoder_z
        for_y = for_z if shared else _features(model.encoder_y, x, lengths)
        ngrams = None if model.ngrams is None else _ngram_logits(model.ngrams, *whole)
        if model.vectors is not None and v is not None:
            for_y, for_z = model.vectors.join(for_y, for_z, v)
            ngrams = None if ngrams is None else ngrams + model.vectors.logits(v)
        features = Features(for_y, for_z, ngrams)
        z = model.z_posterior(features)[0] if model.y_reads_z else None
        return (self.power * model.y_logits(features, z)).softmax(-1)


def _features(encoder: Encoder, x: Tensor, lengths: Tensor) -> Tensor:
    """`SequenceEncoder.forward` without dropout, `[B, F]`."""
    assert isinstance(encoder, SequenceEncoder)
    mask = length_mask(lengths, x.shape[1])
    x = x.masked_fill(~mask, PAD)
    lengths = lengths.clamp(min=1)
    packed = nn.utils.rnn.pack_padded_sequence(
        encoder.embedding(x), lengths, batch_first=True, enforce_sorted=False
    )
    states, _ = encoder.rnn(packed)
    states, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)  # [B, max(lengths), F]
    if encoder.pooling == "last":
        size = encoder.rnn.hidden_size
        last = (lengths - 1).view(-1, 1, 1).expand(-1, 1, size)
        ends = states[:, :, :size].gather(1, last).squeeze(1)
        return torch.cat([ends, states[:, 0, size:]], 1)
    inside = length_mask(lengths, states.shape[1]).unsqueeze(-1)
    if encoder.pooling == "mean":
        return states.masked_fill(~inside, 0.0).sum(1) / lengths.unsqueeze(1)
    return states.masked_fill(~inside, -torch.inf).amax(1)


def _ngram_logits(ngrams: NGramLogits, x: Tensor, lengths: Tensor) -> Tensor:
    """`NGramLogits.forward`, `[B, K]`, without an embedding bag."""
    buckets, rows, values = ngrams.features(x, lengths)
    weighted = ngrams.weight[buckets] * values.unsqueeze(1)
    zeros = weighted.new_zeros(x.shape[0], ngrams.weight.shape[1])
    sums = zeros.scatter_add(0, rows.unsqueeze(1).expand_as(weighted), weighted)
    return ngrams.of_classes(sums + ngrams.bias)


def export_onnx(
    trained: TrainedModel, folder: Path, *, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """Write `encoder.onnx`, the vocabulary, the labels and `encoder.json`.

    The inputs of the network are `x` `[B, T]` and `lengths` `[B]`, int64, for any B and T, and, for
    a model that reads vectors, `v` `[B, D]`, float32; its output is `probabilities` `[B, K]`.
    Before anything is written, the output is compared with the model's at several lengths.

    Args:
        trained: A model with classes.
        folder: The output folder; created if missing.
        tolerance: The largest allowed difference of a probability.

    Returns:
        The paths, and the largest difference from the model's probabilities.

    Raises:
        InputError: a model without classes, encoders of your own, a missing package, or no write
            permission.
        RuntimeError: the network differs from the model by more than `tolerance`.
    """
    if not trained.labels.names:
        raise InputError("export: wanted a model with classes, got one without labels")
    try:
        import onnx  # noqa: F401 - torch needs it
        import onnxruntime
    except ImportError as error:
        wanted = "the packages onnx and onnxruntime (pip install onnx onnxruntime)"
        raise InputError(f"export: wanted {wanted}, got no {error.name}") from error
    for encoder in (trained.model.encoder_y, trained.model.encoder_z):
        if not isinstance(encoder, SequenceEncoder):
            raise InputError(f"export: wanted recurrent encoders, got {type(encoder).__name__}")
    longest = trained.config.data.max_length
    with evaluation_mode(trained.model):
        model = copy.deepcopy(trained.model).float()
        network = EncoderForExport(model, longest, trained.weights("q")[0])
        content = _trace(network, len(trained.vocabulary), longest)
        difference = _largest_difference(trained, onnxruntime.InferenceSession(content), longest)
    if not difference < tolerance:
        raise RuntimeError(f"wanted the exported encoder to agree with the model, got {difference}")
    about = {
        "max_length": trained.config.whole_length,
        "UNK": UNK,
        "EOS": EOS,
        "first_symbol": NUM_SPECIAL,
        "vector_size": trained.config.model.vector_size,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trained.vocabulary.save(folder)
        dataclasses.replace(trained.labels, tree=None).save(folder / LABELS_NAME)
        (folder / ABOUT_NAME).write_text(json.dumps(about) + "\n", encoding="utf-8")
        (folder / ONNX_NAME).write_bytes(content)
    except OSError as error:
        raise InputError(f"{folder}: wanted to write it, got {error.strerror}") from error
    return {"out": str(folder), "onnx": str(folder / ONNX_NAME), "difference": difference}


def _trace(encoder: EncoderForExport, vocabulary_size: int, longest: int) -> bytes:
    """The ONNX file of an encoder in evaluation mode."""
    size = min(9, longest)
    lengths = torch.tensor([size, max(1, size // 2), 1])
    x = torch.randint(0, vocabulary_size, (3, size), generator=torch.Generator().manual_seed(0))
    inputs = {"x": x, "lengths": lengths, **_some_vectors(encoder.model, 3)}
    buffer = io.BytesIO()
    # The tracing exporter is deprecated, but the new one makes the length a constant. It warns of
    # unknown shapes, which are dynamic here.
    with warnings.catch_warnings(), _quiet_stderr():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            encoder,
            tuple(inputs.values()),
            buffer,  # type: ignore[arg-type] # documented to accept a file
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=["probabilities"],
            dynamic_axes={name: {0: "rows"} for name in (*inputs, "probabilities")}
            | {"x": {0: "rows", 1: "time"}},
        )
    return buffer.getvalue()


def _some_vectors(model: SSVAE, num_rows: int) -> dict[str, Tensor]:
    """Random vectors as the input `v`, the first one missing; nothing if the model reads none."""
    if model.vectors is None:
        return {}
    noise = torch.randn(num_rows, model.vectors.size, generator=torch.Generator().manual_seed(2))
    v = (model.vectors.loc + model.vectors.scale * noise).float()
    v[0] = torch.nan
    return {"v": v}


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Silence what libraries in C++ write to stderr."""
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _largest_difference(trained: TrainedModel, session: Any, longest: int) -> float:
    """Largest difference of a probability from the model, for batches of unsorted lengths."""
    generator, model, num_rows = torch.Generator().manual_seed(1), trained.model, 5
    difference = 0.0
    sizes = {min(length, longest) for length in (1, 7, 40)}
    if trained.config.whole_length > longest:
        sizes.add(longest + 1)
    for size in sorted(sizes):
        x = torch.randint(UNK, len(trained.vocabulary), (num_rows, size), generator=generator)
        lengths = torch.randint(1, size + 1, (num_rows,), generator=generator)
        lengths[num_rows // 2] = size
        vectors = _some_vectors(model, num_rows)
        read = x[:, :longest], lengths.clamp(max=longest), (x, lengths)
        features = model.encode(*read, v=vectors.get("v"))
        logits = model.y_logits(features, model.z_posterior(features)[0])
        wanted = (trained.weights("q")[0] * logits).softmax(-1).numpy()
        inputs = {"x": x, "lengths": lengths, **vectors}
        (got,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        difference = max(difference, float(np.abs(got - wanted).max()))
    return difference
