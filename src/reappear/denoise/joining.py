"""Connected components of links, split where constraints forbid a join."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from .constraints import Constraint
from .guard import Diameter
from .links import Links

GUARDED = -1


@dataclass(frozen=True)
class Joined:
    """Result of joining links.

    Attributes:
        group: The group of each node.
        kept: Links that connect the groups, a spanning forest.
        refused: Links that would have joined two groups, refused by a constraint.
        witness: For each of these the row of `CannotLink` that forbids it; -1 = the guard does.
    """

    group: Int[np.ndarray, " n"]
    kept: Links
    refused: Links
    witness: Int[np.ndarray, " r"]

    @property
    def evidence(self) -> dict[str, np.ndarray]:
        """What is known of each kept link beside its distance."""
        return {}

    def without(self, cut: Links) -> "Joined":
        """The same with links that were cut before joining."""
        between = cut[self.group[cut.first] != self.group[cut.second]]
        witness = np.concatenate([self.witness, np.full(len(between), GUARDED)])
        return Joined(self.group, self.kept, Links.joined([self.refused, between]), witness)


@dataclass(frozen=True)
class Merged(Joined):
    """Result of average linkage: a kept link is a merge of two clusters.

    Attributes:
        similarity: For each kept link the mean similarity of the two clusters.
        sizes: The nodes of each of them.
        probability: How likely they are one person, 0..1; NaN = not estimated.
    """

    similarity: Float[np.ndarray, " k"]
    sizes: Int[np.ndarray, "k 2"]
    probability: Float[np.ndarray, " k"]

    @property
    def evidence(self) -> dict[str, np.ndarray]:
        """Similarity and probability."""
        return {"similarity": self.similarity, "probability": self.probability}


def shortest_forest(count: int, links: Links) -> Links:
    """Minimum spanning forest of the links; of equal ones those between the lowest nodes."""
    order = np.lexsort((links.second, links.first, links.distance))
    # Ranks as weights: no two are equal, so there is one minimum forest, and no weight is the zero that scipy drops.
    graph = coo_array((np.arange(1.0, len(order) + 1), (links.first[order], links.second[order])), shape=(count, count))
    kept = np.sort(minimum_spanning_tree(graph.tocsr()).data.astype(np.int64)) - 1
    return links[order[kept]]


def components(count: int, links: Links) -> Int[np.ndarray, " count"]:
    """The connected component of each node."""
    graph = coo_array((np.ones(len(links), np.int8), (links.first, links.second)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def join(count: int, links: Links, constraint: Constraint | None = None, diameter: Diameter | None = None) -> Joined:
    """Joins linked nodes into groups: the transitive closure of Eq. 6 and Eq. 7.

    Components with a cannot-link pair, or that may be too wide, are rebuilt link by link from the
    shortest, of equal ones those between the lowest nodes first. A link that would violate a constraint or exceed the
    diameter is refused: the component is split at its weakest links.
    """
    group = components(count, links)
    doubtful = np.zeros(int(group.max(initial=-1)) + 1, bool)
    if constraint is not None:
        doubtful |= constraint.violated(group)
    if diameter is not None:
        doubtful |= diameter.may_exceed(group)
    torn = doubtful[group[links.first]]
    whole = shortest_forest(count, links[~torn])
    if not torn.any():
        return Joined(group, whole, links[torn], np.zeros(0, np.int64))
    kept, refused, witness = _one_by_one(links[torn], constraint, diameter)
    kept = Links.joined([whole, kept])
    return Joined(components(count, kept), kept, refused, witness)


def _one_by_one(
    links: Links, constraint: Constraint | None, diameter: Diameter | None
) -> tuple[Links, Links, Int[np.ndarray, " r"]]:
    """Kruskal's forest with refusals. A refused pair of groups cannot link, nor can groups that absorb them."""
    links = links[np.lexsort((links.second, links.first, links.distance))]
    nodes, ends = np.unique(np.concatenate([links.first, links.second]), return_inverse=True)
    first, second = ends.reshape(2, -1)
    cannot_link: dict[int, dict[int, int]] = {}
    if constraint is not None:
        pairs, rows = constraint.among(nodes)
        for (a, b), row in zip(pairs.tolist(), rows.tolist(), strict=True):
            cannot_link.setdefault(a, {})[b] = row
            cannot_link.setdefault(b, {})[a] = row
    members = {place: [node] for place, node in enumerate(nodes.tolist())} if diameter is not None else {}
    root = list(range(len(nodes)))
    kept: list[int] = []
    refused: list[int] = []
    witness: list[int] = []
    left = np.arange(len(links))
    while len(left):
        some, left = left[: len(nodes)], left[len(nodes) :]
        for row, a, b in zip(some.tolist(), first[some].tolist(), second[some].tolist(), strict=True):
            a, b = find_root(root, a), find_root(root, b)
            if a == b:
                continue
            why = cannot_link.get(a, {}).get(b)
            if why is None and diameter is not None and diameter.refuses(members[a], members[b]):
                why = GUARDED
                cannot_link.setdefault(a, {})[b] = why
                cannot_link.setdefault(b, {})[a] = why
            if why is not None:
                refused.append(row)
                witness.append(why)
                continue
            kept.append(row)
            if len(cannot_link.get(a, ())) < len(cannot_link.get(b, ())):
                a, b = b, a
            root[b] = a
            if diameter is not None:
                members[a] += members.pop(b)
            for other, known in cannot_link.pop(b, {}).items():
                cannot_link[a].setdefault(other, known)
                cannot_link[other].setdefault(a, known)
                del cannot_link[other][b]
        # Most links are within groups by now and need not be processed one by one.
        flat = np.array([find_root(root, node) for node in range(len(nodes))])
        left = left[flat[first[left]] != flat[second[left]]]
    return links[np.array(kept, np.int64)], links[np.array(refused, np.int64)], np.array(witness, np.int64)


def find_root(root: list[int], node: int) -> int:
    """The node that stands for the group of this one; `root` is shortened on the way."""
    while root[node] != node:
        root[node] = root[root[node]]
        node = root[node]
    return node
