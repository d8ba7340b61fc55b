"""Similarities of nodes in units of their neighbourhoods: AS-norm of speaker verification (not in the paper).

How similar two people look differs from node to node: in a crowd of dark coats a cosine of 0.8 means nothing. So each
similarity is compared with those to the nearest others, the cohort, who are mostly other people.
"""

import numpy as np
from jaxtyping import Float, Int

from reappear.core import SettingsError, counted, thread_map

from .average import Similarities
from .groups import add_rows, release_pages, row_slices, sum_rows, to_unit
from .links import Links
from .neighbors import Neighbors

COHORT = 30
"""Neighbours whose mean and deviation normalise a similarity."""

PRIOR = 4.0
"""Tracklets that the mean of all counts for in the mean of a place."""

_FEWEST = 5  # of a cohort; a node with fewer is linked to none
_LEAST_DEVIATION = 1e-3
_NEVER = 2.0  # more than any similarity
_ROWS = 1024
_LOOKED_AT = 20_000

PAIR_BYTES = 128
"""Of one similar pair while clusters are made."""
_SLACK = 1e-3  # a similarity may be off by this much where the cosine is a float32


def center_by_place(centers: Float[np.ndarray, "n d"], place: Int[np.ndarray, " n"]) -> None:
    """Subtracts from each row the mean of its place, and scales it to unit length again; in place.

    What all people of a camera have in common, such as its light, makes them similar to each other and dissimilar to
    themselves elsewhere. The mean of a place is drawn towards the mean of all as by `PRIOR` more rows.

    Args:
        centers: Unit rows, one for each tracklet; rows of zeros stay.
        place: The video or camera of each, numbered from 0.
    """
    total = np.zeros((int(place.max(initial=-1)) + 1, centers.shape[1]))
    add_rows(total, place, centers)
    size = np.bincount(place, minlength=len(total))[:, None]
    mean = (total + PRIOR * total.sum(axis=0) / max(1, len(centers))) / (size + PRIOR)

    def less(some: slice) -> None:
        rows = centers[some]
        rows -= np.where(rows.any(axis=1, keepdims=True), mean[place[some]], 0).astype(np.float32)
        release_pages(centers)

    for _ in thread_map(less, row_slices(centers)):
        pass
    to_unit(centers)


def normalize(centers: Float[np.ndarray, "n d"], neighbors: Neighbors, skip: int) -> Similarities:
    """Mean and deviation of the similarities of each node to its cohort.

    Args:
        centers: Unit rows, or zeros.
        neighbors: Of each node.
        skip: How many of the nearest are left out, because they may be the same person; the cohort are the `COHORT`
            after these. A node without at least five of them is similar to none.
    """
    count = len(centers)
    mean, deviation = np.full(count, _NEVER), np.full(count, _LEAST_DEVIATION)

    def few(begin: int) -> None:
        some = slice(begin, begin + _ROWS)
        middle, width = cohort_statistics(neighbors.cosine[some], skip)
        enough = np.isfinite(middle)
        mean[some][enough] = middle[enough]
        deviation[some][enough] = width[enough]

    for _ in thread_map(few, range(0, count, _ROWS)):
        pass
    return Similarities(centers, mean, deviation)


