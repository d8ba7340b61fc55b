"""Average linkage of normalised similarities, by rounds of reciprocal nearest clusters (not in the paper).

Clusters that are each other's most similar one merge, all such pairs of a round at once. Averages are reducible (that
of a union with a third cluster is at most the greater of the two), so this is the tree of the greedy algorithm, which
merges the most similar pair of all at each step (Bruynooghe 1977; Murtagh 1983). A cannot-link pair counts as less
similar than any other, which changes nothing in that argument.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from reappear.core import thread_map

from .constraints import Constraint
from .groups import Groups
from .joining import Merged, components
from .links import Links

_DIGITS = 6  # to which averages are compared: what is equal but for rounding merges in the order of the nodes
_CHUNK_BYTES = 8 << 20  # of sums, for each thread; of more, memory is given back and asked for anew each time
_ROWS = 4096


@dataclass(frozen=True)
class Similarities:
    """Similarities of nodes, normalised by the neighbourhood of both (AS-norm): ½[(c − μᵢ)/sᵢ + (c − μⱼ)/sⱼ].

    Attributes:
        centers: Unit rows, or zeros; c is their inner product.
        mean: μ of each node.
        deviation: s of each node, more than 0.
    """

    centers: Float[np.ndarray, "n d"]
    mean: Float[np.ndarray, " n"]
    deviation: Float[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.mean)

    def of(
        self, first: Int[np.ndarray, " m"], second: Int[np.ndarray, " m"], cosine: Float[np.ndarray, " m"]
    ) -> Float[np.ndarray, " m"]:
        """The similarities of pairs of nodes, given their cosine similarities."""
        own, other = ((cosine - self.mean[side]) / self.deviation[side] for side in (first, second))
        return np.asarray((own + other) / 2)


def average_linkage(
    similarities: Similarities,
    links: Links,
    least: float,
    constraint: Constraint | None = None,
) -> Merged:
    """Merges clusters of nodes, the most similar first, while the mean similarity of all their pairs is `least`.

    Args:
        similarities: Of any two nodes.
        links: Must hold every pair of nodes with a similarity of `least` or more; other pairs do no harm. Two clusters
            whose mean is `least` have such a pair, so these are all that need to be compared. Similarities of two nodes
            are those of the distances of `links`, of clusters those of `similarities`.
        least: Smallest mean similarity of clusters that merge.
        constraint: Nodes that must not come into one cluster.

    Returns:
        The clusters. `kept` has for each merge the most similar pair of nodes of the two, unless clusters that held
        it were too dissimilar before: then the next one; `refused` the same for pairs of clusters that were similar
        enough but must not merge.
    """
    clusters = _Clusters(similarities, links, least, constraint)
    while clusters.merge():
        pass
    return clusters.joined()


class _Clusters:
    """Clusters, each known by its lowest node, and the similar pairs of them.

    A pair of clusters is a row: its nodes `a < b`, the sum `total` of the similarities of all its pairs of nodes, and
    the row in `links` of the most similar of these.
    """

    def __init__(self, similarities: Similarities, links: Links, least: float, constraint: Constraint | None) -> None:
        self._similarities = similarities
        self._links = links
        self._least = round(least, _DIGITS)
        count = len(similarities)
        self._of = np.arange(count, dtype=np.int32)
        self._size = np.ones(count, np.int64)
        self._cannot: Int[np.ndarray, "c 2"] = np.zeros((0, 2), np.int64)
        self._why: Int[np.ndarray, " c"] = np.zeros(0, np.int64)
        if constraint is not None:
            self._cannot, self._why = constraint.nodes
        self._a, self._b, self._best = (x.astype(np.int32) for x in (links.first, links.second, np.arange(len(links))))
        cosine = 1 - links.distance.astype(np.float64)
        self._value = self._total = similarities.of(links.first, links.second, cosine)
        self._kept = [np.zeros(0, np.int64)]
        self._similarity = [np.zeros(0)]
        self._sizes: list[Int[np.ndarray, "m 2"]] = [np.zeros((0, 2), np.int64)]
        self._refused = [np.zeros(0, np.int64)]
        self._witness = [np.zeros(0, np.int64)]
        self._drop_dissimilar()

    def merge(self) -> bool:
        """Merges all reciprocal nearest clusters; False if there are none."""
        self._refuse()
        if not len(self._a):
            return False
        mean = self._mean()
        rank = np.empty(len(mean), np.int32)
        rank[np.lexsort((self._b, self._a, -mean))] = np.arange(len(mean), dtype=np.int32)
        nearest = np.full(len(self._of), len(mean), np.int32)
        np.minimum.at(nearest, self._a, rank)
        np.minimum.at(nearest, self._b, rank)
        mutual = (nearest[self._a] == rank) & (nearest[self._b] == rank)
        into, gone = self._a[mutual], self._b[mutual]
        self._kept.append(self._best[mutual])
        self._similarity.append(mean[mutual])
        self._sizes.append(np.stack([self._size[into], self._size[gone]], axis=1))
        to = np.arange(len(self._of), dtype=np.int32)
        to[gone] = into
        self._of = to[self._of]
        self._size[into] += self._size[gone]
        self._cannot = np.sort(to[self._cannot], axis=1)
        changed = np.zeros(len(to), bool)
        changed[into] = True
        self._unite(~mutual, to, changed)
        self._drop_dissimilar()
        return True

    def joined(self) -> Merged:
        """The clusters and how they came about."""
        kept = self._links[np.concatenate(self._kept)]
        refused = self._links[np.concatenate(self._refused)]
        group, similarity = components(len(self._of), kept), np.concatenate(self._similarity)
        unknown = np.full(len(similarity), np.nan)
        return Merged(
            group, kept, refused, np.concatenate(self._witness), similarity, np.concatenate(self._sizes), unknown
        )

    def _mean(self) -> Float[np.ndarray, " p"]:
        return np.asarray(np.round(self._total / (self._size[self._a] * self._size[self._b]), _DIGITS))

    def _keep(self, kept: np.ndarray) -> None:
        self._a, self._b, self._total, self._best = (
            column[kept] for column in (self._a, self._b, self._total, self._best)
        )

    def _drop_dissimilar(self) -> None:
        self._keep(self._mean() >= self._least)

    def _refuse(self) -> None:
        """Sets aside pairs that must not merge; neither may any clusters that they become part of."""
        count = len(self._of)
        keys, first = np.unique(self._cannot[:, 0] * count + self._cannot[:, 1], return_index=True)
        self._cannot, self._why = self._cannot[first], self._why[first]
        mine = self._a.astype(np.int64) * count + self._b
        place = np.minimum(np.searchsorted(keys, mine), len(keys) - 1)
        forbidden = keys[place] == mine if len(keys) else np.zeros(len(mine), bool)
        self._refused.append(self._best[forbidden])
        self._witness.append(self._why[place[forbidden]])
        self._keep(~forbidden)

    def _unite(self, kept: Bool[np.ndarray, " p"], to: Int[np.ndarray, " n"], changed: Bool[np.ndarray, " n"]) -> None:
        """Makes pairs of the old clusters pairs of the new ones."""
        ends = np.sort(np.stack([to[self._a[kept]], to[self._b[kept]]]), axis=0)
        best = self._best[kept]
        order = np.lexsort((best, -self._value[best], ends[1], ends[0]))
        ends, best, total = ends[:, order], best[order], self._total[kept][order]
        fresh = np.ones(len(order), bool)
        fresh[1:] = (np.diff(ends) != 0).any(axis=0)
        self._a, self._b = ends[:, fresh]
        self._best, self._total = best[fresh], total[fresh]
        anew = changed[self._a] | changed[self._b]
        self._total[anew] = self._sums(self._a[anew], self._b[anew])

    def _sums(self, a: Int[np.ndarray, " m"], b: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        return sums_between(self._similarities, Groups.of(self._of, len(self._of)), a, b)


def sums_between(
    similarities: Similarities, groups: Groups, a: Int[np.ndarray, " m"], b: Int[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """Sums of the similarities of all pairs of nodes of two groups.

    With S = Σx, P = Σx/s and M = Σμ/s of each group that is ½(P_a·S_b + S_a·P_b − n_b M_a − n_a M_b).
    """
    x = similarities
    step = max(1, _CHUNK_BYTES // (32 * x.centers.shape[1]))

    def few(some: slice) -> Float[np.ndarray, " c"]:
        named, place = np.unique(np.concatenate([a[some], b[some]]), return_inverse=True)
        size = groups.sizes[named]
        starts = np.cumsum(size) - size
        nodes = groups.rows[np.arange(size.sum()) + np.repeat(groups.offsets[named] - starts, size)]
        plain = weighted = np.zeros(())
        for begin in range(0, len(nodes), _ROWS):
            mine = nodes[begin : begin + _ROWS]
            ends = np.clip(np.append(starts, len(nodes)) - begin, 0, len(mine))
            pick = csr_array((np.ones(len(mine)), np.arange(len(mine)), ends), shape=(len(named), len(mine)))
            rows = x.centers[mine].astype(np.float64)
            plain = plain + pick @ rows
            rows /= x.deviation[mine, None]
            weighted = weighted + pick @ rows
        middle = np.bincount(np.repeat(np.arange(len(named)), size), x.mean[nodes] / x.deviation[nodes])
        i, j = place.reshape(2, -1)
        inner = np.einsum("md,md->m", weighted[i], plain[j]) + np.einsum("md,md->m", plain[i], weighted[j])
        return np.asarray((inner - size[j] * middle[i] - size[i] * middle[j]) / 2)

    parts = (slice(begin, begin + step) for begin in range(0, len(a), step))
    return np.concatenate([np.zeros(0), *thread_map(few, parts)])
