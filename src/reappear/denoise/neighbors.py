"""The nearest neighbours of each node: tiled matrix products, then an exact order.

As in `linking`, products only propose; the similarity of each proposed pair is then computed in float64 in a fixed
order, here or, where products can (`NeighborProducts`), on their device. So neighbours are bit-identical for all
devices and tile sizes.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from reappear.core import LOCAL, Engine, thread_map

from .linking import read
from .products import BLAS, Products

_CHUNK_BYTES = 2 << 20  # of rows of an exact check
_FIRST = 2048  # columns from which the first bounds are taken


@dataclass(frozen=True)
class Neighbors:
    """The nearest other nodes of each node, nearest first; of equally near ones the lowest first.

    Attributes:
        index: int32; -1 = there is no other node.
        cosine: Their cosine similarity, float32; -inf where there is none.
    """

    index: Int[np.ndarray, "n k"]
    cosine: Float[np.ndarray, "n k"]


@dataclass(frozen=True)
class Search:
    """A piece of the work: the neighbours of rows `begin..end`.

    Attributes:
        begin: First row.
        end: The row after the last.
        k: How many neighbours.
        reach: Largest difference of the numbers of two neighbours.
        products: Where inner products are taken.
    """

    begin: int
    end: int
    k: int
    reach: int
    products: Products


def nearest_neighbors(
    centers: Float[np.ndarray, "n d"],
    k: int,
    *,
    reach: int | None = None,
    engine: Engine = LOCAL,
    products: Products = BLAS,
) -> Neighbors:
    """The `k` most similar other nodes of each, at most `reach` nodes apart.

    Takes 2·N²·d floating point operations, or 4·N·reach·d.

    Args:
        centers: Unit rows, or zeros for what is at similarity 0 to everything. Read by blocks, never copied as a whole.
        k: How many, 1 or more.
        reach: Largest difference of the numbers of two neighbours; `None` = any.
        engine: Runs the blocks, and where the result lies.
        products: Where inner products are taken; the neighbours do not depend on it.
    """
    count = len(centers)
    out = empty_neighbors(count, k, engine)
    reach = count if reach is None else reach
    blocks = [
        Search(begin, min(begin + products.block, count), k, reach, products)
        for begin in range(0, count, products.block)
    ]
    for block, found in zip(blocks, engine.map(neighbors_of_block, centers, blocks), strict=True):
        out.index[block.begin : block.end] = found.index
        out.cosine[block.begin : block.end] = found.cosine
    return out


def empty_neighbors(count: int, k: int, engine: Engine) -> Neighbors:
    """Room for the result, where the engine has it."""
    index = engine.zeros(count, k).view(np.int32)
    return Neighbors(index, engine.zeros(count, k))


@runtime_checkable
class NeighborProducts(Products, Protocol):
    """Products that leave nothing to be checked: they find neighbours where they are taken."""

    def nearest(self, centers: Float[np.ndarray, "n d"], block: Search) -> Neighbors:
        """The neighbours of a block's rows, bit for bit those that the processor finds."""
        ...


def neighbors_of_block(centers: Float[np.ndarray, "n d"], block: Search) -> Neighbors:
    """The neighbours of a block's rows."""
    products = block.products
    if isinstance(products, NeighborProducts):
        return products.nearest(centers, block)
    rows = read(centers, slice(block.begin, block.end))
    loaded = products.load(rows)
    height = products.tile[0]
    tops = range(0, len(rows), height)
    tiles = [
        _Tile(rows[top : top + height], loaded[top : top + height], block.begin + top, block, centers) for top in tops
    ]
    low, high = max(0, block.begin - block.reach), min(len(centers), block.end + block.reach)
    for left in range(low, high, products.block):
        columns = read(centers, slice(left, min(left + products.block, high)))
        across = products.load(columns)

        def look(tile: "_Tile", left: int = left, across: Any = across, stop: int = left + len(columns)) -> None:
            tile.look(across, left, stop)

        for _ in thread_map(look, tiles) if products.threads else map(look, tiles):
            pass
    found = list(thread_map(_Tile.nearest, tiles) if products.threads else map(_Tile.nearest, tiles))
    return Neighbors(np.concatenate([f.index for f in found]), np.concatenate([f.cosine for f in found]))


