"""Galleries that compute similarities with queries: by NumPy here, or on the device of a backend."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from reappear.core import thread_map

TIE = 1e-6
"""Similarities closer than this, about the resolution of float32, are equal."""


@dataclass(frozen=True)
class Block:
    """Some queries, and what they may find.

    Attributes:
        number: Which queries of all.
        query: Their unit vectors.
        hidden: Gallery rows that none of them looks at.
        same: Gallery rows of each query's person, and those that are the query's own image; -1 fills up.
        findable: Which of `same` the query may find; the others it passes over.
    """

    number: Int[np.ndarray, " b"]
    query: Float[np.ndarray, "b d"]
    hidden: Int[np.ndarray, " h"]
    same: Int[np.ndarray, "b m"]
    findable: Bool[np.ndarray, "b m"]


@runtime_checkable
class Gallery(Protocol):
    """Compares a gallery with queries, a block at a time."""

    def wrong_before(self, block: Block) -> Int[np.ndarray, "b m"]:
        """Images of others at least as similar as each findable match, nearest match first; a tie is lost.

        Rows are filled up with -1.
        """
        ...

    def nearest(self, block: Block, length: int) -> tuple[Int[np.ndarray, "b k"], Float[np.ndarray, "b k"]]:
        """The nearest rows that each query may find, and their similarity, of equals the earlier; filled up with -1."""
        ...

    def histograms(
        self, block: Block, bins: int, upper: float
    ) -> tuple[Int[np.ndarray, "b bins"], Int[np.ndarray, "b bins"]]:
        """How many distances `1 - similarity` lie in each of `bins` parts of [0, upper]: matches, and other people.

        What lies beyond `upper` is in the last bin.
        """
        ...


@runtime_checkable
class GalleryFactory(Protocol):
    """A backend: builds a gallery on one device."""

    def __call__(self, gallery: Float[np.ndarray, "g d"], scale: Float[np.ndarray, " g"]) -> Gallery:
        """Builds a gallery of `gallery`, whose rows times `scale` are of unit length."""
        ...


class NumpyGallery:
    """On the processor.

    Args:
        gallery: Features; never copied.
        scale: What brings each row to unit length.
    """

    def __init__(self, gallery: Float[np.ndarray, "g d"], scale: Float[np.ndarray, " g"]) -> None:
        self._gallery, self._scale = gallery, scale
        self._room = np.empty((0, len(gallery)), np.float32)

    def wrong_before(self, block: Block) -> Int[np.ndarray, "b m"]:
        """See `Gallery`."""
        similarity = self.similarity(block)
        out = np.full(block.same.shape, -1, np.int64)

        def count(number: int) -> None:
            row, same = similarity[number], block.same[number]
            matches = row[same[block.findable[number]]]
            if not len(matches):
                return
            bars = np.sort(matches)[::-1] - np.float32(TIE)
            own = np.sort(row[same[same >= 0]])  # images of the query's own person are not wrong
            reaches_last = row >= bars[-1]
            few = np.count_nonzero(reaches_last) < len(row) // 8  # picking costs more than it saves where many do
            near = np.sort(row[reaches_last] if few else row)
            reached = len(near) - np.searchsorted(near, bars)
            out[number, : len(bars)] = reached - (len(own) - np.searchsorted(own, bars))

        for _ in thread_map(count, range(len(similarity))):
            pass
        return out

    def nearest(self, block: Block, length: int) -> tuple[Int[np.ndarray, "b k"], Float[np.ndarray, "b k"]]:
        """See `Gallery`."""
        similarity = self.similarity(block)
        index = np.full((len(similarity), length), -1, np.int64)
        found = np.full((len(similarity), length), np.nan, np.float32)
        for number, row in enumerate(similarity):
            row[block.same[number][(block.same[number] >= 0) & ~block.findable[number]]] = -np.inf
            bar = np.partition(row, -length)[-length] if length < len(row) else -np.inf
            near = np.flatnonzero((row >= bar) & (row > -np.inf))
            near = near[np.argsort(-row[near], kind="stable")][:length]
            index[number, : len(near)], found[number, : len(near)] = near, row[near]
        return index, found

    def histograms(
        self, block: Block, bins: int, upper: float
    ) -> tuple[Int[np.ndarray, "b bins"], Int[np.ndarray, "b bins"]]:
        """See `Gallery`."""
        similarity = self.similarity(block)
        shape = len(similarity), bins
        matches, others = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for number, row in enumerate(similarity):
            there, findable = block.same[number] >= 0, block.findable[number]
            place = np.clip((1 - row) * np.float32(bins / upper), 0, bins - 1).astype(np.int32)
            place[np.isneginf(row)] = bins  # not looked at
            matches[number] = np.bincount(place[block.same[number][findable]], minlength=bins + 1)[:bins]
            place[block.same[number][there]] = bins
            others[number] = np.bincount(place, minlength=bins + 1)[:bins]
        return matches, others

    def similarity(self, block: Block) -> Float[np.ndarray, "b g"]:
        """Cosines; -inf for hidden rows. Good until the next call."""
        if len(self._room) < len(block.query):
            self._room = np.empty((len(block.query), len(self._gallery)), np.float32)
        room = self._room[: len(block.query)]
        np.matmul(block.query, self._gallery.T, out=room)
        room *= self._scale
        room[:, block.hidden] = -np.inf
        return room
