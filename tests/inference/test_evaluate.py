import json
import math
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import seqssvae.inference.evaluate
from seqssvae.data.encoded import EncodedRows
from seqssvae.errors import InputError
from seqssvae.inference.evaluate import Limits, evaluate
from seqssvae.inference.predict import classify_table
from seqssvae.model.ssvae import SSVAE
from tests.support.factories import (
    FACTORISATIONS,
    make_batch,
    make_model,
    prior_of,
    stepwise_log_prob,
)
from tests.support.rows import make_rows, random_rows

PRIOR = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)


def _rows(labels: list[int], candidates: dict[int, tuple[int, ...]] | None = None) -> EncodedRows:
    """Random rows of unsorted lengths."""
    batch = make_batch(labels)
    sequences = [x[:n].tolist() for x, n in zip(batch.x, batch.lengths.tolist(), strict=True)]
    return make_rows(sequences, labels, candidates)


def _row_figures(model: SSVAE, symbols: list[int], noise: Tensor) -> dict[str, Any]:
    """One row's figures by loops over samples `[S, Z]` and labels."""
    num_classes = max(model.num_classes, 1)
    x, lengths = torch.tensor([symbols]), torch.tensor([len(symbols)])
    features = model.encode(x, lengths)
    bound, expected = torch.zeros(()), torch.zeros(())
    weights, by_label = torch.zeros(len(noise), num_classes), torch.zeros(len(noise), num_classes)
    q, kl = torch.zeros(len(noise), num_classes), torch.zeros(len(noise), num_classes)
    mean = torch.zeros(model.latent_size)
    for s, epsilon in enumerate(noise):
        for y in range(num_classes):
            label = torch.tensor([y]) if model.num_classes else None
            loc, scale = (part[0] for part in model.z_posterior(features, label))
            z = loc + scale * epsilon
            q[s, y], log_prior = 1.0, torch.zeros(())
            if model.num_classes:
                q[s, y] = model.y_logits(features, z.unsqueeze(0))[0, y].exp()
                log_prior = PRIOR[y].log()
            kl[s, y] = kl_divergence(Normal(loc, scale), prior_of(model, y)).sum()
            ratio = (prior_of(model, y).log_prob(z) - Normal(loc, scale).log_prob(z)).sum()
            if model.y_reads_z and model.z_prior.reads_y:  # q(y | x, z) weights log p(z | y)
                kl[s, y] = -ratio
            by_label[s, y] = stepwise_log_prob(model, symbols, z, None if label is None else y)
            weights[s, y] = log_prior + by_label[s, y] + ratio
            bound += q[s, y] * (by_label[s, y] + log_prior - q[s, y].log() - kl[s, y])
            expected += q[s, y] * by_label[s, y]
            mean = mean + q[s, y] * loc / len(noise)
    return {
        "elbo": bound / len(noise),
        "likelihood": expected / len(noise),
        "nll": -(weights.exp().sum() / len(noise)).log(),
        "kl": (q * kl).sum(1).mean(),
        "by_label": by_label.mean(0),
        "q": q.mean(0),
        "mean": mean,
    }


