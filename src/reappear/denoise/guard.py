"""Against chains, where one wrong link joins two crowds: what the paper leaves to the threshold (ambiguity 13)."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array

from reappear.core import SettingsError

from .groups import add_rows
from .links import Links
from .steps import is_same

Guard = Literal["none", "diameter", "cut"]
GUARD: Guard = "none"
SPREAD = 2.0
"""Largest diameter of a group, in σ_drm."""

_SHARED = 0.6
_ROWS = 4096


def check_guard(guard: Guard, spread: float) -> None:
    """Refuses what is no guard."""
    if guard not in ("none", "diameter", "cut"):
        raise SettingsError(f"guard: must be none, diameter or cut, got {guard!r}")
    if not spread >= 1:
        raise SettingsError(f"spread: must be 1 (complete linkage) or more, got {spread}")


class Diameter:
    """No two members of a group may lie farther apart than `limit`.

    Args:
        centers: Unit rows.
        limit: A cosine distance.
    """

    def __init__(self, centers: Float[np.ndarray, "n d"], limit: float) -> None:
        self._centers, self._limit = centers, limit

    def suspects(self, group: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " g"]:
        """Which groups may be too wide; the others lie within a cap that is narrow enough."""
        middle = np.zeros((int(group.max(initial=-1)) + 1, self._centers.shape[1]), np.float32)
        for begin in range(0, len(group), _ROWS):
            add_rows(middle, group[begin : begin + _ROWS], self._centers[begin : begin + _ROWS])
        middle /= np.maximum(np.linalg.norm(middle, axis=1, keepdims=True), 1e-12)
        nearest = np.ones(len(middle), np.float32)
        for begin in range(0, len(group), _ROWS):
            mine = group[begin : begin + _ROWS]
            np.minimum.at(nearest, mine, np.einsum("nd,nd->n", middle[mine], self._centers[begin : begin + _ROWS]))
        radius = np.arccos(np.clip(nearest, -1, 1))
        return np.asarray((2 * radius > np.arccos(max(-1.0, 1 - self._limit))) & (np.bincount(group) > 2))

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
    """Links that a cut goes through: their ends share less than 60 % of the smaller neighbourhood.

    A node's neighbourhood is itself and all nodes linked to it. Members of one crowd know each other's neighbours; at
    the two ends of a bridge between crowds stand strangers.
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
