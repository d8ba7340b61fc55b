"""Finds pairs of nodes within a threshold: tiled matrix products, then an exact check of candidates.

Products propose every pair that could be within the threshold, given the rounding error. The distance of each candidate
is then computed in float64 in a fixed order. So links are bit-identical for all devices and tile sizes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int

from reappear.core import LOCAL, Engine, SettingsError, counted, thread_map

from .groups import to_unit
from .joining import shortest_forest
from .links import Links
from .products import BLAS, Products
from .thresholds import RESOLUTION, is_same

R = TypeVar("R")

LINK_BYTES = 128
"""Of one link while a forest is made of it."""

_CHUNK_BYTES = 2 << 20  # of rows of an exact check


@dataclass(frozen=True)
class Block:
    """A piece of the work: rows `begin..end`, each to be compared with up to `reach` rows after it.

    Attributes:
        begin: First row.
        end: The row after the last.
        sigma_drm: Largest distance of a link.
        reach: Largest `second - first`.
        products: Where inner products are taken.
        most: Most links to keep.
        thin: Whether links may be reduced to their minimum spanning forest if they are more than `most`.
    """

    begin: int
    end: int
    sigma_drm: float
    reach: int
    products: Products
    most: int
    thin: bool


def find_links(
    centers: Float[np.ndarray, "n d"],
    sigma_drm: float,
    *,
    reach: int | None = None,
    thin: bool = True,
    engine: Engine = LOCAL,
    products: Products = BLAS,
) -> Links:
    """All pairs within `sigma_drm` and at most `reach` nodes apart, in the order of their nodes.

    Args:
        centers: Unit rows, or zeros for what is at distance 1 from everything; rows of float16, as a memory map may
            hold them, are normalised again. Read by blocks, never copied as a whole.
        sigma_drm: Largest distance of a link.
        reach: Largest `second - first`; `None` = any.
        thin: Whether links are reduced to their minimum spanning forest where all would take more than the engine's
            `memory_bytes`: the same components. It depends only on the number of links and `memory_bytes`.
        engine: Runs the blocks; its memory bounds the links, in total and per block.
        products: Where inner products are taken; the links do not depend on it.

    Raises:
        SettingsError: Links exceed the engine's memory and must all be kept.
    """
    most = engine.memory_bytes // LINK_BYTES
    blocks = _blocks(len(centers), sigma_drm, reach, products, most, thin)
    return gathered(engine.map(links_of_block, centers, blocks), len(centers), sigma_drm, most, thin).links


def count_pairs(
    centers: Float[np.ndarray, "n d"],
    sigma_drm: float,
    *,
    reach: int | None = None,
    engine: Engine = LOCAL,
    products: Products = BLAS,
) -> int:
    """The exact number of pairs that `find_links` would find, without keeping them."""
    blocks = _blocks(len(centers), sigma_drm, reach, products, 0, False)
    return sum(engine.map(pairs_of_block, centers, blocks))


@dataclass(frozen=True)
class CountedLinks:
    """Links in the order of their nodes, or the minimum spanning forest of them, and how many there were.

    Attributes:
        first: One node of each link.
        second: The other node.
        distance: Cosine distance of the two.
        total: Links before they were reduced to a forest.
    """

    first: Int[np.ndarray, " n"]
    second: Int[np.ndarray, " n"]
    distance: Float[np.ndarray, " n"]
    total: int

    @classmethod
    def of(cls, links: Links, total: int | None = None) -> "CountedLinks":
        """Links from arrays; `total` defaults to their number."""
        return cls(links.first, links.second, links.distance, len(links) if total is None else total)

    @property
    def links(self) -> Links:
        """The selected links."""
        return Links(self.first, self.second, self.distance)


def links_of_block(centers: Float[np.ndarray, "n d"], block: Block) -> CountedLinks:
    """The links of a block's rows to those after them."""
    parts = map(CountedLinks.of, _each_tile(links_of_tile, centers, block))
    return gathered(parts, len(centers), block.sigma_drm, block.most, block.thin)


def pairs_of_block(centers: Float[np.ndarray, "n d"], block: Block) -> int:
    """How many links a block has."""
    return sum(_each_tile(pairs_of_tile, centers, block))


def _blocks(
    count: int, sigma_drm: float, reach: int | None, products: Products, most: int, thin: bool
) -> Iterator[Block]:
    reach = count if reach is None else reach
    for begin in range(0, count, products.block):
        yield Block(begin, min(begin + products.block, count), sigma_drm, reach, products, most, thin)


def gathered(parts: Iterable[CountedLinks], count: int, sigma_drm: float, most: int, thin: bool) -> CountedLinks:
    """All links, or their minimum spanning forest if they are more than `most`.

    The forest of a union is that of the forests of its parts, and of equal distances the lowest nodes decide: so the
    result does not depend on how links were cut into parts. In between, at most twice the links of a forest are held.
    """
    found: list[Links] = []
    total, held, bound = 0, 0, most
    for part in parts:
        found.append(part.links)
        total, held = total + part.total, held + len(part.links)
        if total > most and not thin:
            raise SettingsError(
                f"sigma_drm: more than {counted(most, 'pair')} within {sigma_drm:.3g} would not fit in memory; "
                f"give more --memory, lower sigma_drm (--thresholds), or link without constraints, guard and review"
            )
        if held > bound:
            found = [shortest_forest(count, Links.joined(found).in_order())]
            held = len(found[0])
            bound = max(most, 2 * held)
    links = Links.joined(found).in_order()
    if total > most:
        links = shortest_forest(count, links).in_order()
    return CountedLinks.of(links, total)


