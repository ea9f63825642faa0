"""Naive Bayes of blocks of features, each weighed by rows that it has not counted.

A feature f that a class has c(f, y) times, and all classes c(f) times, says for the class

    log((c(f, y) + a p(y)) / (c(f) + a)) - log p(y),        p(y) the class's share of the block,

so that a rare feature says little. A row's evidence in a block is the mean of what its features
say, weighed as in `regression.weigh_counts` but for idf; logits are a weighted sum over blocks and
a bias. A block of long n-grams knows the rows that it has counted too well, so that the weights of
blocks are fitted to each half of the rows with the counts of the other half.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

__all__ = ["fit_evidence"]

Doubles = NDArray[np.float64]

PSEUDO_COUNT = 2.0  # a
NUM_STEPS = 100  # of L-BFGS, over a weight for each block and a bias for each class
PENALTY = 0.01  # of the squares of those


def fit_evidence(
    counts: csr_matrix,
    features: csr_matrix,
    idf: Doubles,
    *,
    posteriors: Doubles,
    targets: Doubles,
    row_weights: Doubles,
    num_blocks: int,
) -> tuple[Doubles, Doubles]:
    """A linear map of weighed features whose columns are what naive Bayes learns of them.

    Args:
        counts: Of n rows, `[n, F]`.
        features: The same rows after `regression.weigh_counts`, `[n, F]`.
        idf: With which they were weighed, `[F]`.
        posteriors: p(y | x) by which the rows are counted, `[n, K]`.
        targets: What logits are fitted to, `[n, K]`.
        row_weights: Of the rows in that, `[n]`.
        num_blocks: Of columns, all of one size.

    Returns:
        W `[F, K]` and b `[K]`.
    """
    half = np.random.default_rng(0).permutation(counts.shape[0]) % 2  # rows may come by class
    sums = np.zeros((num_blocks, *posteriors.shape))
    for number in range(2):
        counted, judged = half != number, half == number
        table = _evidence(counts[counted], posteriors[counted], idf, num_blocks)
        judged_features = features[judged]
        size = len(table) // num_blocks
        for block in range(num_blocks):
            columns = slice(block * size, (block + 1) * size)
            sums[block, judged] = judged_features[:, columns] @ table[columns]
    scales, bias = _fit_scales(sums, targets, row_weights)
    table = _evidence(counts, posteriors, idf, num_blocks)
    return table * np.repeat(scales, len(table) // num_blocks)[:, None], bias


def _evidence(counts: csr_matrix, posteriors: Doubles, idf: Doubles, num_blocks: int) -> Doubles:
    """What each feature says, divided by its idf, `[F, K]`; 0 of features without counts."""
    by_class = np.asarray(counts.T @ posteriors, np.float64)  # [F, K]
    blocks = by_class.reshape(num_blocks, -1, posteriors.shape[1])
    shares = blocks.sum(1, keepdims=True) + 1  # no class is impossible
    shares /= shares.sum(2, keepdims=True)
    totals = blocks.sum(2, keepdims=True)
    says = np.log((blocks + PSEUDO_COUNT * shares) / ((totals + PSEUDO_COUNT) * shares))
    result: Doubles = says.reshape(by_class.shape) / idf[:, None]
    return result


def _fit_scales(sums: Doubles, targets: Doubles, row_weights: Doubles) -> tuple[Doubles, Doubles]:
    """Weights of the blocks, none below 0, and a bias, from the blocks' evidence `[J, n, K]`."""
    num_blocks, _, num_classes = sums.shape

    def loss(parameters: Doubles) -> tuple[float, Doubles]:
        logits = np.tensordot(parameters[:num_blocks], sums, 1) + parameters[num_blocks:]
        logits -= logits.max(1, keepdims=True)
        exponentials = np.exp(logits)
        totals = exponentials.sum(1, keepdims=True)
        cross_entropy = -(row_weights * (targets * (logits - np.log(totals))).sum(1)).sum()
        residuals = (exponentials / totals - targets) * row_weights[:, None]
        gradient = np.concatenate((np.tensordot(sums, residuals, 2), residuals.sum(0)))
        penalty = (parameters**2).sum() / 2  # halves that agree on everything leave them finite
        return float(cross_entropy + PENALTY * penalty), gradient + PENALTY * parameters

    found = minimize(
        loss,
        np.concatenate((np.ones(num_blocks), np.zeros(num_classes))),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * num_blocks + [(None, None)] * num_classes,
        options={"maxiter": NUM_STEPS},
    )
    return found.x[:num_blocks], found.x[num_blocks:]