class _Tile:
    """Some rows, and what may be among their neighbours so far."""

    def __init__(
        self, rows: Float[np.ndarray, "r d"], loaded: Any, top: int, block: Search, centers: Float[np.ndarray, "n d"]
    ) -> None:
        self._rows, self._loaded, self._top, self._block, self._centers = rows, loaded, top, block, centers
        self._margin = 2 * block.products.error(rows.shape[1])
        self._limit = np.full(len(rows), -np.inf)
        self._row = np.zeros(0, np.int64)
        self._column = np.zeros(0, np.int64)
        self._inner = np.zeros(0, np.float32)
        self._pruned = 0

    def look(self, columns: Any, left: int, right: int) -> None:
        """Compares with the nodes `left..right`, as far as they are within reach."""
        reach, width = self._block.reach, self._block.products.tile[1]
        begin = max(left, self._top - reach)
        right = min(right, self._top + len(self._rows) + reach)
        while begin < right:
            end = min(begin + (width if self._pruned else min(width, _FIRST)), right)
            self._compare(columns[begin - left : end - left], begin, end)
            begin = end

    def _compare(self, columns: Any, begin: int, end: int) -> None:
        k = self._block.k
        found, inner = self._block.products.at_least(self._loaded, columns, self._limit)
        row, column = np.divmod(found, end - begin)
        column += begin
        gap = np.abs(column - (row + self._top))
        mine = (gap > 0) & (gap <= self._block.reach)
        if not self._pruned:  # all pairs: a bound is found faster in a table than by sorting
            table = np.where(mine, inner, -np.inf).reshape(len(self._rows), end - begin)
            if end - begin > k:
                self._limit = np.partition(table, -k, axis=1)[:, -k] - self._margin
                mine &= inner >= self._limit[row]
            self._pruned = 1
        self._row = np.concatenate([self._row, row[mine]])
        self._column = np.concatenate([self._column, column[mine]])
        self._inner = np.concatenate([self._inner, inner[mine]])
        if len(self._row) > 2 * max(self._pruned, k * len(self._rows)):
            self._prune()

    def _prune(self) -> None:
        """Leaves out what cannot be a neighbour any more."""
        order = np.lexsort((-self._inner, self._row))
        row, inner = self._row[order], self._inner[order]
        last = np.searchsorted(row, np.arange(len(self._rows))) + self._block.k - 1
        there = np.minimum(last, len(row) - 1)
        full = (last < len(row)) & (row[there] == np.arange(len(self._rows)))
        self._limit[full] = np.maximum(self._limit[full], inner[there[full]] - self._margin)
        kept = order[inner >= self._limit[row]]
        self._row, self._column, self._inner = self._row[kept], self._column[kept], self._inner[kept]
        self._pruned = len(kept)

    def nearest(self) -> Neighbors:
        """The neighbours, once all nodes were compared."""
        if len(self._row):
            self._prune()
        return exact_neighbors(self._rows, self._centers, self._row, self._column, self._block.k)


def exact_neighbors(
    rows: Float[np.ndarray, "r d"],
    centers: Float[np.ndarray, "n d"],
    row: Int[np.ndarray, " m"],
    column: Int[np.ndarray, " m"],
    k: int,
) -> Neighbors:
    """The `k` nearest of proposed neighbours, by float64 sums whose order nothing changes."""
    cosine = np.empty(len(row), np.float32)
    step = max(1, _CHUNK_BYTES // (8 * rows.shape[1]))
    for some in (slice(begin, begin + step) for begin in range(0, len(row), step)):
        terms = rows[row[some]].astype(np.float64)
        terms *= read(centers, column[some])
        cosine[some] = terms.sum(axis=1)  # not a BLAS: numpy adds up a row in an order of its own
    order = np.lexsort((column, -cosine, row))
    row, column, cosine = row[order], column[order], cosine[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    kept = place < k
    out = Neighbors(np.full((len(rows), k), -1, np.int32), np.full((len(rows), k), -np.inf, np.float32))
    out.index[row[kept], place[kept]] = column[kept]
    out.cosine[row[kept], place[kept]] = cosine[kept]
    return out
