"""Galleries that compute similarities with queries: by NumPy here, or on the device of a backend."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from reappear.core import thread_map

TIE = 1e-6
"""Similarities of unit rows closer than this, about the resolution of float32, are equal."""

_CHUNK_BYTES = 1 << 20  # of similarities that a thread works on at once: what a cache holds


@dataclass(frozen=True)
class Block:
    """Some queries, and what they may find.

    Attributes:
        number: Which queries of all.
        query: Their vectors; a similarity is the inner product with a row of the gallery.
        offset: `offset - similarity` is the cosine distance.
        hidden: Gallery rows that none of them looks at.
        same: Gallery rows of each query's person, and those that are the query's own image; -1 fills up.
        findable: Which of `same` the query may find; the others it passes over.
        tie: Similarities closer than this to that of each of `same` are equal to it: the rounding of products.
    """

    number: Int[np.ndarray, " b"]
    query: Float[np.ndarray, "b d"]
    offset: Float[np.ndarray, " b"]
    hidden: Int[np.ndarray, " h"]
    same: Int[np.ndarray, "b m"]
    findable: Bool[np.ndarray, "b m"]
    tie: Float[np.ndarray, "b m"]

    def __getitem__(self, rows: np.ndarray) -> "Block":
        at = (self.number[rows], self.query[rows], self.offset[rows], self.hidden)
        return Block(*at, self.same[rows], self.findable[rows], self.tie[rows])

    def of_cosines(self) -> "Block":
        """The same for a backend whose similarities are no products with the vectors, but 1 - distance in [0, 1]."""
        ones = np.ones_like
        return replace(self, offset=ones(self.offset), tie=TIE * ones(self.tie))


@runtime_checkable
class Gallery(Protocol):
    """Compares a gallery with queries, a block at a time."""

    def wrong_before(self, block: Block) -> Int[np.ndarray, "b m"]:
        """Images of others at least as similar as each findable match, nearest match first; a tie is lost.

        Rows are filled up with -1.
        """
        ...

    def nearest(self, block: Block, length: int) -> tuple[Int[np.ndarray, "b k"], Float[np.ndarray, "b k"]]:
        """The nearest rows that each query may find, and their distance, of equals the earlier; filled up with -1."""
        ...

    def histograms(
        self, block: Block, bins: int, upper: float
    ) -> tuple[Int[np.ndarray, "b bins"], Int[np.ndarray, "b bins"]]:
        """How many cosine distances lie in each of `bins` parts of [0, upper]: matches, and other people.

        What lies beyond `upper` is in the last bin.
        """
        ...


@runtime_checkable
class GalleryFactory(Protocol):
    """A backend: builds a gallery on one device."""

    def __call__(self, gallery: Float[np.ndarray, "g d"], scale: Float[np.ndarray, " g"]) -> Gallery:
        """Builds a gallery of the rows of `gallery` times `scale`."""
        ...


class NumpyGallery:
    """On the processor.

    Args:
        gallery: Features; never copied.
        scale: Factor of each row.
    """

    def __init__(self, gallery: Float[np.ndarray, "g d"], scale: Float[np.ndarray, " g"]) -> None:
        self._gallery, self._scale = gallery, scale
        self._buffer = np.empty((0, len(gallery)), np.float32)

    def wrong_before(self, block: Block) -> Int[np.ndarray, "b m"]:
        """See `Gallery`."""
        products = self.products(block)
        out = np.full(block.same.shape, -1, np.int64)

        def count(rows: slice) -> None:
            similarity = self._visible(products[rows], block)
            same, there = block.same[rows], block.same[rows] >= 0
            own = np.take_along_axis(similarity, np.maximum(same, 0), axis=1)
            bars = np.where(block.findable[rows], own - block.tie[rows], -np.inf)
            bars = -np.sort(-bars, axis=1)  # the nearest match first
            similarity[np.nonzero(there)[0], same[there]] = -np.inf  # images of the query's own person are not wrong
            for row, bar, places, matches in zip(similarity, bars, out[rows], block.findable[rows].sum(1), strict=True):
                if matches:
                    places[:matches] = _at_least(row, bar[:matches])

        step = max(1, _CHUNK_BYTES // (4 * max(1, len(self._scale))))
        for _ in thread_map(count, (slice(first, first + step) for first in range(0, len(products), step))):
            pass
        return out

    def nearest(self, block: Block, length: int) -> tuple[Int[np.ndarray, "b k"], Float[np.ndarray, "b k"]]:
        """See `Gallery`."""
        similarity = self._visible(self.products(block), block)
        index = np.full((len(similarity), length), -1, np.int64)
        found = np.full((len(similarity), length), np.nan, np.float32)
        for number, row in enumerate(similarity):
            row[block.same[number][(block.same[number] >= 0) & ~block.findable[number]]] = -np.inf
            bar = np.partition(row, -length)[-length] if length < len(row) else -np.inf
            near = np.flatnonzero((row >= bar) & (row > -np.inf))
            near = near[np.argsort(-row[near], kind="stable")][:length]
            index[number, : len(near)], found[number, : len(near)] = near, row[near]
        return index, block.offset[:, None] - found

    def histograms(
        self, block: Block, bins: int, upper: float
    ) -> tuple[Int[np.ndarray, "b bins"], Int[np.ndarray, "b bins"]]:
        """See `Gallery`."""
        similarity = self._visible(self.products(block), block)
        shape = len(similarity), bins
        matches, others = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for number, row in enumerate(similarity):
            there, findable = block.same[number] >= 0, block.findable[number]
            place = np.clip((block.offset[number] - row) * np.float32(bins / upper), 0, bins - 1).astype(np.int32)
            place[np.isneginf(row)] = bins  # not looked at
            matches[number] = np.bincount(place[block.same[number][findable]], minlength=bins + 1)[:bins]
            place[block.same[number][there]] = bins
            others[number] = np.bincount(place, minlength=bins + 1)[:bins]
        return matches, others

    def products(self, block: Block) -> Float[np.ndarray, "b g"]:
        """Inner products with the gallery before they are scaled. Good until the next call."""
        if len(self._buffer) < len(block.query):
            self._buffer = np.empty((len(block.query), len(self._gallery)), np.float32)
        products = self._buffer[: len(block.query)]
        np.matmul(block.query, self._gallery.T, out=products)
        return products

    def _visible(self, products: Float[np.ndarray, "b g"], block: Block) -> Float[np.ndarray, "b g"]:
        """Similarities in the place of products; -inf for hidden rows."""
        products *= self._scale
        products[:, block.hidden] = -np.inf
        return products


def _at_least(row: Float[np.ndarray, " g"], bars: Float[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """How many values of `row`, which is overwritten, reach each of the falling `bars`."""
    reaches_last = row >= bars[-1]
    if np.count_nonzero(reaches_last) < len(row) // 8:  # picking costs more than it saves where many do
        row = row[reaches_last]
    row.sort()
    return len(row) - np.searchsorted(row, bars)