@pytest.mark.parametrize(
    ("num_classes", "changes"),
    [(3, {"factorisation": name}) for name in FACTORISATIONS]
    + [(3, {"factorisation": name, "z_prior": "by-class"}) for name in FACTORISATIONS]
    + [(0, {"z_prior": "by-class"}), (0, {}), (0, {"latent_size": 0}), (3, {"latent_size": 0})],
)
@pytest.mark.parametrize("likelihood_rows", [None, 4])
@torch.no_grad()
def test_every_metric_equals_a_loop(
    num_classes: int, changes: dict[str, Any], likelihood_rows: int | None
) -> None:
    """Over rows (labelled, not, and partially), labels and samples; no padding, no neighbours."""
    prior = PRIOR if num_classes else None
    model = make_model(num_classes, prior=prior, **changes)
    labels = [0, -1, 2, 1, 2, -1, -1] if num_classes else [-1] * 7
    partial = {5: (0, 2), 6: (1,)} if num_classes else {}
    rows = _rows(labels, partial)
    num_samples = 3 if model.latent_size else 1
    by_row = [
        _row_figures(
            model,
            rows.row(row).tolist(),
            torch.from_numpy(
                np.random.default_rng([4, row]).standard_normal((num_samples, model.latent_size))
            ),
        )
        for row in range(7)
    ]
    metrics = evaluate(
        model, rows, batch_size=3, num_samples=3, seed=4, likelihood_rows=likelihood_rows
    )
    drawn = np.random.default_rng(4).permutation(7)[:likelihood_rows].tolist()
    for name in ("elbo", "likelihood", "nll", "kl"):
        _check_mean(metrics, name, [float(by_row[row][name]) for row in drawn])
    nll = np.array([float(by_row[row]["nll"]) for row in drawn])
    lengths = np.array([len(rows.row(row)) for row in drawn])
    ratio = nll.sum() / lengths.sum()
    assert metrics["nats_per_symbol"] == pytest.approx(ratio, abs=1e-12)
    error = (nll - ratio * lengths).std(ddof=1) / lengths.mean() / math.sqrt(len(drawn))
    assert metrics["nats_per_symbol_se"] == pytest.approx(error, abs=1e-8)
    means = torch.stack([by_row[row]["mean"] for row in drawn])
    assert metrics["active_units"] == int((means.numpy().var(0) > 0.01).sum())
    assert metrics["num_rows"] == 7 and metrics["num_likelihood_rows"] == len(drawn)
    if not num_classes:
        assert metrics["num_labelled"] == 0 and metrics["accuracy"] is None
        return
    known = {0: 0, 2: 2, 3: 1, 4: 2, 6: 1}  # a set of one label is a label
    assert metrics["num_labelled"] == 5
    hits = [int(by_row[row]["q"].argmax()) == y for row, y in known.items()]
    assert metrics["accuracy"] == pytest.approx(sum(hits) / 5)
    gaps = []
    for row, y in ((row, known[row]) for row in drawn if row in known):
        loss = -by_row[row]["by_label"]
        gaps.append(sum(float(loss[k] - loss[y]) for k in range(3) if k != y) / 2)
    _check_mean(metrics, "y_gap", gaps)


def _check_mean(metrics: dict[str, Any], name: str, values: list[float]) -> None:
    """A mean and its standard error."""
    assert len(values) > 1 and metrics[name] == pytest.approx(np.mean(values), abs=1e-11), name
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert metrics[f"{name}_se"] == pytest.approx(error, abs=1e-11), name


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_batches_do_not_matter(factorisation: str) -> None:
    """Nor how the decoder's rows and the aggregate's densities are cut."""
    model = make_model(3, factorisation=factorisation)
    rows = _rows([0, 1, 2, -1] * 5)
    want = evaluate(model, rows, num_samples=2)
    assert want == evaluate(model, rows, num_samples=2)
    for batch_size in (1, 7):
        metrics = evaluate(model, rows, num_samples=2, batch_size=batch_size)
        assert metrics == pytest.approx(want, abs=1e-11)
    limits = Limits(decoder_rows=5, aggregated_terms=150, window_rows=7)
    assert evaluate(model, rows, num_samples=2, limits=limits) == pytest.approx(want, abs=1e-11)
    other = evaluate(model, rows, num_samples=2, seed=1)
    assert other["elbo"] != want["elbo"]


@pytest.mark.parametrize(("mode", "runs"), [("q", 0), ("posterior", 3), ("mix", 3)])
def test_the_decoder_runs_on_as_few_rows_as_needed(
    monkeypatch: pytest.MonkeyPatch, mode: str, runs: int
) -> None:
    """Once for each label where rows are classified, for each sample too where likelihoods are."""
    model, rows, num_runs = make_model(3), _rows([0, 1, 2, -1] * 5), [0]
    real = model.log_likelihood

    def log_likelihood(*arguments: Any) -> Tensor:
        result = real(*arguments)
        num_runs[0] += result.numel()
        return result

    monkeypatch.setattr(model, "log_likelihood", log_likelihood)
    some = evaluate(model, rows, num_samples=2, likelihood_rows=4, mode=mode)
    assert num_runs[0] == 15 * runs + 4 * 2 * 3
    everything = evaluate(model, rows, num_samples=2, mode=mode)
    assert num_runs[0] == 15 * runs * 2 + (4 + 20) * 2 * 3
    for name in ("num_rows", "num_labelled", "accuracy", "log_loss", "calibration_error"):
        assert some[name] == everything[name]
    assert some["nll"] != everything["nll"]
    assert evaluate(model, rows, num_samples=2, likelihood_rows=20, mode=mode) == everything


