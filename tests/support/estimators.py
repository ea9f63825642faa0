"""Problems for estimators, and comparisons with the exact sum over y."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqssvae.data.batches import Batch
from seqssvae.estimators import FusedEnum
from seqssvae.estimators.terms import Estimator
from seqssvae.model.ssvae import SSVAE
from tests.support.factories import (
    FACTORISATIONS,
    brute_force_loss,
    count_batch,
    make_batch,
    make_model,
)
from tests.support.fixtures import FixNoise
from tests.support.gradients import assert_same_gradients, gradients

PARTIAL = torch.tensor([[0, 0, 1], [1, 1, 1], [1, 0, 1], [1, 1, 0]]).bool()
SOFT = torch.tensor([[0.0, 0.0, 0.0], [-1.0, 0.0, -0.3], [0.0, 0.0, -2.0], [0.0, 0.0, 0.0]])
VOTES = torch.tensor([[2, 0], [-1, 1], [-1, -1], [0, 2]])
NUM_PARTICLES, LEAST_REPEATS, MOST_REPEATS = 800, 30, 200
MIXED = [2, -1, 0, -1]
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "unlabelled": ({}, {"labels": [-1, -1, -1, -1]}),
    "labelled": ({}, {"labels": [0, 2, 1, 1]}),
    "mixed": ({}, {"labels": MIXED}),
    "as many rows as labels": ({}, {"labels": [-1, -1, -1]}),
    "as many layers as labels": ({"decoder_layers": 3}, {"labels": [-1, 1, -1]}),
    "one row": ({"num_classes": 2, "decoder_layers": 2}, {"labels": [-1]}),
    "one label": ({"num_classes": 1}, {"labels": [-1, -1, 0]}),
    "one symbol": ({}, {"labels": MIXED, "max_length": 1}),
    "gru": ({"cell": "gru", "decoder_layers": 2}, {"labels": MIXED}),
    "nothing fed": ({"feed_y": False, "feed_z": False, "class_bias": False}, {"labels": MIXED}),
    "tied, shared": ({"tied_embeddings": True, "shared_encoder": True}, {"labels": MIXED}),
    "independent": ({"factorisation": "independent"}, {"labels": MIXED}),
    "y given z": ({"factorisation": "y-given-z"}, {"labels": MIXED}),
    "no z": ({"latent_size": 0}, {"labels": MIXED}),
    "y given no z": ({"factorisation": "y-given-z", "latent_size": 0}, {"labels": MIXED}),
    "weights": (
        {},
        {
            "labels": MIXED,
            "w": torch.tensor([0.5, 2.0, 0.0, 0.3]),
            "alpha": torch.tensor([3.0, 5.0, 0.2, 1.0]),
        },
    ),
    "partial": (
        {},
        {
            "labels": [2, -1, -1, -1],
            "candidates": PARTIAL,
        },
    ),
    **{
        f"soft labels and votes, {factorisation}, a teacher": (
            {"voters": "AB", "factorisation": factorisation},
            {
                "labels": [2, -1, -1, -1],
                "candidates": PARTIAL,
                "evidence": SOFT,
                "votes": VOTES,
                "w": torch.tensor([0.5, 2.0, 0.7, 0.3]),
                "alpha": torch.tensor([3.0, 5.0, 0.2, 1.0]),
            },
        )
        for factorisation in FACTORISATIONS
    },
    "votes, all labelled": ({"voters": "AB"}, {"labels": [2, 0, 1, 2], "votes": VOTES}),
    "votes, shared": (
        {"voters": "AB", "shared_encoder": True, "latent_size": 0},
        {"labels": MIXED, "votes": VOTES},
    ),
    "a teacher": ({}, {"labels": MIXED, "w": torch.tensor([0.5, 2.0, 0.0, 0.3])}),
    "counted": ({"decoder_ngrams": 3}, {"labels": MIXED}),
    "n-grams off": ({"decoder_ngrams": 0}, {"labels": MIXED}),
    **{
        f"two columns, {factorisation}": (
            {"num_classes": 6, "label_columns": {"a": 2, "b": 3}, "factorisation": factorisation},
            {"labels": [4, -1, 0, -1]},
        )
        for factorisation in FACTORISATIONS
    },
    "three columns, one of them of one label": (
        {"num_classes": 4, "label_columns": {"a": 2, "b": 1, "c": 2}, "feed_y": False},
        {"labels": [-1, 3, 2]},
    ),
    "columns, prior": (
        {
            "num_classes": 6,
            "label_columns": {"a": 3, "b": 2},
            "prior": torch.outer(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.6, 0.4])).ravel(),
        },
        {"labels": [-1, 5, -1]},
    ),
    "columns, partial": (
        {"num_classes": 6, "label_columns": {"a": 2, "b": 3}},
        {  # a known, b known, no product of sets, nothing known
            "labels": [-1, -1, -1, -1],
            "candidates": torch.tensor(
                [[0, 0, 0, 1, 1, 1], [0, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 1], [1] * 6]
            ).bool(),
        },
    ),
    **{
        f"z of classes, {factorisation}": (
            {"z_prior": "by-class", "factorisation": factorisation},
            {"labels": MIXED, "w": torch.tensor([0.5, 2.0, 0.0, 0.3])},
        )
        for factorisation in FACTORISATIONS
    },
    "z of classes, columns, partial": (
        {
            "num_classes": 6,
            "label_columns": {"a": 2, "b": 3},
            "z_prior": "by-class",
            "factorisation": "independent",
        },
        {
            "labels": [-1, 4],
            "candidates": torch.tensor([[0, 1, 0, 0, 1, 1], [0, 0, 0, 0, 1, 0]]).bool(),
        },
    ),
    "prior": ({"prior": torch.tensor([0.5, 0.3, 0.2])}, {"labels": MIXED}),
    **{
        f"vectors, {factorisation}": (
            {"vector_size": 3, "factorisation": factorisation},
            {"labels": MIXED, "vector_size": 3},
        )
        for factorisation in FACTORISATIONS
    },
    "vectors, a teacher": (
        {"vector_size": 3, "num_classes": 6, "label_columns": {"a": 2, "b": 3}},
        {"labels": MIXED, "vector_size": 3},
    ),
    "vectors, shared": (
        {"vector_size": 2, "shared_encoder": True, "ngram_buckets": 0},
        {"labels": MIXED, "vector_size": 2},
    ),
}

NO_CLOSED_KL = "z of classes, y-given-z"
CASES_AND_KLS = [
    (case, kl)
    for case in CASES
    for kl in ("analytic", "sampled")
    if (case, kl) != (NO_CLOSED_KL, "analytic")
]


def value_and_gradient(elbo: Estimator, model: SSVAE, batch: Batch) -> Tensor:
    """The loss and the gradient of every parameter, one vector."""
    loss = elbo.differentiable_loss(model.model, model.guide, batch, 0.7)
    return torch.cat(
        [part.detach().reshape(-1) for part in (loss, *gradients(loss, model.parameters()))]
    )


def variance(elbo: Estimator, model: SSVAE, batch: Batch) -> float:
    """Of the gradient, all parameters together; the first draws are for baselines to learn from."""
    draws = [value_and_gradient(elbo, model, batch)[1:] for _ in range(60)]
    return float(torch.stack(draws[20:]).var(0).sum())


def problem(factorisation: str, **changes: Any) -> tuple[SSVAE, Batch]:
    """Five classes, a teacher; rows of all kinds of labels, with votes, that are counted."""
    prior = torch.tensor([0.3, 0.2, 0.2, 0.2, 0.1])
    model = make_model(5, factorisation=factorisation, prior=prior, voters="AB", **changes)
    candidates = torch.ones(4, 5, dtype=torch.bool)
    candidates[1] = torch.tensor([0, 0, 0, 1, 0])
    candidates[2] = torch.tensor([1, 0, 1, 1, 0])
    evidence = torch.zeros(4, 5)
    evidence[2] = torch.tensor([-0.5, 0, 0, -1, 0])
    batch = make_batch(
        [-1, 3, -1, -1],
        max_length=3,
        candidates=candidates,
        w=torch.tensor([1.0, 0.5, 2.0, 1.0]),
        evidence=evidence,
        votes=torch.tensor([[4, -1], [3, 0], [-1, -1], [-1, 2]]),
    )
    model.teacher_weight = 0.6
    return model, count_batch(model, batch)[0]


def case_of(name: str) -> tuple[SSVAE, Batch, Callable[[int], None]]:
    """A model and a batch of `CASES`, and the `before_row` of its oracle."""
    changes, rows = CASES[name]
    model, batch = make_model(**changes), make_batch(**rows)
    if name.endswith("a teacher"):
        model.teacher_weight = 0.6
    if name == "counted":
        return model, *count_batch(model, batch)
    return model, batch, lambda row: None


def assert_equals_the_loop(
    elbo: Estimator,
    model: SSVAE,
    batch: Batch,
    noise: Tensor,
    fix_noise: FixNoise,
    kl: str,
    before_row: Callable[[int], None] = lambda row: None,
) -> None:
    """Value and gradient are those of plain loops over examples and labels."""
    fix_noise(noise)
    want = brute_force_loss(model, batch, noise, kl=kl, kl_weight=0.7, before_row=before_row)
    before_row(-1)
    got = elbo.differentiable_loss(model.model, model.guide, batch, 0.7)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)
    assert_same_gradients(got, want, model.parameters())
    torch.testing.assert_close(
        torch.tensor(elbo.loss(model.model, model.guide, batch, 0.7)), want, rtol=0, atol=1e-10
    )


def assert_mean_is_the_exact_sum(
    cls: type[Estimator], options: dict[str, Any], factorisation: str, fix_noise: FixNoise
) -> None:
    """Value and projections of the gradient are within 4 standard errors of the exact ones.

    Draws are added until a bias of 1 % of the value, or of the gradient along itself, would show.
    If all rows have a label, nothing is sampled.
    """
    assert_labelled_rows_are_exact(cls(num_particles=2, **options), fix_noise)
    model, batch = problem(factorisation)
    fix_noise(torch.randn(1, 2))
    exact = value_and_gradient(FusedEnum(), model, batch)
    directions = torch.randn(6, len(exact))
    directions[:, 0] = 0
    directions[0] = exact
    directions[0, 0] = 0
    directions /= directions.norm(dim=1, keepdim=True)
    directions = torch.cat([torch.eye(1, len(exact)), directions])
    want = directions @ exact

    elbo = cls(num_particles=NUM_PARTICLES, **options)
    draws: list[Tensor] = []
    error = torch.full_like(want, torch.inf)
    while len(draws) < LEAST_REPEATS or (4 * error[:2] >= 0.01 * want[:2].abs()).any():
        assert len(draws) < MOST_REPEATS
        draws += [directions @ value_and_gradient(elbo, model, batch) for _ in range(10)]
        error = torch.stack(draws).std(0) / len(draws) ** 0.5
    assert ((torch.stack(draws).mean(0) - want).abs() <= 4 * error + 1e-12).all()


def assert_labelled_rows_are_exact(elbo: Estimator, fix_noise: FixNoise) -> None:
    model = make_model(5)
    batch = make_batch([3, 0, 4])
    fix_noise(torch.randn(1, 2))
    got = value_and_gradient(elbo, model, batch)
    want = value_and_gradient(FusedEnum(), model, batch)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)
