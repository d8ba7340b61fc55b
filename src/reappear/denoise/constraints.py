"""People seen at the same time in one video are not one person: a veto in every merge."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from reappear.core import TrackletSet

from .groups import runs


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


def is_reliable(tracklets: TrackletSet, owner: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " t"]:
    """Mask of the tracklets that keep more than half of their own crops, where `owner` is the tracklet of each crop.

    Only the times of these are evidence of where a person was: a tracklet that lost most crops shows another person.
    """
    mine = owner == tracklets.origin
    return np.asarray(2 * np.bincount(owner[mine], minlength=len(tracklets)) > np.diff(tracklets.offsets))


@dataclass(frozen=True)
class CannotLink:
    """Cannot-link pairs of tracklets: different people, whatever their distance.

    Attributes:
        pairs: The tracklets.
        decided: True: by a review decision; False: both are seen at the same time.
    """

    pairs: Int[np.ndarray, "p 2"]
    decided: Bool[np.ndarray, " p"]


class Constraint:
    """Nodes that must not be joined, because they contain tracklets of different people."""

    def __init__(self, cannot_link: CannotLink, node: Int[np.ndarray, " t"]) -> None:
        """`node` is the node of each tracklet; -1 = in none."""
        pairs = np.sort(node[cannot_link.pairs], axis=1)
        kept = np.flatnonzero((pairs[:, 0] >= 0) & (pairs[:, 0] != pairs[:, 1]))
        count = int(node.max(initial=0)) + 1
        key, first = np.unique(pairs[kept, 0] * count + pairs[kept, 1], return_index=True)
        self._pairs = np.stack([key // count, key % count], axis=1)
        self._witness = kept[first]

    def __len__(self) -> int:
        """Number of cannot-link pairs of nodes."""
        return len(self._pairs)

    @property
    def nodes(self) -> tuple[Int[np.ndarray, "p 2"], Int[np.ndarray, " p"]]:
        """The pairs of nodes, the lower one first, and the row of `CannotLink` behind each."""
        return self._pairs, self._witness

    def violated(self, group: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " g"]:
        """Mask of the groups that contain a cannot-link pair."""
        out = np.zeros(group.max(initial=-1) + 1, bool)
        first, second = group[self._pairs].T
        out[first[first == second]] = True
        return out

    def among(self, nodes: Int[np.ndarray, " k"]) -> tuple[Int[np.ndarray, "p 2"], Int[np.ndarray, " p"]]:
        """Pairs of `nodes`, which are sorted, by their places in it, and the row of `CannotLink` behind each."""
        place = np.minimum(np.searchsorted(nodes, self._pairs), len(nodes) - 1)
        mine = (nodes[place] == self._pairs).all(axis=1)
        return place[mine], self._witness[mine]