def test_large_batches_give_what_small_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that grow with the rows, until they hold too many symbols."""
    model, rows = make_model(3), _rows([0, 1, 2, -1] * 10)
    want = evaluate(model, rows, num_samples=1, batch_size=1)
    real, sizes = seqssvae.inference.evaluate._measure, []

    def measure(*arguments: Any) -> Any:
        sizes.append(arguments[1].x.shape)
        return real(*arguments)

    monkeypatch.setattr(seqssvae.inference.evaluate, "_measure", measure)
    limits = Limits(least_batch=2, least_batches=4, batch_symbols=30)
    assert evaluate(model, rows, num_samples=1, limits=limits) == pytest.approx(want, abs=1e-11)
    assert [size for size, _ in sizes[:2]] == [10, 10]
    assert all(size * length <= 30 for size, length in sizes[:-1])


@pytest.mark.parametrize(
    ("num_rows", "num_runs", "wanted"),
    [(1, 1, 128), (5_000, 1, 156), (10**6, 1, 1024), (10**6, 8, 512), (10**6, 64, 128)],
)
def test_batch_sizes(num_rows: int, num_runs: int, wanted: int) -> None:
    assert Limits().batch_size(num_rows, num_runs) == wanted


@torch.no_grad()
def test_the_nll_is_the_integral_over_z_and_the_bound_lies_below() -> None:
    """By quadrature over a latent of one dim."""
    model = make_model(3, latent_size=1, prior=PRIOR)
    assert model.head_z.log_scale is not None
    model.head_z.log_scale.weight.zero_()
    model.head_z.log_scale.bias.fill_(0.5)  # wider than p(z): no weight is large
    rows = _rows([-1, -1, -1])
    grid = torch.linspace(-8, 8, 401)
    log_step = math.log(16 / 400)
    want = 0.0
    for row in range(3):
        x = torch.from_numpy(rows.row(row).astype(np.int64)).unsqueeze(0)
        lengths = torch.tensor([x.shape[1]])
        z = grid.reshape(-1, 1, 1, 1).expand(401, 3, 1, 1)
        y = torch.arange(3).reshape(3, 1)
        log_joint = model.log_likelihood(x, lengths, z, y) + PRIOR.log().reshape(3, 1)
        log_joint = log_joint + Normal(0.0, 1.0).log_prob(grid).reshape(-1, 1, 1)
        want -= float(log_joint.flatten().logsumexp(0)) + log_step
    metrics = evaluate(model, rows, num_samples=3000)
    assert metrics["nll"] == pytest.approx(want / 3, abs=0.02)
    assert -metrics["elbo"] > metrics["nll"] + 0.1


def test_no_mode_no_gradient_and_no_random_state_is_left_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dropout and word dropout are off, also for a model in training; an error undoes it too."""
    model = make_model(3, dropout=0.5, word_dropout=0.5, encoder_word_dropout=0.5)
    rows = _rows([0, 1, 2, -1])
    want = evaluate(model, rows, num_samples=2)
    model.train()
    model.encoder_y.eval()
    modes = [part.training for part in model.modules()]
    state = torch.get_rng_state()
    assert evaluate(model, rows, num_samples=2) == want
    assert [part.training for part in model.modules()] == modes
    assert torch.equal(state, torch.get_rng_state())

    def fail(*_: Any) -> None:
        raise KeyError

    monkeypatch.setattr(seqssvae.inference.evaluate, "_measure", fail)
    with pytest.raises(KeyError):
        evaluate(model, rows)
    assert [part.training for part in model.modules()] == modes


def test_a_dim_whose_mean_never_moves_is_not_active() -> None:
    model = make_model(3, latent_size=3)
    rows = _rows([-1] * 12)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("encoder_z", "head_z")):
                parameter.mul_(4)
        assert evaluate(model, rows, num_samples=1)["active_units"] == 3
        assert model.head_z.loc is not None
        model.head_z.loc.weight[1] = 0.0
    assert evaluate(model, rows, num_samples=1)["active_units"] == 2


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
@torch.no_grad()
def test_the_information_of_a_model_equals_a_loop(factorisation: str) -> None:
    """q(z | x) is a mixture over labels where z depends on y."""
    model = make_model(3, factorisation=factorisation)
    rows = _rows([0, 1, -1, -1, 2])
    densities, draws = [], []
    for row in range(5):
        x = torch.from_numpy(rows.row(row).astype(np.int64)).unsqueeze(0)
        features = model.encode(x, torch.tensor([x.shape[1]]))
        if factorisation == "z-given-y":
            weights = model.y_logits(features)[0].exp()
            parts = [model.z_posterior(features, torch.tensor([y])) for y in range(3)]
        else:
            weights, parts = torch.ones(1), [model.z_posterior(features)]
        normals = [Normal(loc[0], scale[0]) for loc, scale in parts]
        densities.append((weights, normals))
        stream = np.random.default_rng([0, row, 1])
        component = int(torch.searchsorted(weights.cumsum(0), stream.random()))
        noise = torch.from_numpy(stream.standard_normal(2))
        draws.append(normals[component].loc + normals[component].scale * noise)
    total = 0.0
    for row, z in enumerate(draws):
        values = [
            sum(w * normal.log_prob(z).sum().exp() for w, normal in zip(*pair, strict=True))
            for pair in densities
        ]
        total += math.log(values[row] / (sum(values) / 5))
    metrics = evaluate(model, rows)["mutual_information"]
    assert metrics == pytest.approx(total / 5, abs=1e-10)