@dataclass(frozen=True)
class Proposed:
    """Pairs that may be linked.

    Attributes:
        first: One node of each.
        second: The other.
        inner: Their inner product as proposed.
        rows: Rows that hold the first nodes, from node `top` on.
        columns: Rows that hold the second nodes, from node `left` on.
        top: Node of the first of `rows`.
        left: Node of the first of `columns`.
    """

    first: Int[np.ndarray, " m"]
    second: Int[np.ndarray, " m"]
    inner: Float[np.ndarray, " m"]
    rows: Float[np.ndarray, "r d"]
    columns: Float[np.ndarray, "c d"]
    top: int
    left: int

    def __getitem__(self, kept: np.ndarray) -> "Proposed":
        at = (self.first[kept], self.second[kept], self.inner[kept])
        return Proposed(*at, self.rows, self.columns, self.top, self.left)

    def links(self, sigma_drm: float) -> Links:
        """Those within the threshold, and their distances, by float64 sums whose order nothing changes."""
        distance = np.empty(len(self.first))
        step = max(1, _CHUNK_BYTES // (8 * self.rows.shape[1]))
        for begin in range(0, len(distance), step):
            some = slice(begin, begin + step)
            terms = self.rows[self.first[some] - self.top].astype(np.float64)
            terms *= self.columns[self.second[some] - self.left]
            distance[some] = 1 - terms.sum(axis=1)  # not a BLAS: numpy adds up a row in an order of its own
        same = is_same(distance, sigma_drm)
        return Links(self.first[same], self.second[same], np.maximum(distance[same], 0).astype(np.float32))


def least_inner(sigma_drm: float) -> float:
    """The smallest inner product of a link."""
    return 1 - sigma_drm - RESOLUTION


@dataclass(frozen=True)
class Tile:
    """One product of a block.

    Attributes:
        rows: Unit rows from node `top` on.
        columns: Unit rows from node `left` on, to be compared with them.
        loaded: Both, where products are taken.
        top: Node of the first of `rows`.
        left: Node of the first of `columns`.
        block: The block.
    """

    rows: Float[np.ndarray, "r d"]
    columns: Float[np.ndarray, "c d"]
    loaded: tuple[Any, Any]
    top: int
    left: int
    block: Block

    def proposed(self) -> Proposed:
        """Every pair that can be within the threshold given the error of the products, and few others."""
        limit = least_inner(self.block.sigma_drm) - self.error
        found, inner = self.block.products.at_least(*self.loaded, limit)
        first, second = np.divmod(found, len(self.columns))
        first, second = first + self.top, second + self.left
        kept = (second > first) & (second - first <= self.block.reach)
        return Proposed(first[kept], second[kept], inner[kept], self.rows, self.columns, self.top, self.left)

    @property
    def error(self) -> float:
        """Largest error of an inner product."""
        return self.block.products.error(self.rows.shape[1])


def links_of_tile(tile: Tile) -> Links:
    """The links of a tile."""
    return tile.proposed().links(tile.block.sigma_drm)


def pairs_of_tile(tile: Tile) -> int:
    """Number of links of a tile; only pairs near the threshold need the exact check."""
    proposed = tile.proposed()
    unsure = proposed.inner < least_inner(tile.block.sigma_drm) + tile.error
    return int(np.count_nonzero(~unsure)) + len(proposed[unsure].links(tile.block.sigma_drm))


def _each_tile(look: Callable[[Tile], R], centers: Float[np.ndarray, "n d"], block: Block) -> Iterator[R]:
    """What `look` gives for each tile, in their order."""
    tiles = _tiles(centers, block)
    return thread_map(look, tiles) if block.products.threads else map(look, tiles)


def _tiles(centers: Float[np.ndarray, "n d"], block: Block) -> Iterator[Tile]:
    """Products that hold every pair of a block, and few that are of none."""
    products = block.products
    height, width = products.tile
    last = min(block.end + block.reach, len(centers))
    rows = read(centers, slice(block.begin, block.end))
    loaded = products.load(rows)
    for left in range(block.begin, last, products.block):
        right = min(left + products.block, last)
        columns = rows if (left, right) == (block.begin, block.end) else read(centers, slice(left, right))
        across = loaded if columns is rows else products.load(columns)
        for top in range(block.begin, block.end, height):
            bottom = min(top + height, block.end)
            stop = min(right, bottom + block.reach)
            for start in range(max(left, top), stop, width):
                down = slice(top - block.begin, bottom - block.begin)
                over = slice(start - left, min(start + width, stop) - left)
                yield Tile(rows[down], columns[over], (loaded[down], across[over]), top, start, block)


def read(centers: Float[np.ndarray, "n d"], which: "slice | Int[np.ndarray, ' m']") -> Float[np.ndarray, "m d"]:
    """Rows in float32, of a slice without a copy where they are."""
    rows = centers[which]
    return np.asarray(rows) if rows.dtype == np.float32 else to_unit(rows.astype(np.float32))
