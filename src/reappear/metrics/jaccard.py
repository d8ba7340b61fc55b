"""Clusters of features by DBSCAN on their k-reciprocal Jaccard distance, sparse from start to end.

The published code holds two matrices of all rows by all rows. Here only pairs within DBSCAN's radius are held: memory
grows with rows × neighbours.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from reappear.core import InputError, SettingsError, unit_rows

from .reranking import membership_of, nearest_rows

_KEPT = 4  # neighbours kept with their distance, in multiples of k1
_SUMS = 1 << 20  # products that are summed at once
_PAIRS = 1 << 14  # pairs of rows that are compared at once


def cluster_by_jaccard(
    features: Float[np.ndarray, "n d"],
    *,
    radius: float = 0.6,
    least: int = 4,
    k1: int = 30,
    k2: int = 6,
    memory_mb: int = 256,
) -> Int[np.ndarray, " n"]:
    """Cluster of each row, from 0; -1 = outlier. DBSCAN (Ester et al. 1996) on `jaccard_graph`.

    Args:
        features: Normalised here.
        radius: Largest distance of neighbours (eps), in (0, 1).
        least: Rows, itself among them, within the radius of a row that founds a cluster.
        k1: See `jaccard_graph`.
        k2: See `jaccard_graph`.
        memory_mb: See `jaccard_graph`.

    Raises:
        InputError: Features are zero or not finite, or fewer than two.
        SettingsError: A setting is out of range.
    """
    if least < 1:
        raise SettingsError(f"least: must be 1 or more, got {least}")
    return _dbscan(jaccard_graph(features, radius=radius, k1=k1, k2=k2, memory_mb=memory_mb), least)


def jaccard_graph(
    features: Float[np.ndarray, "n d"], *, radius: float, k1: int = 30, k2: int = 6, memory_mb: int = 256
) -> sparse.csr_array:
    """The k-reciprocal Jaccard distances up to `radius`; pairs that are farther apart are not stored.

    As the public code of Cluster Contrast and SpCL computes them, on Zhong et al. 2017, Eq. 3-10: k1 counts the row
    itself, the half of it does not, and shares are a softmax of `2 cos - 2`.

    Args:
        features: Normalised here.
        radius: In (0, 1).
        k1: Neighbours that are asked whether they are mutual, itself among them.
        k2: Neighbours, itself among them, whose encodings are averaged; 1 = none.
        memory_mb: Bound of what is held at once beside features, neighbours and the result.

    Returns:
        A symmetric matrix; each row stores itself, at 0.

    Raises:
        InputError: Features are zero or not finite, or fewer than two.
        SettingsError: radius, k1, k2 or memory_mb is out of range.
    """
    if not 0 < radius < 1:
        raise SettingsError(f"radius: must lie in 0..1, got {radius}")
    for name, value in (("k1", k1), ("k2", k2), ("memory_mb", memory_mb)):
        if value < 1:
            raise SettingsError(f"{name}: must be 1 or more, got {value}")
    if len(features) < 2:
        raise InputError(f"clusters need two images or more, got {len(features)}")
    unit = unit_rows(features, name="image")
    near, distance, _ = nearest_rows(unit, min(len(unit), max(_KEPT * k1, k2)), memory_mb)
    scale = np.full(len(unit), 0.5, np.float32)  # 2 - 2 cos is twice the distance
    half = min(k1, int(np.around(k1 / 2)) + 1)
    membership = membership_of(unit, near, distance, scale, first=k1, half=half, k2=k2)
    return _within(membership, radius, memory_mb)


def _dbscan(near: sparse.csr_array, least: int) -> Int[np.ndarray, " n"]:
    """Cluster of each row by a matrix that stores its neighbours; numbered as scikit-learn does, which loops over rows.

    Rows with `least` neighbours or more are linked to those among these; another one is in the first cluster that it
    neighbours.
    """
    is_core = np.diff(near.indptr) >= least
    pairs = near.tocoo()
    row, column = (side[is_core[pairs.col]] for side in pairs.coords)
    among = is_core[row]
    links = sparse.csr_array((np.ones(among.sum(), np.int8), (row[among], column[among])), shape=near.shape)
    component = connected_components(links, directed=False)[1]
    cluster = np.full(len(is_core), len(is_core))
    cluster[is_core] = np.unique(component[is_core], return_inverse=True)[1]
    np.minimum.at(cluster, row[~among], cluster[column[~among]])
    return np.where(cluster < len(is_core), cluster, -1)


def _within(membership: sparse.csr_array, radius: float, memory_mb: int) -> sparse.csr_array:
    """`1 - m / (2 - m)` of each pair of rows, m what they have in common, where that is within the radius.

    m is the sum of the smaller of two shares, thus at most a product: that of the roots of the large shares of one row
    and those of all of the other, and the rest of the one row. Few pairs that this leaves are too far apart.
    """
    count = membership.shape[0]
    membership.sum_duplicates()
    smallest = 2 * (1 - radius) / (2 - radius) - 1e-5
    large, rest = _large_shares(membership, 0.85 * smallest)
    least = (smallest - rest).astype(np.float32)
    large, across = large.sqrt(), membership.sqrt().T.tocsr()
    work = np.r_[0, np.cumsum(np.diff(across.indptr)[large.indices])][large.indptr]
    most = min(_SUMS, (memory_mb << 20) // 32)
    firsts, seconds, distances, begin = [], [], [], 0
    while begin < count:
        end = max(begin + 1, int(np.searchsorted(work, work[begin] + most, side="right")) - 1)
        bound = (large[begin:end] @ across).tocoo()
        near = np.flatnonzero(bound.data >= least[begin:end][bound.row])
        near = near[bound.col[near] > bound.row[near] + begin]
        for some in np.split(near, np.arange(_PAIRS, len(near), _PAIRS)):
            first, second = bound.row[some] + begin, bound.col[some]
            smaller = sparse.csr_array(membership[first].minimum(membership[second]))
            common = np.bincount(np.repeat(np.arange(len(some)), np.diff(smaller.indptr)), smaller.data, len(some))
            apart = np.maximum(1 - common / (2 - common), 0)
            kept = apart <= radius
            firsts.append(first[kept])
            seconds.append(second[kept])
            distances.append(apart[kept])
        begin = end
    itself = np.arange(count)
    first, second, apart = (np.concatenate(parts) for parts in (firsts, seconds, distances))
    pairs = np.r_[first, second, itself], np.r_[second, first, itself]
    return sparse.csr_array((np.r_[apart, apart, np.zeros(count)], pairs), shape=(count, count))


def _large_shares(membership: sparse.csr_array, most: float) -> tuple[sparse.csr_array, Float[np.ndarray, " n"]]:
    """The largest shares of each row, and the sum of the others, which is `most` or less."""
    count = membership.shape[0]
    row = np.repeat(np.arange(count, dtype=np.int32), np.diff(membership.indptr))
    cut = np.ones(count, np.float32)
    while True:
        kept = membership.data >= cut[row]
        rest = np.bincount(row, np.where(kept, 0, membership.data), count)
        if not (rest > most).any():
            break
        cut[rest > most] *= 0.7
    ends = np.r_[0, np.cumsum(np.bincount(row[kept], minlength=count))]
    large = sparse.csr_array((membership.data[kept], membership.indices[kept], ends), shape=membership.shape)
    return large, rest