def test_information_is_estimated_from_a_subset_of_the_rows() -> None:
    limits = Limits(aggregated_rows=3)
    model = make_model(2)
    rows = _rows([0, 1] * 10)
    metrics = evaluate(model, rows, num_samples=1, limits=limits)
    assert metrics["mutual_information"] <= math.log(3) + 1e-9
    again = evaluate(model, rows, num_samples=1, batch_size=1, limits=limits)
    assert metrics == pytest.approx(again, abs=1e-11)


def test_no_metrics_of_rows_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a batch are gone when the next one but one is measured."""
    real = seqssvae.inference.evaluate._measure
    kept: list[list[weakref.ref[Any]]] = []

    def measure(*arguments: Any) -> Any:
        assert all(column() is None for columns in kept[:-1] for column in columns)
        metrics = real(*arguments)
        kept.append([weakref.ref(column) for column in metrics.values()])
        return metrics

    monkeypatch.setattr(seqssvae.inference.evaluate, "_measure", measure)
    evaluate(make_model(2), _rows([0, 1, -1] * 4), num_samples=1, batch_size=2)
    assert len(kept) == 6


@pytest.mark.parametrize(("num_classes", "label"), [(0, -1), (1, 0), (3, -1)])
def test_metrics_that_need_labels_or_classes_are_none_without(num_classes: int, label: int) -> None:
    metrics = evaluate(make_model(num_classes), _rows([label] * 3), num_samples=2)
    assert metrics["num_labelled"] == 3 * (label + 1)
    assert metrics["y_gap"] is None
    for name in ("accuracy", "macro_f1", "calibration_error"):
        assert (metrics[name] is None) == (label < 0), name
    assert json.loads(json.dumps(metrics)) == metrics


def test_one_row_alone_and_float32() -> None:
    rows = _rows([1])
    model = make_model(3)
    want = evaluate(model, rows, num_samples=4)
    metrics = evaluate(model.float(), rows, num_samples=4)
    assert metrics.pop("mode") == want.pop("mode") == "q"
    errors = {name: want.pop(name) for name in list(want) if name.endswith("_se")}
    assert len(errors) == 6 and errors == {name: metrics.pop(name) for name in errors}
    assert set(errors.values()) == {None}
    assert metrics == pytest.approx(want, rel=1e-4, abs=1e-4)
    assert metrics["active_units"] == 0


def test_without_likelihoods_labels_are_measured_alone() -> None:
    model, rows = make_model(2), _rows([0, 1, 0, -1])
    whole, of_labels = evaluate(model, rows), evaluate(model, rows, likelihood_rows=0)
    assert of_labels["num_likelihood_rows"] == 0 and not of_labels.keys() & {"elbo", "nll", "kl"}
    assert of_labels == {name: whole[name] for name in of_labels} | {"num_likelihood_rows": 0}


def test_bad_options_are_refused() -> None:
    model, rows = make_model(2), _rows([0])
    with pytest.raises(InputError, match="wanted at least one row to evaluate, got none"):
        evaluate(model, rows.take(np.arange(0)))
    with pytest.raises(InputError, match="num_samples: wanted at least 1, got 0"):
        evaluate(model, rows, num_samples=0)
    with pytest.raises(InputError, match="likelihood_rows: wanted at least 0, got -1"):
        evaluate(model, rows, likelihood_rows=-1)
    for value in ("all", 1.5, True):
        with pytest.raises(InputError, match=f"_rows: wanted a whole number, got {value!r}"):
            evaluate(model, rows, likelihood_rows=value)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="seed: wanted at least 0, got -1"):
        evaluate(model, rows, seed=-1)


@pytest.mark.parametrize("mode", ["q", "posterior", "mix"])
def test_rows_are_classified_as_by_classify(mode: str) -> None:
    model, rows = make_model(3), random_rows([0, 1, 2] * 5, 0)
    found = evaluate(model, rows, num_samples=2, mode=mode, weights=(0.4, 1.5))
    table = classify_table(model, rows, mode=mode, weights=(0.4, 1.5))
    assert found["mode"] == mode and found["accuracy"] == (table.argmax(1) == rows.y).mean()
    assert found["log_loss"] == pytest.approx(-np.log(table[np.arange(15), rows.y]).mean())
