"""How sure a sighting is: the share of pairs of tracklets as similar that are one person (not in the paper).

`link_probability` says of each link of average linkage how likely it is right. These are read as the truth about pairs
of tracklets, and isotonic regression says what they come to at each similarity. So a search is as sure as the links.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import isotonic_regression

from .trace import CARRIED_OVER, Columns


@dataclass(frozen=True)
class SightingProbability:
    """A curve that rises with similarity.

    Attributes:
        similarity: In standard deviations of the cohort (`cohort_statistics`), rising.
        probability: Of being one person, 0..1, never falling.
    """

    similarity: Float[np.ndarray, " b"]
    probability: Float[np.ndarray, " b"]

    @classmethod
    def fit(cls, similarity: Float[np.ndarray, " n"], probability: Float[np.ndarray, " n"]) -> "SightingProbability":
        """Isotonic regression of the probabilities of pairs, by their similarity.

        Args:
            similarity: Of each pair, one or more.
            probability: Of each, 0..1.
        """
        order = np.argsort(similarity, kind="stable")
        found = isotonic_regression(probability[order])
        begins = found.blocks[:-1]
        middle = np.add.reduceat(similarity[order], begins) / np.diff(found.blocks)
        return cls(middle, np.clip(found.x[begins], 0, 1))

    def at(self, similarity: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """The probability at other similarities, between those of the curve on a line, 0..1."""
        return np.asarray(np.interp(similarity, self.similarity, self.probability))


def pair_probability(
    first: Int[np.ndarray, " n"], second: Int[np.ndarray, " n"], identity: Int[np.ndarray, " t"], links: Columns
) -> Float[np.ndarray, " n"]:
    """The probability that two tracklets are one person: that of the link that brought their identity together.

    On the way from one to the other along the links, that is the one of least similarity, for average linkage merges
    the most similar first.

    Args:
        first: A tracklet of each pair.
        second: The other.
        identity: Of each tracklet; -1 = none.
        links: As `Trace.link_columns` gives them. One without a probability, such as a decision, counts as 1; those
            carried over are left out.

    Returns:
        0 for tracklets of different identities or of none, else the probability; NaN where no links lead from one to
        the other.
    """
    mine = np.isin(identity[links["first"]], np.unique(identity[first])) & (links["stage"] != CARRIED_OVER)
    similarity = np.nan_to_num(links["similarity"][mine].astype(np.float64), nan=np.inf)
    order = np.argsort(-similarity, kind="stable")
    sure = np.nan_to_num(links["probability"][mine].astype(np.float64), nan=1.0)[order].tolist()
    merges = _Merges()
    for a, b in zip(links["first"][mine][order].tolist(), links["second"][mine][order].tolist(), strict=True):
        merges.add(a, b)
    one = (identity[first] == identity[second]) & (identity[first] >= 0)
    out = np.zeros(len(first))
    for i in np.flatnonzero(one).tolist():
        merge = merges.between(int(first[i]), int(second[i]))
        out[i] = np.nan if merge is None else 1.0 if merge < 0 else sure[merge]
    return out


class _Merges:
    """Union by size without path compression, so that the way between two nodes still says when they met."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}
        self._size: dict[int, int] = {}
        self._when: dict[int, int] = {}
        self._count = 0

    def add(self, a: int, b: int) -> None:
        a, b = self._root(a), self._root(b)
        if self._size.get(a, 1) < self._size.get(b, 1):
            a, b = b, a
        if a != b:
            self._parent[b], self._when[b] = a, self._count
            self._size[a] = self._size.get(a, 1) + self._size.get(b, 1)
        self._count += 1

    def between(self, a: int, b: int) -> int | None:
        """The number of the link that brought two nodes together; -1 = they are one; None = nothing did."""
        last = -1
        while a != b:
            if self._when.get(a, self._count) > self._when.get(b, self._count):
                a, b = b, a
            if a not in self._parent:
                return None
            a, last = self._parent[a], self._when[a]
        return last

    def _root(self, node: int) -> int:
        while node in self._parent:
            node = self._parent[node]
        return node
