"""The student: a linear q(y | x) on TF-IDF of hashed n-grams, fitted to labels and soft labels.

It is the mean of a logistic regression and of a naive Bayes classifier, which make different
errors. In the naive Bayes classifier, an n-gram f that occurs c(f, y) times in rows of a class and
c(f) times in all rows has the score

    log((c(f, y) + a p(y)) / (c(f) + a)) - log p(y),      p(y) the share of the class in the block,

so that a rare n-gram has a score near 0. A block of n-grams contributes the mean of their scores,
weighted as TF-IDF without idf; logits are a weighted sum over blocks and a bias. Counts of long
n-grams predict the rows that they were taken from too well; therefore the weights of the blocks are
fitted to each half of the rows with the counts of the other half.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfTransformer

from seqssvae.teacher.logistic import fit_logistic, soft_cross_entropy

Float64 = NDArray[np.float64]

UNLABELLED_WEIGHT = 0.5  # of a soft label beside a label's 1
PSEUDO_COUNT = 2.0  # a
BLOCK_STEPS = 100  # of L-BFGS, for the weights of the blocks and the bias
BLOCK_PENALTY = 0.01  # on their squares


def fit_student(
    counts: Sequence[csr_matrix],
    y: NDArray[np.int64],
    soft: Float64,
    *,
    penalty: float = 0.1,
    num_steps: int = 30,
) -> tuple[Float64, Float64, Float64]:
    """Fit the student to n labelled rows and to m rows with soft labels.

    Args:
        counts: Counts of n-grams, as of `count_ngrams`, for each block `[n + m, F / num_blocks]`.
        y: Classes of the first n rows, `[n]`.
        soft: The teacher's p(y | x) of the others, `[m, K]`; m may be 0.
        penalty: Strength of the penalty on the weights of the regression.
        num_steps: Maximum number of steps of L-BFGS; few steps regularise too.

    Returns:
        W `[F, K]`, b `[K]` and idf `[F]`, for logits as those of `NGramLogits`.
    """
    one_hot = np.eye(soft.shape[1])[y]
    posteriors = np.concatenate((one_hot, soft))
    targets = np.concatenate((one_hot, sharpen(soft)))
    row_weights = np.repeat([1.0, UNLABELLED_WEIGHT], [len(y), len(soft)])
    tfidf = [TfidfTransformer(sublinear_tf=True).fit(block) for block in counts]
    features = [
        transformer.transform(block) for transformer, block in zip(tfidf, counts, strict=True)
    ]
    by_regression = fit_logistic(
        hstack(features, format="csr"), targets, row_weights, penalty=penalty, num_steps=num_steps
    )
    idf = [transformer.idf_[:, None] for transformer in tfidf]
    by_counts = _fit_naive_bayes(counts, features, idf, posteriors, targets, row_weights)
    weight, bias = ((one + other) / 2 for one, other in zip(by_counts, by_regression, strict=True))
    return weight, bias, np.concatenate(idf)[:, 0]


def sharpen(probabilities: Float64) -> Float64:
    """p^2, normalised; `[n, K]`."""
    squares = probabilities**2
    result: Float64 = squares / squares.sum(1, keepdims=True)
    return result


def _fit_naive_bayes(
    counts: Sequence[csr_matrix],
    features: Sequence[csr_matrix],
    idf: Sequence[Float64],
    posteriors: Float64,
    targets: Float64,
    row_weights: Float64,
) -> tuple[Float64, Float64]:
    """W `[F, K]` and b `[K]` of the naive Bayes classifier.

    Args:
        counts: `[N, F / num_blocks]` for each block.
        features: TF-IDF of the counts.
        idf: `[F / num_blocks, 1]` for each block.
        posteriors: p(y | x) with which the n-grams are counted, `[N, K]`.
        targets: Distributions to which the weights of the blocks are fitted, `[N, K]`.
        row_weights: Weights of the rows in that, `[N]`.
    """
    half = np.random.default_rng(0).permutation(len(posteriors)) % 2  # rows may be sorted by class
    scores = np.zeros((len(counts), *posteriors.shape))
    for number in range(2):
        counted, scored = half != number, half == number
        for block, (of_block, features_of_block) in enumerate(zip(counts, features, strict=True)):
            table = _ngram_scores(of_block[counted], posteriors[counted]) / idf[block]
            scores[block, scored] = features_of_block[scored] @ table
    scales, bias = _fit_scales(scores, targets, row_weights)
    tables = [_ngram_scores(of_block, posteriors) for of_block in counts]
    weight = [s * table / one for s, table, one in zip(scales, tables, idf, strict=True)]
    return np.concatenate(weight), bias


def _ngram_scores(counts: csr_matrix, posteriors: Float64) -> Float64:
    """The score of each n-gram of a block for each class, `[F / num_blocks, K]`."""
    by_class = np.asarray(counts.T @ posteriors, np.float64)
    share = by_class.sum(0) + 1  # so that no class has the share 0
    share /= share.sum()
    total = by_class.sum(1, keepdims=True)
    result: Float64 = np.log((by_class + PSEUDO_COUNT * share) / ((total + PSEUDO_COUNT) * share))
    return result


def _fit_scales(scores: Float64, targets: Float64, row_weights: Float64) -> tuple[Float64, Float64]:
    """Weights of the blocks, at least 0, and a bias, from the blocks' scores `[J, N, K]`."""
    num_blocks, _, num_classes = scores.shape

    def loss(parameters: Float64) -> tuple[float, Float64]:
        logits = np.tensordot(parameters[:num_blocks], scores, 1) + parameters[num_blocks:]
        nats, residuals = soft_cross_entropy(logits, targets, row_weights)
        gradient = np.concatenate((np.tensordot(scores, residuals, 2), residuals.sum(0)))
        # the penalty keeps the weights finite where the halves agree on every row
        nats += BLOCK_PENALTY / 2 * float((parameters**2).sum())
        return nats, gradient + BLOCK_PENALTY * parameters

    result = minimize(
        loss,
        np.concatenate((np.ones(num_blocks), np.zeros(num_classes))),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * num_blocks + [(None, None)] * num_classes,
        options={"maxiter": BLOCK_STEPS},
    )
    return result.x[:num_blocks], result.x[num_blocks:]
