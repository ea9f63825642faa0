"""Points of many dims on a plane, for pictures: principal components and t-SNE."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Principal", "project_tsne"]

Floats = NDArray[np.floating]

PERPLEXITY = 30.0  # of t-SNE, where there are rows enough (van der Maaten and Hinton 2008)


class Principal:
    """The two principal components of some points, onto which others can be projected too.

    A component's sign is chosen so that its largest coefficient is positive: pictures of the same
    points are the same.

    Args:
        points: `[n, D]`, n at least 1; where D or n is too small, the missing components are 0.

    Attributes:
        explained: Each component's share of the points' variance, `[2]`.

    Example:
        >>> Principal(np.array([[0.0, 1.0], [0.0, 3.0]]))(np.array([[5.0, 4.0]]))
        array([[2., 5.]])
    """

    def __init__(self, points: Floats) -> None:
        self._center = points.mean(0, dtype=np.float64)
        centered = points - self._center
        _, singular, components = np.linalg.svd(centered, full_matrices=False)
        self._components = np.zeros((2, points.shape[1]))
        for number, component in enumerate(components[:2]):
            sign = np.sign(component[np.abs(component).argmax()])
            self._components[number] = sign * component
        variances = np.zeros(max(2, len(singular)))
        variances[: len(singular)] = singular**2
        self.explained = variances[:2] / max(variances.sum(), np.finfo(np.float64).tiny)

    def __call__(self, points: Floats) -> NDArray[np.float64]:
        """Where points `[m, D]` lie on the plane, `[m, 2]`."""
        projected: NDArray[np.float64] = (points - self._center) @ self._components.T
        return projected


def project_tsne(points: Floats, *, seed: int = 0) -> NDArray[np.float64]:
    """Points on a plane where neighbours stay neighbours; distances far apart mean nothing.

    Args:
        points: `[n, D]`.
        seed: Of what the principal components leave open.

    Returns:
        `[n, 2]`; the principal components where fewer than 4 points leave t-SNE nothing to do.
    """
    if len(points) < 4 or points.shape[1] < 2:
        return Principal(points)(points)
    from sklearn.manifold import TSNE

    tsne = TSNE(
        perplexity=min(PERPLEXITY, (len(points) - 1) / 3),
        init=Principal(points)(points).astype(np.float32) * 1e-4 / _spread(points),
        random_state=seed,
        n_jobs=1,
    )
    placed: NDArray[np.float64] = tsne.fit_transform(points.astype(np.float32)).astype(np.float64)
    return placed


def _spread(points: Floats) -> float:
    """The standard deviation along the first component; 1 where all points are one."""
    return float(np.std(Principal(points)(points)[:, 0])) or 1.0
