"""Guards against chains, where one wrong link merges two groups (not in the paper; ambiguity 13)."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array

from reappear.core import SettingsError

from .groups import add_rows, to_unit
from .links import Links
from .thresholds import is_same

Guard = Literal["none", "diameter", "cut"]
GUARD: Guard = "none"
MAX_DIAMETER = 1.5
"""Largest diameter of a group, in σ_drm."""

_SHARED = 0.6
_ROWS = 4096


def check_guard(guard: Guard, max_diameter: float) -> None:
    """Raises SettingsError for an invalid guard."""
    if guard not in ("none", "diameter", "cut"):
        raise SettingsError(f"guard: must be none, diameter or cut, got {guard!r}")
    if not max_diameter >= 1:
        raise SettingsError(f"max_diameter: must be 1 (complete linkage) or more, got {max_diameter}")


class Diameter:
    """No two members of a group may lie farther apart than `limit`.

    Args:
        centers: Unit rows.
        limit: A cosine distance.
    """

    def __init__(self, centers: Float[np.ndarray, "n d"], limit: float) -> None:
        self._centers, self._limit = centers, limit

    def may_exceed(self, group: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " g"]:
        """Groups that may exceed the limit; the others lie within a small enough cap."""
        size = np.bincount(group)
        end, order = np.cumsum(size), np.argsort(group, kind="stable")
        radius = np.zeros(len(size))
        first = 0
        while first < len(size):  # groups of up to _ROWS nodes in total, or a single larger one
            begin = end[first] - size[first]
            stop = max(first + 1, int(np.searchsorted(end, begin + _ROWS, side="right")))
            nodes = order[begin : end[stop - 1]]
            radius[first:stop] = self._radius(nodes, group[nodes] - first, stop - first)
            first = stop
        return np.asarray((2 * radius > np.arccos(max(-1.0, 1 - self._limit))) & (size > 2))

    def _radius(
        self, nodes: Int[np.ndarray, " m"], group: Int[np.ndarray, " m"], count: int
    ) -> Float[np.ndarray, " count"]:
        """The largest angle between each group's mean and one of its nodes."""
        blocks = [slice(begin, begin + _ROWS) for begin in range(0, len(nodes), _ROWS)]
        middle = np.zeros((count, self._centers.shape[1]), np.float32)
        for some in blocks:
            add_rows(middle, group[some], self._centers[nodes[some]])
        to_unit(middle)
        nearest = np.ones(count, np.float32)
        for some in blocks:
            inner = np.einsum("nd,nd->n", middle[group[some]], self._centers[nodes[some]])
            np.minimum.at(nearest, group[some], inner)
        return np.asarray(np.arccos(np.clip(nearest, -1, 1)))

    def refuses(self, first: list[int], second: list[int]) -> bool:
        """Whether two groups of nodes, each narrow enough, are too wide together. Looks at each pair of nodes once."""
        few, many = sorted((first, second), key=len)
        rows = self._centers[few]
        for begin in range(0, len(many), _ROWS):
            farthest = 1 - (rows @ self._centers[many[begin : begin + _ROWS]].T).min(keepdims=True)
            if not is_same(farthest, self._limit).all():
                return True
        return False


def weak(count: int, links: Links) -> Bool[np.ndarray, " m"]:
    """Links whose ends share less than 60 % of the smaller neighbourhood.

    A node's neighbourhood is itself and all nodes linked to it. Members of one group share neighbours; the ends of a
    false link between groups do not.
    """
    ends = np.concatenate([links.first, links.second, np.arange(count)])
    others = np.concatenate([links.second, links.first, np.arange(count)])
    near = coo_array((np.ones(len(ends), np.int32), (ends, others)), shape=(count, count)).tocsr()
    size = np.diff(near.indptr)
    out = np.zeros(len(links), bool)
    order = np.argsort(links.first, kind="stable")
    edges = np.searchsorted(links.first[order], np.arange(0, count + _ROWS, _ROWS))
    for top, begin, end in zip(range(0, count, _ROWS), edges[:-1].tolist(), edges[1:].tolist(), strict=False):
        mine = order[begin:end]
        if len(mine):
            both = (near[top : top + _ROWS] @ near).tocsr()
            shared = np.asarray(both[links.first[mine] - top, links.second[mine]])
            least = np.minimum(size[links.first[mine]], size[links.second[mine]])
            out[mine] = shared < _SHARED * least
    return out
