"""Logistic regression on TF-IDF features with soft targets: q(y | x) as a linear map of n-grams."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, vstack

from seqssvae.teacher.evidence import fit_evidence

__all__ = [
    "fit_regression",
    "fit_student",
    "inverse_frequencies",
    "regression_loss",
    "sharpen",
    "weigh_counts",
]

Doubles = NDArray[np.float64]

TARGET_POWER = 2.0  # sharpens soft targets
UNLABELLED_WEIGHT = 0.5  # of a soft target beside a label's 1
HISTORY = 5  # pairs of vectors that L-BFGS keeps


def inverse_frequencies(counts: csr_matrix) -> Doubles:
    """log((1 + n) / (1 + df)) + 1 for each column, `[F]`, where df rows of n hold it."""
    frequencies = np.bincount(counts.indices, minlength=counts.shape[1])
    idf: Doubles = np.log((1 + counts.shape[0]) / (1 + frequencies)) + 1
    return idf


def weigh_counts(counts: csr_matrix, idf: Doubles, num_blocks: int = 1) -> csr_matrix:
    """(1 + log count) idf, each row divided by its Euclidean norm; an empty row stays 0.

    Args:
        counts: `[n, F]`, without explicit zeros.
        idf: `[F]`.
        num_blocks: Of columns, all of one size, in each of which a row gets the norm 1.

    Returns:
        Float32 `[n, F]`.
    """
    values = (1 + np.log(counts.data)) * idf[counts.indices].astype(np.float32)
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    part = row * num_blocks + counts.indices // max(counts.shape[1] // num_blocks, 1)
    norms = np.sqrt(np.bincount(part, values.astype(np.float64) ** 2))
    weighted = (values / np.maximum(norms[part], 1e-12)).astype(np.float32)
    return csr_matrix((weighted, counts.indices, counts.indptr), shape=counts.shape)


def regression_loss(
    parameters: Doubles,
    features: csr_matrix,
    features_transposed: csr_matrix,
    targets: Doubles,
    row_weights: Doubles,
    strength: float,
) -> tuple[float, Doubles]:
    """sum_i w_i H(target_i, softmax(x_i W + b)) + strength / 2 |W|^2, and its gradient.

    Args:
        parameters: W and below it b, `[(F + 1) K]`.
        features: `[n, F]`.
        features_transposed: `[F, n]`.
        targets: Distributions, `[n, K]`.
        row_weights: w, `[n]`.
        strength: Of the penalty.

    Returns:
        The loss in nats and the gradient, `[(F + 1) K]`.
    """
    table = parameters.reshape(-1, targets.shape[1])
    weight, bias = table[:-1], table[-1]
    logits = features @ weight + bias
    logits -= logits.max(1, keepdims=True)
    exponentials = np.exp(logits)
    sums = exponentials.sum(1, keepdims=True)
    cross_entropy = -(row_weights * (targets * (logits - np.log(sums))).sum(1)).sum()
    residuals = (exponentials / sums - targets) * row_weights[:, None]
    gradient = np.concatenate(
        (features_transposed @ residuals + strength * weight, residuals.sum(0)[None])
    )
    return float(cross_entropy + strength / 2 * (weight**2).sum()), gradient.ravel()


def fit_regression(
    features: csr_matrix | Doubles,
    targets: Doubles,
    row_weights: Doubles,
    *,
    strength: float,
    num_steps: int,
) -> tuple[Doubles, Doubles]:
    """The minimum of `regression_loss`, by L-BFGS.

    Args:
        features: `[n, F]`, sparse or dense.
        targets: Distributions, `[n, K]`.
        row_weights: `[n]`.
        strength: Of the penalty on W; b has none.
        num_steps: Of L-BFGS, at most.

    Returns:
        W `[F, K]` and b `[K]`.
    """
    num_features, num_classes = features.shape[1], targets.shape[1]
    # Columns of zeros only have weights 0 at the minimum.
    if isinstance(features, csr_matrix):
        used = np.flatnonzero(np.bincount(features.indices, minlength=num_features))
        active = features[:, used].astype(np.float64)
        transposed = active.T.tocsr()
    else:
        used, active, transposed = np.arange(num_features), features, features.T
    result = minimize(
        regression_loss,
        np.zeros((len(used) + 1) * num_classes),
        args=(active, transposed, targets, row_weights, strength),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": num_steps, "maxcor": HISTORY},
    )
    table = result.x.reshape(-1, num_classes)
    weight = np.zeros((num_features, num_classes))
    weight[used] = table[:-1]
    return weight, table[-1]


def sharpen(probabilities: Doubles, power: float = TARGET_POWER) -> Doubles:
    """p^power, normalised; `[n, K]`."""
    powers = probabilities**power
    result: Doubles = powers / powers.sum(1, keepdims=True)
    return result


def fit_student(
    features_labelled: csr_matrix,
    y: NDArray[np.int64],
    features_unlabelled: csr_matrix,
    soft: Doubles,
    *,
    num_classes: int,
    num_blocks: int = 1,
    strength: float = 0.1,
    num_steps: int = 30,
) -> tuple[Doubles, Doubles, Doubles]:
    """A linear q(y | x) that learns from labels and from a teacher's posteriors.

    It is the mean of two: logistic regression, and naive Bayes of the blocks (`evidence`), which
    reads all rows and errs elsewhere.

    Args:
        features_labelled: Counts of n-grams, `[n, F]`, as of `ngrams.count_blocks`.
        y: Their classes, `[n]`.
        features_unlabelled: Counts, `[m, F]`; m may be 0.
        soft: The teacher's p(y | x) of those, `[m, K]`.
        num_classes: K.
        num_blocks: As in `weigh_counts`.
        strength: Of the penalty on the weights.
        num_steps: Of L-BFGS; few steps regularise too.

    Returns:
        W `[F, K]`, b `[K]` and idf `[F]`; logits are
        `weigh_counts(counts, idf, num_blocks) @ W + b`.

    Raises:
        ValueError: numbers of rows, columns or classes that do not fit together.
    """
    if features_labelled.shape[0] != len(y) or features_unlabelled.shape[0] != len(soft):
        raise ValueError("student: wanted as many targets as rows of features")
    if soft.shape[1:] != (num_classes,) or (len(y) and not 0 <= y.min() <= y.max() < num_classes):
        raise ValueError(f"student: wanted targets of {num_classes} classes")
    if features_labelled.shape[1] != features_unlabelled.shape[1]:
        raise ValueError("student: wanted the same features of labelled and unlabelled rows")
    counts = vstack((features_labelled, features_unlabelled), format="csr")
    idf = inverse_frequencies(counts)
    features = weigh_counts(counts, idf, num_blocks)
    one_hot, soft = np.eye(num_classes)[y], soft.astype(np.float64)
    targets = np.concatenate((one_hot, sharpen(soft)))
    row_weights = np.repeat([1.0, UNLABELLED_WEIGHT], [len(y), len(soft)])
    by_counts = fit_evidence(
        counts,
        features,
        idf,
        posteriors=np.concatenate((one_hot, soft)),
        targets=targets,
        row_weights=row_weights,
        num_blocks=num_blocks,
    )
    by_regression = fit_regression(
        features, targets, row_weights, strength=strength, num_steps=num_steps
    )
    weight, bias = ((one + other) / 2 for one, other in zip(by_counts, by_regression, strict=True))
    return weight, bias, idf
