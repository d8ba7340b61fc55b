"""What linking puts together, and how much of it is of two people: σ_drm."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .evidence import Sample
from .joining import find_root
from .links import Links

_STEPS, _FEWEST_JOINS = 100, 10  # stretches of distance in which joins are judged; how many joins each holds
_FEWEST = 1000


@dataclass(frozen=True)
class Tail:
    """The lower tail of the distances between impostors: a power law through two quantiles."""

    low: float
    share_at_low: float
    exponent: float

    @classmethod
    def through(cls, sample: Sample, near: float, far: float) -> "Tail":
        """The one that has these shares within their quantiles."""
        low, high = (max(1e-6, sample.quantile(share)) for share in (near, far))
        return cls(low, near, np.log(far / near) / max(1e-3, np.log(high / low)))

    def share(self, distance: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        """Share of impostor pairs within each distance."""
        logarithm = np.log(self.share_at_low) + self.exponent * np.log(np.maximum(distance, 1e-12) / self.low)
        return np.asarray(np.exp(np.minimum(0, logarithm)))

    def quantile(self, share: float) -> float:
        """The distance within which this share of them lies."""
        return float(self.low * (share / self.share_at_low) ** (1 / self.exponent))


def tails(samples: list[Sample]) -> list[Tail]:
    """Through the 5 % and 20 % quantiles, and where there are enough distances through those of 1 % and 10 %."""
    return [
        Tail.through(sample, near, far)
        for sample in samples
        for near, far, fewest in ((0.05, 0.2, 0), (0.01, 0.1, _FEWEST))
        if len(sample.value) >= fewest
    ]


@dataclass(frozen=True)
class Joins:
    """Tracklets joined along the shortest links, one join after the other.

    Attributes:
        distance: Of the link of each join, rising.
        pairs: Pairs of crops that each join puts together.
        within: Pairs of crops that tracklets hold before.
        compared: Pairs of tracklets that are looked at.
    """

    distance: Float[np.ndarray, " j"]
    pairs: Float[np.ndarray, " j"]
    within: float
    compared: int

    @classmethod
    def along(cls, forest: Links, crops: Int[np.ndarray, " t"], compared: int) -> "Joins":
        """Joins tracklets of so many crops along the links of a shortest forest, which come in order of distance."""
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
        """After each join, the share of all pairs of crops put together so far that are of two people.

        Of the joins in a stretch of distances so many are false as there are more impostor pairs within its end
        than within its begin. A false join puts only false pairs together, a true one only true ones.
        """
        count = len(self.distance)
        edges = np.linspace(0, count, max(1, min(_STEPS, count // _FEWEST_JOINS)) + 1).astype(np.int64)
        width = np.diff(edges)
        expected = self.compared * np.min([tail.share(self.distance[edges[1:] - 1]) for tail in impostors], axis=0)
        false = np.clip(np.diff(expected, prepend=0.0) / width, 0, 1)
        false = np.repeat(np.maximum.accumulate(false), width)  # farther links are no better
        return np.asarray(np.cumsum(false * self.pairs) / (self.within + np.cumsum(self.pairs)))

    def longest(self, impostors: list[Tail], bearable: float) -> tuple[float, float]:
        """The longest link at which no more than this share of pairs is false, and that share.

        Where already the first join is too bad: a distance below it.
        """
        if not len(self.distance):
            return min(tail.quantile(1 / self.compared) for tail in impostors), 0.0
        share = self.false_share(impostors)
        found = np.flatnonzero(share <= bearable)
        if not len(found):
            return float(np.nextafter(self.distance[0], 0)), 0.0
        return float(self.distance[found[-1]]), float(share[found[-1]])