def cohort_statistics(
    nearest: Float[np.ndarray, "n k"], skip: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Mean and standard deviation of the similarities of each row to its cohort.

    Args:
        nearest: Cosine similarities to the nearest others, falling; -inf = there is no such.
        skip: How many of the nearest are left out; the cohort are the `COHORT` after these.

    Returns:
        NaN for a row with a cohort of fewer than five.
    """
    some = nearest[:, skip : skip + COHORT]
    there = some > -np.inf
    cosine = np.where(there, some, 0).astype(np.float64)
    size = np.maximum(there.sum(axis=1), 1)
    mean = cosine.sum(axis=1) / size
    square = (np.where(there, cosine - mean[:, None], 0) ** 2).sum(axis=1) / size
    few = size < _FEWEST
    return np.where(few, np.nan, mean), np.where(few, np.nan, np.maximum(np.sqrt(square), _LEAST_DEVIATION))


def similar_pairs(similarities: Similarities, neighbors: Neighbors, least: float, memory_bytes: int) -> Links:
    """All pairs of nodes with a similarity of `least` or more, which must be positive, and few others.

    Neighbours suffice: if the mean of two terms is positive, one of them is; then the pair is more similar than the
    mean of one node's cohort, thus than some of it, thus among the neighbours of that node, which are nearest first.

    Raises:
        SettingsError: They would not fit in memory.
    """
    count, most = len(similarities), max(1, memory_bytes // PAIR_BYTES)

    def few(begin: int) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        index, cosine = neighbors.index[begin : begin + _ROWS], neighbors.cosine[begin : begin + _ROWS]
        row, column = np.nonzero(index >= 0)
        first, second, inner = row + begin, index[row, column].astype(np.int64), cosine[row, column]
        kept = similarities.of(first, second, inner.astype(np.float64)) >= least - _SLACK
        first, second = first[kept], second[kept]
        return np.minimum(first, second) * count + np.maximum(first, second), np.maximum(1 - inner[kept], 0)

    keys, distances, total = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)], 0
    for key, distance in thread_map(few, range(0, count, _ROWS)):
        keys.append(key)
        distances.append(distance)
        total += len(key)
        if total > 2 * most:  # a pair is found once or twice
            raise SettingsError(
                f"z: more than {counted(most, 'pair')} of nodes, {least:.3g} or more alike, would not fit in memory; "
                f"give more --memory, or a higher --z"
            )
    key, at = np.unique(np.concatenate(keys), return_index=True)
    return Links(key // count, key % count, np.concatenate(distances)[at])


def mean_silhouette(
    centers: Float[np.ndarray, "n d"],
    neighbors: Neighbors,
    cluster: Int[np.ndarray, " n"],
    place: Int[np.ndarray, " n"],
) -> float:
    """How clear clusters are between places, -1..1: the mean silhouette of nodes (Rousseeuw 1987).

    That of a node is (b - a) / max(a, b), with its mean distances a to the nodes of its cluster at other places and b
    to those of another cluster, that of its nearest neighbour at another place. It is 0 for a node whose cluster is at
    one place only. Of many nodes some 20,000 are looked at, evenly spread.

    Args:
        centers: Unit rows, or zeros.
        neighbors: Of each node.
        cluster: Of each node, numbered from 0.
        place: Of each node, numbered from 0.
    """
    count, places = len(centers), int(place.max(initial=0)) + 1
    nodes = np.arange(0, count, max(1, count // _LOOKED_AT))
    looked_at = len(nodes)
    near = neighbors.index[nodes]
    other = (near >= 0) & (cluster[near] != cluster[nodes, None]) & (place[near] != place[nodes, None])
    found = other.any(axis=1)
    nodes, near = nodes[found], near[found, other[found].argmax(axis=1)]
    named = np.unique(cluster[np.concatenate([nodes, near])])
    number = np.full(int(cluster.max(initial=-1)) + 1, -1)
    number[named] = np.arange(len(named))
    members = np.flatnonzero(number[cluster] >= 0)
    visits, visit = np.unique(number[cluster[members]] * places + place[members], return_inverse=True)
    total = np.zeros((len(visits), centers.shape[1]), np.float32)

    def summed(begin: int) -> tuple[Int[np.ndarray, " h"], Float[np.ndarray, "h d"]]:
        return sum_rows(visit[begin : begin + _ROWS], centers[members[begin : begin + _ROWS]])

    for here, part in thread_map(summed, range(0, len(members), _ROWS)):
        total[here] += part
    size = np.bincount(visit)
    whole = np.zeros((len(named), centers.shape[1]), np.float32)
    add_rows(whole, visits // places, total)
    held = np.bincount(visits // places, size)

    def elsewhere(
        x: Float[np.ndarray, "m d"], of: Int[np.ndarray, " m"], at: Int[np.ndarray, " m"]
    ) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Mean similarity to the nodes of a cluster that are not at a place, and how many these are."""
        key = of * places + at
        row = np.minimum(np.searchsorted(visits, key), len(visits) - 1)
        here = visits[row] == key
        left = held[of] - np.where(here, size[row], 0)
        inner = np.einsum("md,md->m", x, whole[of] - np.where(here[:, None], total[row], 0))
        return inner / np.maximum(left, 1), left

    def few(begin: int) -> float:
        some, beside = nodes[begin : begin + _ROWS], near[begin : begin + _ROWS]
        x, at = centers[some], place[some]
        own, left = elsewhere(x, number[cluster[some]], at)
        rest, _ = elsewhere(x, number[cluster[beside]], at)
        silhouette = (own - rest) / np.maximum(1 - np.minimum(own, rest), 1e-6)
        return float(silhouette[left > 0].sum())

    return sum(thread_map(few, range(0, len(nodes), _ROWS))) / max(1, looked_at)
