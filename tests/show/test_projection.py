import numpy as np
import pytest
from sklearn.decomposition import PCA

from seqssvae.show.projection import Principal, project_tsne


def test_principal_components_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    points = generator.normal(size=(30, 5)) * [3.0, 2.0, 1.0, 0.5, 0.1]
    ours, theirs = Principal(points), PCA(2).fit(points)
    more = generator.normal(size=(4, 5))
    np.testing.assert_allclose(np.abs(ours(more)), np.abs(theirs.transform(more)), atol=1e-9)
    np.testing.assert_allclose(ours.explained, theirs.explained_variance_ratio_, atol=1e-9)
    np.testing.assert_allclose(Principal(points[::-1])(more), ours(more), atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 3), (5, 1), (3, 0), (2, 4)])
def test_few_points_or_dims(shape: tuple[int, int]) -> None:
    points = np.random.default_rng(0).normal(size=shape)
    principal = Principal(points)
    assert principal(points).shape == (shape[0], 2)
    assert np.isfinite(principal(points)).all() and np.isfinite(principal.explained).all()
    assert np.isfinite(project_tsne(points)).all() and project_tsne(points).shape[1] == 2


def test_tsne_keeps_neighbours_and_goes_by_its_seed() -> None:
    generator = np.random.default_rng(0)
    points = np.concatenate([generator.normal(size=(20, 4)), 20 + generator.normal(size=(20, 4))])
    placed = project_tsne(points, seed=1)
    np.testing.assert_array_equal(placed, project_tsne(points, seed=1))
    distance = np.linalg.norm(placed[:, None] - placed[None], axis=-1) + np.diag([np.inf] * 40)
    nearest = distance.argmin(1)
    assert ((nearest < 20) == (np.arange(40) < 20)).all()


def test_points_that_are_all_one() -> None:
    assert np.isfinite(project_tsne(np.ones((8, 3)))).all()
