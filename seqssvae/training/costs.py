"""The choice of `--estimator auto`: exact enumeration of y, unless a step would be too expensive.

Floating-point operations are counted and divided by the speed of a matrix product on this machine.
A real step takes one and a half to three times as long.
"""

import logging
import math
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from seqssvae import devices
from seqssvae.config import Config, EstimatorName, ImportPath
from seqssvae.data.prepare import Prepared
from seqssvae.model.build import build
from seqssvae.model.softmax import CHUNK_ELEMENTS
from seqssvae.nn.ngram_lm import NGramLM

logger = logging.getLogger(__name__)

MAX_SECONDS = 2.0  # of an exact step
MAX_MEMORY_SHARE = 0.5  # of the available memory, for an exact step
BYTES = 4


class Cost(NamedTuple):
    """A lower bound of a training step; megabytes are those of activations and logits."""

    decoder_rows: int
    operations: float
    megabytes: float


def choose_estimator(config: Config, prepared: Prepared) -> EstimatorName | ImportPath:
    """The estimator of a config; for "auto" an exact one, if its steps are cheap enough."""
    if config.estimator.name != "auto":
        return config.estimator.name
    cost, device = estimate(config, prepared), devices.resolve(config.training.device)
    seconds = cost.operations / flops_per_second(device)
    fits = cost.megabytes < MAX_MEMORY_SHARE * available_megabytes(device)
    name: EstimatorName = "fused-enum" if fits and seconds <= MAX_SECONDS else "sum-and-sample"
    logger.debug(
        "estimator %s: an exact step has %d decoder rows, takes at least %.2g s and %.0f MB",
        name,
        cost.decoder_rows,
        seconds,
        cost.megabytes,
    )
    return name


def estimate(config: Config, prepared: Prepared) -> Cost:
    """Operations and memory of a training step that enumerates y."""
    model, training = config.model, config.training
    num_classes, vocabulary_size = max(1, len(prepared.labels.names)), len(prepared.vocabulary)
    streams = (prepared.labelled, prepared.unlabelled)
    num_symbols = sum(int(rows.lengths.sum()) for stream in streams for rows in stream.parts())
    mean_length = num_symbols / max(1, sum(map(len, streams)))
    labelled = training.labelled_batch_size * (len(prepared.labelled) > 0)
    unlabelled = training.unlabelled_batch_size * (len(prepared.unlabelled) > 0)
    decoder_rows = config.estimator.num_particles * (labelled + num_classes * unlabelled)
    loops = (1 if model.shared_encoder else 2) * (2 if model.bidirectional else 1)
    read, written = (labelled + unlabelled) * mean_length * loops, decoder_rows * mean_length
    gates = {"lstm": 4, "gru": 3}[model.cell]
    encoder, decoder = model.encoder_size, model.decoder_size
    encoding = model.encoder_layers * gates * encoder * (encoder + model.embedding_size)
    decoding = model.decoder_layers * gates * decoder**2 + decoder * vocabulary_size
    kept = read * (gates + 4) * encoder + written * model.decoder_layers * (gates + 5) * decoder
    if model.class_ is not None:
        networks = build(config, prepared)
        bodies = {networks.encoder_y, networks.encoder_z}
        read = (labelled + unlabelled) * mean_length
        encoding, units = np.sum([products_and_units(body) for body in bodies], 0).tolist()
        decoding, written_units = products_and_units(networks.decoder)
        kept = read * units + written * (written_units - vocabulary_size)
    kept += min(CHUNK_ELEMENTS, written * vocabulary_size) + 3 * vocabulary_size * decoder
    operations = 6.0 * (read * encoding + written * decoding)  # forward 2, backward 4
    return Cost(decoder_rows, operations, BYTES * kept / 1e6)


def products_and_units(network: nn.Module) -> tuple[int, int]:
    """Multiplications of a network for a symbol, and what it keeps, if each matrix is used once."""
    parts = (part for part in network.modules() if not isinstance(part, nn.Embedding | NGramLM))
    sizes = [p.shape for part in parts for p in part.parameters(recurse=False) if p.dim() > 1]
    return sum(map(math.prod, sizes)), sum(size[0] for size in sizes)


def flops_per_second(device: torch.device) -> float:
    """The speed of a matrix product of medium size on a device, measured in 0.1 s."""
    a, b = torch.randn(256, 512, device=device), torch.randn(512, 1024, device=device)
    float((a @ b)[0, 0])
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < 0.1:
        float((a @ b)[0, 0])  # a GPU computes by itself until a number is read
        count += 1
    return 2 * a.shape[0] * a.shape[1] * b.shape[1] * count / (time.perf_counter() - start)


def available_megabytes(device: torch.device) -> float:
    """Available memory of a device; 4 GB where it is unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 1e6
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    available = [line.split()[1] for line in lines if line.startswith("MemAvailable")]
    return int(available[0]) / 1e3 if available else 4e3
