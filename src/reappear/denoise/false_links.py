"""Predicts the share of false pairs that linking creates, and the σ_drm that bounds it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .evidence import Sample
from .joining import find_root
from .links import Links

_STEPS, _FEWEST_JOINS = 100, 10  # number of distance intervals in which merges are judged; merges per interval
_FEWEST = 1000


@dataclass(frozen=True)
class Tail:
    """The lower tail of the distances between impostors: a power law through two quantiles."""

    low: float
    share_at_low: float
    exponent: float

    @classmethod
    def through(cls, sample: Sample, near: float, far: float) -> "Tail":
        """The power law through these quantiles."""
        low, high = (max(1e-6, sample.quantile(share)) for share in (near, far))
        return cls(low, near, np.log(far / near) / max(1e-3, np.log(high / low)))

    def share(self, distance: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        """Share of impostor pairs within each distance."""
        logarithm = np.log(self.share_at_low) + self.exponent * np.log(np.maximum(distance, 1e-12) / self.low)
        return np.asarray(np.exp(np.minimum(0, logarithm)))

    def quantile(self, share: float) -> float:
        """The distance within which this share lies."""
        return float(self.low * (share / self.share_at_low) ** (1 / self.exponent))


def tails(samples: list[Sample]) -> list[Tail]:
    """Fits through the 5 % and 20 % quantiles, and with enough distances also through those of 1 % and 10 %."""
    return [
        Tail.through(sample, near, far)
        for sample in samples
        for near, far, fewest in ((0.05, 0.2, 0), (0.01, 0.1, _FEWEST))
        if len(sample.value) >= fewest
    ]


@dataclass(frozen=True)
class Joins:
    """Merges of tracklets along the shortest links, one by one.

    Attributes:
        distance: Distance of the link of each merge, ascending.
        pairs: Pairs of crops that each merge creates.
        within: Pairs of crops within tracklets before any merge.
        compared: Number of compared pairs of tracklets.
    """

    distance: Float[np.ndarray, " j"]
    pairs: Float[np.ndarray, " j"]
    within: float
    compared: int

    @classmethod
    def along(cls, forest: Links, crops: Int[np.ndarray, " t"], compared: int) -> "Joins":
        """Merges tracklets of these sizes along the links of a minimum spanning forest, sorted by distance."""
        root = list(range(len(crops)))
        size = crops.tolist()
        pairs = []
        for first, second in zip(forest.first.tolist(), forest.second.tolist(), strict=True):
            a, b = find_root(root, first), find_root(root, second)
            pairs.append(float(size[a] * size[b]))
            root[b] = a
            size[a] += size[b]
        within = float((crops * (crops - 1.0)).sum() / 2)
        return cls(forest.distance.astype(np.float64), np.array(pairs), within, compared)

    def false_share(self, impostors: list[Tail]) -> Float[np.ndarray, " j"]:
        """The expected share of false pairs of crops after each merge.

        The number of false merges in an interval of distances is the expected number of impostor pairs in it. A false
        merge creates only false pairs, a true one only true pairs.
        """
        count = len(self.distance)
        edges = np.linspace(0, count, max(1, min(_STEPS, count // _FEWEST_JOINS)) + 1).astype(np.int64)
        width = np.diff(edges)
        expected = self.compared * np.min([tail.share(self.distance[edges[1:] - 1]) for tail in impostors], axis=0)
        false = np.clip(np.diff(expected, prepend=0.0) / width, 0, 1)
        false = np.repeat(np.maximum.accumulate(false), width)  # longer links are not better
        return np.asarray(np.cumsum(false * self.pairs) / (self.within + np.cumsum(self.pairs)))

    def longest(self, impostors: list[Tail], bearable: float) -> tuple[float, float]:
        """The longest link at which at most this share of pairs is false, and that share.

        If the first merge exceeds it: a distance below that link.
        """
        if not len(self.distance):
            return min(tail.quantile(1 / self.compared) for tail in impostors), 0.0
        share = self.false_share(impostors)
        found = np.flatnonzero(share <= bearable)
        if not len(found):
            return float(np.nextafter(self.distance[0], 0)), 0.0
        return float(self.distance[found[-1]]), float(share[found[-1]])
