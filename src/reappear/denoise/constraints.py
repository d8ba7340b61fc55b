"""People seen at the same time in one video are not one person: a veto in every merge."""

import numpy as np
from jaxtyping import Bool, Int

from reappear.core import TrackletSet

from .groups import runs
from .links import Links


def overlapping_pairs(
    tracklets: TrackletSet, present: Bool[np.ndarray, " t"], overlap: float
) -> Int[np.ndarray, "p 2"]:
    """All pairs of tracklets of one video that share `overlap` seconds or more, from those that are `present`.

    Tracklets whose times are unknown (NaN) are not known to share any. With 0 a shared frame is enough: two boxes in
    it are two people, if the detector never cuts one body in two.
    """
    kept = np.flatnonzero(present & ~np.isnan(tracklets.start))
    order = kept[np.lexsort((tracklets.start[kept], tracklets.video[kept]))]
    video, start, end = tracklets.video[order], tracklets.start[order], tracklets.end[order]
    pairs = [np.zeros((0, 2), np.int64)]
    for begin, stop in runs(video):
        last = begin + np.searchsorted(start[begin:stop], end[begin:stop], side="right")
        length = np.maximum(last - np.arange(begin, stop) - 1, 0)
        left = np.repeat(np.arange(begin, stop), length)
        right = left + 1 + np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        pairs.append(np.sort(order[np.stack([left, right], axis=1)], axis=1))
    both = np.concatenate(pairs)
    ends = np.minimum(tracklets.end[both[:, 0]], tracklets.end[both[:, 1]])
    return np.asarray(both[ends - np.maximum(tracklets.start[both[:, 0]], tracklets.start[both[:, 1]]) >= overlap])


class Constraint:
    """Nodes that must not be joined, because they hold tracklets that share a stretch of one video."""

    def __init__(self, tracklets: TrackletSet, node: Int[np.ndarray, " t"], count: int, overlap: float) -> None:
        """`node` is the node of each tracklet; -1 = in none."""
        pairs = np.sort(node[overlapping_pairs(tracklets, node >= 0, overlap)], axis=1)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        self._pairs = np.unique(pairs, axis=0)
        self._count = count

    def __len__(self) -> int:
        """How many pairs of nodes are apart for good."""
        return len(self._pairs)

    def violated(self, group: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " g"]:
        """Which groups hold two nodes that must not be joined."""
        out = np.zeros(group.max(initial=-1) + 1, bool)
        first, second = group[self._pairs].T
        out[first[first == second]] = True
        return out

    def join(self, links: Links) -> tuple[Links, int]:
        """Joins nodes along `links` from the shortest, never two that must stay apart, or groups that hold such two.

        Returns:
            The links that joined two groups, and how many would have but were refused.
        """
        root = np.arange(self._count)
        nodes = np.unique(np.concatenate([links.first, links.second]))
        mine = np.isin(self._pairs, nodes).all(axis=1)
        foes: dict[int, set[int]] = {int(node): set() for node in nodes}
        for a, b in self._pairs[mine].tolist():
            foes[a].add(b)
            foes[b].add(a)
        kept, refused = [], 0
        order = np.lexsort((links.second, links.first, links.distance))
        for row in order.tolist():
            a, b = _find(root, int(links.first[row])), _find(root, int(links.second[row]))
            if a == b:
                continue
            if b in foes[a]:
                refused += 1
                continue
            root[b] = a
            kept.append(row)
            for other in foes.pop(b):
                foes[other].remove(b)
                foes[other].add(a)
                foes[a].add(other)
        return links[np.array(kept, np.int64)], refused


def _find(root: Int[np.ndarray, " n"], node: int) -> int:
    while root[node] != node:
        root[node] = root[root[node]]
        node = int(root[node])
    return node
