"""A step fetches nothing from a GPU: no shape and no branch depends on numbers that are there."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from seqssvae.config import ModelConfig
from seqssvae.data.batches import Batch
from seqssvae.estimators import FusedEnum, RelaxedLabels, ScoreFunction, SumAndSample
from seqssvae.estimators.terms import Estimator
from seqssvae.model.build import build_model
from seqssvae.nn.ngram_counts import NGramCounts
from seqssvae.nn.precision import autocast
from tests.support.rows import make_rows, padded

# operations that would have to wait for a GPU, on which this runs alike
FETCHING = {
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "bincount",
    "unique_consecutive", "equal", "is_nonzero", "linalg_solve", "_linalg_check_errors",
}  # fmt: skip
ROWS = [[4, 5, 6, 3], [5, 3], [7, 8, 8, 8, 3], [4, 4, 3], [3]]


class NothingFetched(TorchDispatchMode):
    """Fails at an operation that reads numbers, and at an index by a mask."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        indices = args[1] if name in ("index", "index_put", "_index_put_impl_") else ()
        by_mask = any(i is not None and i.dtype == torch.bool for i in indices)
        assert name not in FETCHING and not by_mask, f"{name} waits for a GPU"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "estimator",
    [
        FusedEnum(),
        FusedEnum(num_particles=2, analytic_kl=False),
        SumAndSample(k=1),
        SumAndSample(k=2, num_samples=2),
        ScoreFunction(),
        ScoreFunction(baseline="running-mean"),
        ScoreFunction(baseline="leave-one-out", num_particles=2),
        RelaxedLabels(),
        RelaxedLabels(hard=True),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_waits_for_no_gpu(
    estimator: Estimator, precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With n-grams in the decoder, dropout, and rows of all kinds; twice, with a state the 2nd."""
    for module in ("recurrent", "engine.kernels", "side_by_side"):
        monkeypatch.setattr(f"seqssvae.nn.{module}.kernels_for", lambda *_: None)
    monkeypatch.setattr("seqssvae.model.softmax.kernels_for", lambda *_: None)
    monkeypatch.setattr("seqssvae.model.ssvae._check_ids", lambda *_: None)
    for module in ("model.softmax", "data.batches"):  # for tensors on a CPU
        monkeypatch.setattr(f"seqssvae.{module}.check_below", lambda *_, **__: None)
    monkeypatch.setattr("torch.nn.functional.one_hot", lambda y, n: torch.eye(n).long()[y])
    config = ModelConfig(
        embedding_size=4, encoder_size=4, decoder_size=4, latent_size=2, ngram_buckets=0
    )
    model = build_model(config, vocabulary_size=9, num_classes=3).float()
    index = NGramCounts(make_rows(ROWS), vocabulary_size=9, order=5)
    assert model.decoder.ngrams is not None
    model.decoder.ngrams.assign(index.keys, index.count(torch.rand(5, 3).float().numpy()))
    model.decoder.ngrams.tables()
    x, lengths = padded(ROWS)
    batch = Batch(
        x=x,
        lengths=lengths,
        y=torch.tensor([0, -1, 2, -1, -1]),
        candidates=torch.tensor([[1, 0, 0], [1, 1, 1], [0, 0, 1], [1, 1, 0], [1, 1, 1]]).bool(),
        w=torch.tensor([1.0, 0.5, 0.0, 1.0, 2.0]),
        counted=torch.rand(5, 3).float(),
    )
    for _ in range(2):
        with NothingFetched():  # type: ignore[no-untyped-call]
            with autocast(precision, torch.device("cpu")):
                loss = estimator.differentiable_loss(model.model, model.guide, batch)
            loss.backward()
        assert torch.isfinite(loss) and model.decoder.output.weight.grad is not None
