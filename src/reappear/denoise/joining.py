"""What follows from links: the components they hold together, less those that a constraint takes apart."""

import numpy as np
from jaxtyping import Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from .constraints import Constraint
from .links import Links


def shortest_forest(count: int, links: Links) -> Links:
    """The shortest links that hold the same components together; of equal ones those between the lowest nodes."""
    order = np.lexsort((links.second, links.first, links.distance))
    # Ranks as weights: no two are equal, so there is one minimum forest, and no weight is the zero that scipy drops.
    graph = coo_array((np.arange(1.0, len(order) + 1), (links.first[order], links.second[order])), shape=(count, count))
    kept = np.sort(minimum_spanning_tree(graph.tocsr()).data.astype(np.int64)) - 1
    return links[order[kept]]


def components(count: int, links: Links) -> Int[np.ndarray, " count"]:
    """The connected component of each node."""
    graph = coo_array((np.ones(len(links), np.int8), (links.first, links.second)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def join(count: int, links: Links, constraint: Constraint | None) -> tuple[Int[np.ndarray, " count"], Links, int]:
    """Joins linked nodes into groups: the transitive closure of Eq. 6 and Eq. 7.

    With a constraint, components that hold people who cannot be one are built anew, link by link from the shortest,
    and a link that would bring two such people together is refused: the component falls apart at its weakest links.

    Returns:
        The group of each node, the links that hold the groups together, and how many links were refused.
    """
    group = components(count, links)
    if constraint is None:
        return group, shortest_forest(count, links), 0
    broken = constraint.violated(group)[group]
    torn = broken[links.first]
    whole = shortest_forest(count, links[~torn])
    accepted, refused = constraint.join(links[torn])
    kept = Links.joined([whole, accepted])
    return components(count, kept), kept, refused
