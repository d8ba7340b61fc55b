"""Average linkage of the tracklets of all videos, in place of the closures of Eq. 6 and 7 (not in the paper)."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from reappear.core import LOCAL, Assignment, Engine, SettingsError, TrackletSet, thread_map

from .approximate import Approximate, approximate_neighbors
from .average import Similarities, average_linkage
from .constraints import CannotLink, Constraint
from .joining import Merged, components
from .linking import read
from .links import Links
from .neighbors import Neighbors, nearest_neighbors
from .nodes import Nodes
from .normalize import COHORT, mean_silhouette, normalize, similar_pairs
from .probability import expected_precision, least_for, link_probability
from .products import BLAS, Products
from .rules import NO_RULES, Rules
from .trace import Trace

STAGE = "average-link"

LEAST = 4.0
"""Smallest mean similarity of two clusters that are linked, in standard deviations of their neighbourhoods (z)."""

FEWEST = 35
"""Nodes from which there is a neighbourhood to compare with."""

_SKIPS = (2, 3, 4, 6, 8, 11, 15, 20, 26, 32)
_SKIPPED_PER_VISIT = 3
_LOOKED_AT = 20_000  # nodes among which the number to skip is chosen
_GROUP = 50  # of these in a group of near ones, on average, or more
_ROWS = 4096


def average_link(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    least: float = LEAST,
    precision: float | None = None,
    skip: int | None = None,
    place: Int[np.ndarray, " t"] | None = None,
    radius: int | None = None,
    approximate: Approximate | None = None,
    rules: Rules = NO_RULES,
    trace: Trace | None = None,
    engine: Engine = LOCAL,
    products: Products = BLAS,
) -> Assignment:
    """Links identities of one and of several videos by constrained average linkage. Not in the paper.

    1. The mean of its place is subtracted from each tracklet (`center_by_place`).
    2. Similarities are normalised by the neighbourhood of both nodes (`normalize`).
    3. Clusters merge, the most similar first, while the mean similarity of all pairs of nodes of two is `least`, unless
       they hold tracklets that cannot be linked (`average_linkage`).
    4. How sure each merge is, is read off the clusters that were left apart (`link_probability`).

    A neighbourhood must not be full of visits of the same person, so its nearest nodes are left out: as many as make
    clusters clearest between places (`mean_silhouette`), but at most three for each other visit found. Of 40,000 nodes
    and more this is judged by some 20,000, in groups of near ones.

    Args:
        tracklets: All crops.
        assignment: Where they are now.
        least: Smallest mean similarity of two clusters that are linked, in standard deviations, more than 0 (z).
        precision: Link less, so that this share of the linked pairs is expected to be one person, 0..1; `None` = as
            `least` gives it. Nothing is linked where the most similar do not reach it.
        skip: Nearest neighbours left out of a neighbourhood, 0..32; `None` = chosen as above.
        place: The camera of each tracklet, or what else changes how people look; the video if not given.
        radius: Half width of the sliding range of neighbours in nodes; `None` = all.
        approximate: Search an index instead of all pairs; misses some neighbours.
        rules: Cannot-link constraints and review decisions; the guard is not needed.
        trace: Records links with their probability, refusals, and with an index the share of neighbours that it found.
            The two tracklets of a link are the most similar pair of the two clusters (in one of 500 links the next);
            their distance is that of their vectors less the means of their places.
        engine: Where neighbours are searched, and where centroids lie.
        products: Where inner products are taken; identities are the same everywhere.

    Returns:
        The assignment; unchanged where there are fewer than `FEWEST` nodes.

    Raises:
        SettingsError: A setting out of range.
    """
    if not least > 0:
        raise SettingsError(f"least: must be more than 0, got {least}")
    if precision is not None and not 0 < precision < 1:
        raise SettingsError(f"precision: must lie between 0 and 1, got {precision}")
    if skip is not None and not 0 <= skip <= _SKIPS[-1]:
        raise SettingsError(f"skip: must lie in 0..{_SKIPS[-1]}, got {skip}")
    place = tracklets.video if place is None else place
    nodes = Nodes.centered(tracklets, assignment, place, engine)
    count = len(nodes.representative)
    if count < FEWEST:
        return assignment
    k = _SKIPS[-1] + COHORT
    if approximate is None:
        neighbors = nearest_neighbors(nodes.centers, k, reach=radius, engine=engine, products=products)
    else:
        neighbors, recall = approximate_neighbors(nodes.centers, k, approximate, engine)
        if trace is not None:
            trace.recall[STAGE] = recall
    cannot_link = rules.cannot_link(tracklets, assignment.tracklet)
    places = np.unique(place[nodes.representative], return_inverse=True)[1]
    linking = _Linking(
        nodes.centers, neighbors, least, Constraint(cannot_link, nodes.of_tracklet), places, engine.memory_bytes
    )
    if skip is None:
        skip = linking.part(cannot_link, nodes.of_tracklet).clearest()
    made = linking.joined(skip, precision)
    if trace is not None:
        trace.skipped[STAGE] = skip
        trace.precision[STAGE] = expected_precision(made.sizes, made.probability)
    return nodes.grouped(STAGE, assignment, made, cannot_link, trace)


@dataclass
class _Linking:
    """Average linkage for any number of skipped neighbours."""

    centers: Float[np.ndarray, "n d"]
    neighbors: Neighbors
    least: float
    constraint: Constraint
    place: Int[np.ndarray, " n"]
    memory_bytes: int

    def part(self, cannot_link: CannotLink, node: Int[np.ndarray, " t"]) -> "_Linking":
        """Some of many nodes, which are like all of them: groups of near ones, evenly spread; else all."""
        step = len(self.centers) // _LOOKED_AT
        if step < 2:
            return self
        some = np.flatnonzero(_near_groups(self.neighbors) % step == 0)
        number = np.full(len(self.centers) + 1, -1, np.int32)  # the last is that of no node
        number[some] = np.arange(len(some))
        here = Neighbors(number[self.neighbors.index[some]], self.neighbors.cosine[some])
        constraint = Constraint(cannot_link, number[node])
        return _Linking(read(self.centers, some), here, self.least, constraint, self.place[some], self.memory_bytes)

    def clusters(self, similarities: Similarities, least: float) -> Merged:
        links = similar_pairs(similarities, self.neighbors, least, self.memory_bytes)
        return average_linkage(similarities, links, least, self.constraint)

    def joined(self, skip: int, precision: float | None) -> Merged:
        """The clusters, and the probability of each merge."""
        similarities = normalize(self.centers, self.neighbors, skip)
        made = self.clusters(similarities, self.least)
        sure = link_probability(similarities, self.neighbors, made, self.constraint, self.least)
        if precision is None:
            return replace(made, probability=sure)
        least = least_for(precision, made.similarity, made.sizes, sure)
        fewer = self.clusters(similarities, least)  # of the same merges, some named by another pair of nodes
        mine = made.similarity >= least
        return replace(
            fewer,
            kept=made.kept[mine],
            similarity=made.similarity[mine],
            sizes=made.sizes[mine],
            probability=sure[mine],
        )

    def clearest(self) -> int:
        """The number of skipped neighbours.

        People who come back often fill their own neighbourhoods, so that few of their visits are found unless many
        neighbours are skipped; and the more are skipped, the more people are put together. So it is the number that
        makes the clearest clusters, of those that are at most `_SKIPPED_PER_VISIT` for each other visit found. Fewer
        never find more visits, so numbers that are too large by what a larger one found are not tried.
        """
        clarity: dict[int, float] = {}
        most = float(_SKIPS[-1])
        for skip in reversed(_SKIPS):
            if skip > max(most, _SKIPS[0]):
                continue
            group = self.clusters(normalize(self.centers, self.neighbors, skip), self.least).group
            size = np.bincount(group)
            visits = (size**2).sum() / size.sum()  # in the cluster of a node
            most = _SKIPPED_PER_VISIT * (visits - 1)
            if skip <= max(most, _SKIPS[0]):
                clarity[skip] = mean_silhouette(self.centers, self.neighbors, group, self.place)
        return max(sorted(clarity), key=clarity.__getitem__)


def _near_groups(neighbors: Neighbors) -> Int[np.ndarray, " n"]:
    """Groups of some `_GROUP` near nodes or more: each group joins that of its nearest neighbour (Borůvka 1926).

    Returns:
        The group of each node, numbered from 0 in the order of their first nodes.
    """
    count = groups = len(neighbors.index)
    group = np.arange(count)

    def outside(begin: int) -> Int[np.ndarray, "m 2"]:
        """Nodes with neighbours in other groups, and the place of the nearest of these among their neighbours."""
        index = neighbors.index[begin : begin + _ROWS]
        other = (index >= 0) & (group[index] != group[begin : begin + _ROWS, None])
        row = np.flatnonzero(other.any(axis=1))
        return np.stack([row + begin, other[row].argmax(axis=1)], axis=1)

    while count < _GROUP * groups:
        node, place = np.concatenate(list(thread_map(outside, range(0, count, _ROWS)))).T
        own, other = group[node], group[neighbors.index[node, place]]
        order = np.lexsort((-neighbors.cosine[node, place], own))
        nearest = order[np.unique(own[order], return_index=True)[1]]
        ends = np.sort(np.stack([own[nearest], other[nearest]]), axis=0)
        joined = components(groups, Links(ends[0], ends[1], np.zeros(len(nearest))))
        group, before, groups = joined[group], groups, int(joined.max()) + 1
        if groups == before:
            break
    return group
