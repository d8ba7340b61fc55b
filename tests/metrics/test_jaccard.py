import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import DBSCAN

from reappear.core import InputError, SettingsError
from reappear.metrics import cluster_by_jaccard, jaccard_graph
from reappear.metrics.jaccard import _dbscan
from tests.references.jaccard import jaccard


def _people(people: int, images: int, *, seed: int = 0, noise: float = 0.5, width: int = 12) -> np.ndarray:
    random = np.random.default_rng(seed)
    centers = random.normal(size=(people, width))
    return (np.repeat(centers, images, 0) + noise * random.normal(size=(people * images, width))).astype(np.float32)


@pytest.mark.parametrize(("k1", "k2", "radius"), [(8, 3, 0.6), (5, 1, 0.7), (30, 6, 0.5), (3, 2, 0.9), (100, 4, 0.6)])
@pytest.mark.parametrize("seed", [0, 1])
def test_distances_and_clusters_are_those_of_the_loops(k1: int, k2: int, radius: float, seed: int) -> None:
    features = _people(9, 7, seed=seed)
    expected = jaccard(features.astype(np.float64), k1, k2)
    graph = jaccard_graph(features, radius=radius, k1=k1, k2=k2)
    near = expected <= radius
    stored = np.zeros_like(near)
    row = np.repeat(np.arange(len(features)), np.diff(graph.indptr))
    stored[row, graph.indices] = True
    np.testing.assert_array_equal(stored, near)
    np.testing.assert_allclose(graph.toarray()[near], expected[near], atol=1e-5)
    dense = DBSCAN(eps=radius, min_samples=4, metric="precomputed").fit(expected).labels_
    np.testing.assert_array_equal(cluster_by_jaccard(features, radius=radius, k1=k1, k2=k2), dense)


def test_cores_borders_and_outliers_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    for density in (0.01, 0.02, 0.04, 0.06):
        near = np.triu(random.random((200, 200)) < density, 1)
        near |= near.T | np.eye(200, dtype=bool)
        expected = DBSCAN(eps=0.5, min_samples=5, metric="precomputed").fit(1.0 - near).labels_
        np.testing.assert_array_equal(_dbscan(sparse.csr_array(near.astype(np.float32)), 5), expected)


def test_small_memory_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features = _people(40, 6)
    whole = jaccard_graph(features, radius=0.6)
    monkeypatch.setattr("reappear.metrics.jaccard._SUMS", 100)
    parts = jaccard_graph(features, radius=0.6, memory_mb=1)
    np.testing.assert_array_equal(whole.toarray(), parts.toarray())


def test_people_who_are_apart_are_clusters_and_lone_images_are_outliers() -> None:
    features = np.concatenate([_people(12, 8, noise=0.1), np.random.default_rng(9).normal(size=(3, 12))])
    found = cluster_by_jaccard(features.astype(np.float32), k1=8, k2=1)
    np.testing.assert_array_equal(found[:96], np.repeat(np.arange(12), 8))
    assert (found[96:] == -1).all()


def test_images_that_are_alike_are_one_cluster() -> None:
    assert set(cluster_by_jaccard(np.ones((6, 3), np.float32))) == {0}


def test_bad_arguments_are_refused() -> None:
    features = _people(3, 3)
    for settings in ({"radius": 0.0}, {"radius": 1.0}, {"k1": 0}, {"k2": 0}, {"least": 0}, {"memory_mb": 0}):
        with pytest.raises(SettingsError, match=next(iter(settings))):
            cluster_by_jaccard(features, **settings)
    with pytest.raises(InputError, match="two images"):
        cluster_by_jaccard(features[:1])
