"""Clusters of features by DBSCAN on their k-reciprocal Jaccard distance, sparse from start to end.

The published code holds two matrices of all rows by all rows. Here only pairs within DBSCAN's radius are held: memory
grows with rows × neighbours.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from reappear.core import InputError, SettingsError, unit_rows

from .reranking import membership_of, nearest_rows

_KEPT = 4  # neighbours kept with their distance, in multiples of k1
_SUMS = 1 << 22  # common shares that are summed at once


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
    from sklearn.cluster import DBSCAN  # half a second to import
    from sklearn.neighbors import sort_graph_by_row_values

    if least < 1:
        raise SettingsError(f"least: must be 1 or more, got {least}")
    graph = jaccard_graph(features, radius=radius, k1=k1, k2=k2, memory_mb=memory_mb)
    ordered = sort_graph_by_row_values(sparse.csr_matrix(graph), warn_when_not_sorted=False)
    return np.asarray(DBSCAN(eps=radius, min_samples=least, metric="precomputed").fit(ordered).labels_, np.int64)


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


def _within(membership: sparse.csr_array, radius: float, memory_mb: int) -> sparse.csr_array:
    """`1 - m / (2 - m)` of each pair of rows, m what they have in common, where that is within the radius."""
    count = membership.shape[0]
    columns = sparse.csc_array(membership)
    lengths = np.diff(columns.indptr)
    work = np.add.reduceat(lengths[membership.indices], membership.indptr[:-1])  # sums of each row; none is empty
    most = max(1, (memory_mb << 20) // (8 * count))  # rows whose sums with all fit the memory
    smallest = np.float32(2 * (1 - radius) / (2 - radius)) - np.float32(1e-6)
    parts, begin = [], 0
    while begin < count:
        end = begin + max(1, int(np.searchsorted(np.cumsum(work[begin : begin + most]), _SUMS, side="right")))
        some = slice(*membership.indptr[[begin, end]])
        each = lengths[membership.indices[some]]
        first = columns.indptr[membership.indices[some]]
        at = np.arange(each.sum()) + np.repeat(first - np.cumsum(each) + each, each)
        smaller = np.minimum(columns.data[at], np.repeat(membership.data[some], each))
        row = np.repeat(np.arange(end - begin), np.diff(membership.indptr[begin : end + 1]))
        place = np.repeat(row * count, each) + columns.indices[at]
        common = np.bincount(place, smaller, minlength=(end - begin) * count)
        found = np.flatnonzero(common >= smallest)
        apart = np.maximum(1 - common[found] / (2 - common[found]), 0)
        kept = apart <= radius
        rows, others = np.divmod(found[kept], count)
        parts.append(sparse.csr_array((apart[kept], (rows, others)), shape=(end - begin, count)))
        begin = end
    return sparse.csr_array(sparse.vstack(parts))
