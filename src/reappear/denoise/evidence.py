"""Distances between crops of one person and between crops of two, from tracklets without labels.

A tracklet, its halves and its parts around a gap count as one person (must-links). Simultaneous tracklets of one video
count as two people (cannot-links).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reappear.core import Engine, TrackletSet, generator, offsets_to_owner

from .groups import Groups, centroids, distance_to_own, read_unit, release_pages

MOST = 200_000
"""Sample size per distribution; more would not change quantiles."""

_STEP = 8192


@dataclass(frozen=True)
class Distances:
    """Sorted cosine distances, and their tracklets.

    Attributes:
        value: In 0..2, ascending.
        of: The tracklet of each distance, or its two tracklets.
    """

    value: Float[np.ndarray, " n"]
    of: Int[np.ndarray, "n k"]

    @classmethod
    def between(cls, value: Float[np.ndarray, " n"], of: Int[np.ndarray, "n k"]) -> "Distances":
        """Sorts distances."""
        order = np.argsort(value, kind="stable")
        return cls(np.clip(value[order].astype(np.float64), 0, 2), of[order])

    def __len__(self) -> int:
        return len(self.value)

    def drawn(self, times: Float[np.ndarray, " t"]) -> "Sample":
        """Weights for a bootstrap resample with these numbers of tracklets."""
        return Sample(self.value, np.cumsum(times[self.of].prod(axis=1)))


@dataclass(frozen=True)
class Sample:
    """Sorted distances with cumulative weights."""

    value: Float[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]

    def quantile(self, share: float) -> float:
        """The weighted quantile."""
        return float(self.value[min(np.searchsorted(self.weight, share * self.weight[-1]), len(self.value) - 1)])

    def share_from(self, distance: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Share of the weight at or beyond these distances."""
        below = np.concatenate([[0.0], self.weight])[np.searchsorted(self.value, distance)]
        return np.asarray(1 - below / self.weight[-1])


def to_rest(tracklets: TrackletSet, groups: Groups, centers: Float[np.ndarray, "t d"]) -> Distances:
    """Distances of crops to the mean of the other crops of their tracklet, if there are at least two."""
    owner = offsets_to_owner(groups.offsets)
    cosine = (1 - distance_to_own(tracklets.embeddings, groups, centers)).astype(np.float64)
    # x·S and |S| follow from the distance to the full mean: |S| is the sum of x·c over the tracklet.
    length = np.bincount(owner, cosine, minlength=len(groups))[owner]
    toward = cosine * length
    rest = np.sqrt(np.maximum(length**2 - 2 * toward + 1, 1e-10))
    some = _spread(np.flatnonzero(groups.sizes[owner] >= 3), MOST)
    return Distances.between((1 - (toward - 1) / rest)[some], owner[some, None])


def to_others(
    tracklets: TrackletSet,
    groups: Groups,
    centers: Float[np.ndarray, "t d"],
    pairs: Int[np.ndarray, "p 2"],
) -> Distances:
    """Distances of the middle crop of each tracklet of a pair to the mean of the other."""
    both = _spread(np.concatenate([pairs, pairs[:, ::-1]]), MOST)
    middle = groups.rows[groups.offsets[both[:, 0]] + groups.sizes[both[:, 0]] // 2]
    value = [np.zeros(0, np.float32)]
    for i in range(0, len(both), _STEP):
        x = read_unit(tracklets.embeddings, middle[i : i + _STEP])
        value.append(1 - np.einsum("pd,pd->p", x, centers[both[i : i + _STEP, 1]]))
        release_pages(centers)
    return Distances.between(np.concatenate(value), both)


def between_parts(tracklets: TrackletSet, groups: Groups, engine: Engine) -> Distances:
    """Distances between parts of one tracklet: halves (four or more crops), first and last third (six or more)."""
    owner = offsets_to_owner(groups.offsets)
    place, size = np.arange(len(owner)) - groups.offsets[owner], groups.sizes[owner]
    found = []
    for parts, fewest in ((2, 4), (3, 6)):
        long = _spread(np.flatnonzero(groups.sizes >= fewest), MOST)
        number = np.full(len(groups), -1, np.int64)
        number[long] = np.arange(len(long))
        part = place * parts // size
        taken = (number[owner] >= 0) & ((part == 0) | (part == parts - 1))
        mine = np.full(len(tracklets.embeddings), -1, np.int64)
        mine[groups.rows[taken]] = 2 * number[owner[taken]] + (part[taken] > 0)
        centers = centroids(tracklets.embeddings, Groups.of(mine, 2 * len(long)), engine)
        found.append((_apart(centers, np.arange(len(centers)).reshape(-1, 2)), long))
    value, of = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return Distances.between(value, of[:, None])


def between_tracklets(centers: Float[np.ndarray, "t d"], pairs: Int[np.ndarray, "p 2"]) -> Distances:
    """Distances between the two tracklets of each pair."""
    pairs = _spread(pairs, MOST)
    return Distances.between(_apart(centers, pairs), pairs)


def any_pairs(present: Int[np.ndarray, " n"], reach: int, *path: int | str) -> Int[np.ndarray, "p 2"]:
    """Pairs of present tracklets at most `reach` positions apart: all, or a random sample of many."""
    count = len(present)
    if count < 2 or reach < 1:
        return np.zeros((0, 2), np.int64)
    if 2 * count * reach <= MOST:
        first, gap = np.divmod(np.arange(count * reach), reach)
        gap += 1
    else:
        draw = generator(0, "calibrate", *path)
        first, gap = draw.integers(0, count, MOST), draw.integers(1, reach + 1, MOST)
    inside = first + gap < count
    return np.stack([present[first[inside]], present[(first + gap)[inside]]], axis=1)


def _apart(centers: Float[np.ndarray, "t d"], pairs: Int[np.ndarray, "p 2"]) -> Float[np.ndarray, " p"]:
    """Cosine distance of the rows of each pair."""
    value = [np.zeros(0, np.float32)]
    for i in range(0, len(pairs), _STEP):
        first, second = pairs[i : i + _STEP].T
        value.append(1 - np.einsum("pd,pd->p", centers[first], centers[second]))
        release_pages(centers)
    return np.concatenate(value)


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    """Evenly spaced rows, at most `most`."""
    return rows[:: max(1, -(-len(rows) // most))]
