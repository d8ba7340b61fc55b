"""Links and neighbours by an index instead of all pairs: nearly all of them, and how many is measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from reappear.core import LOCAL, Engine, SettingsError, generator

from .linking import LINK_BYTES, CountedLinks, Proposed, gathered, least_inner, read
from .links import Links
from .neighbors import Neighbors, empty_neighbors, exact_neighbors
from .products import BLAS

_BATCH = 512  # rows searched together: a crowd of 100,000 then takes some 600 MB
_HALF = 2.0**-10  # more than the float16 of the index may be off


@dataclass(frozen=True)
class Approximate:
    """How well an index has to find links.

    Attributes:
        recall: Share of links wanted, 0..1; the search widens until a sample of rows finds as many.
        sample: Rows compared with all others to choose the width, and as many again to measure the result.
        seed: Of the sample.
    """

    recall: float = 0.99
    sample: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise SettingsError(f"recall: must be more than 0 and at most 1, got {self.recall}")
        if self.sample < 1:
            raise SettingsError(f"sample: must be 1 or more, got {self.sample}")

    def rows(self, count: int) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
        """The rows of `count` that the width is chosen by, and those that the result is measured on."""
        drawn = generator(self.seed, "approximate").permutation(count)[: 2 * self.sample]
        return drawn[: self.sample], drawn[-self.sample :]


def approximate_links(
    centers: Float[np.ndarray, "n d"],
    sigma_drm: float,
    approximate: Approximate,
    *,
    thin: bool = True,
    memory_bytes: int = LOCAL.memory_bytes,
) -> tuple[Links, float | None]:
    """Most of the links of all pairs; each that is found is one that `find_links` finds, with the same distance.

    Rows are sorted into 2√N cells by k-means and kept in float16 (faiss IVF); a row is compared with those of the
    nearest cells. A link is found if either of its nodes finds the other.

    Args:
        centers: Unit rows, or zeros; float16 or float32.
        sigma_drm: Largest distance of a link.
        approximate: The share of links wanted.
        thin: As in `find_links`.
        memory_bytes: Bytes for links, as of an engine.

    Returns:
        The links, and the share of the links of a sample of rows that are among them before any were thinned;
        `None` where these rows have none.
    """
    count = len(centers)
    choose, measure = approximate.rows(count)
    index = _index(centers, approximate.seed)
    _widen(index, centers, choose, sigma_drm, approximate.recall)
    truth = _keys(_of_all(centers, measure, sigma_drm), count)
    seen = np.zeros(len(truth), bool)

    def found() -> Iterator[CountedLinks]:
        for begin in range(0, count, _BATCH):
            links = _search(index, centers, np.arange(begin, min(begin + _BATCH, count)), sigma_drm)
            seen[:] |= np.isin(truth, _keys(links, count))
            yield CountedLinks.of(links)

    links = gathered(found(), count, sigma_drm, memory_bytes // LINK_BYTES, thin).links
    return links, float(seen.mean()) if len(truth) else None


def approximate_neighbors(
    centers: Float[np.ndarray, "n d"], k: int, approximate: Approximate, engine: Engine = LOCAL
) -> tuple[Neighbors, float]:
    """Most of the `k` nearest other nodes of each, and their exact similarities.

    Args:
        centers: Unit rows, or zeros; float16 or float32.
        k: How many neighbours.
        approximate: The share of neighbours wanted.
        engine: Where the result lies; the index is searched in this process.

    Returns:
        The neighbours, and the share of those of a sample of rows that are among them.
    """
    count = len(centers)
    choose, measure = approximate.rows(count)
    index = _index(centers, approximate.seed)
    truth = _nearest(centers, choose, k)
    index.nprobe = 1
    while index.nprobe < index.nlist and _recall(truth, _found(index, centers, choose, k)) < approximate.recall:
        index.nprobe = min(2 * index.nprobe, index.nlist)
    out = empty_neighbors(count, k, engine)
    for begin in range(0, count, _BATCH):
        some = slice(begin, begin + _BATCH)
        x = read(centers, some)
        found = _found(index, centers, np.arange(begin, begin + len(x)), k)
        row, place = np.nonzero(found >= 0)
        exact = exact_neighbors(x, centers, row, found[row, place], k)
        out.index[some], out.cosine[some] = exact.index, exact.cosine
    return out, _recall(_nearest(centers, measure, k), out.index[measure])


def _found(
    index: Any, centers: Float[np.ndarray, "n d"], rows: Int[np.ndarray, " m"], k: int
) -> Int[np.ndarray, "m k"]:
    """Neighbours of these rows that the index finds; -1 = none."""
    parts = [np.zeros((0, k + 1), np.int64)]
    for begin in range(0, len(rows), _BATCH):
        some = rows[begin : begin + _BATCH]
        found = index.search(read(centers, some), k + 1)[1]
        parts.append(np.where(found == some[:, None], -1, found))
    return np.concatenate(parts)


def _nearest(centers: Float[np.ndarray, "n d"], rows: Int[np.ndarray, " m"], k: int) -> Int[np.ndarray, "m k"]:
    """The nearest other nodes of these rows, in any order; -1 = none."""
    x = read(centers, rows)
    index, inner = np.full((len(rows), k), -1), np.full((len(rows), k), -np.inf, np.float32)
    for begin in range(0, len(centers), BLAS.block):
        others = np.arange(begin, min(begin + BLAS.block, len(centers)))
        products = x @ read(centers, slice(begin, begin + BLAS.block)).T
        products[rows[:, None] == others] = -np.inf
        index = np.hstack([index, np.broadcast_to(others, products.shape)])
        inner = np.hstack([inner, products])
        nearest = np.argpartition(-inner, k - 1, axis=1)[:, :k]
        index, inner = (np.take_along_axis(table, nearest, axis=1) for table in (index, inner))
    return np.where(np.isfinite(inner), index, -1)


def _recall(truth: Int[np.ndarray, "m k"], found: Int[np.ndarray, "m l"]) -> float:
    hits = sum(int(np.isin(one[one >= 0], other).sum()) for one, other in zip(truth, found, strict=True))
    return hits / max(1, int((truth >= 0).sum()))


def _index(centers: Float[np.ndarray, "n d"], seed: int) -> Any:
    import faiss  # takes a while to load, and few ask for it

    count, width = centers.shape
    cells = max(1, min(count, round(2 * count**0.5)))
    index: Any = faiss.index_factory(width, f"IVF{cells},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.seed = 5, seed
    index.cp.min_points_per_centroid = 1
    rng = generator(seed, "cells")
    index.train(read(centers, np.sort(rng.permutation(count)[: 32 * cells])))
    for begin in range(0, count, 16_384):
        index.add(read(centers, slice(begin, begin + 16_384)))
    return index


def _widen(
    index: Any, centers: Float[np.ndarray, "n d"], rows: Int[np.ndarray, " m"], sigma: float, wanted: float
) -> None:
    """Lets twice as many cells be searched, until enough of the links of these rows are found."""
    truth = _of_all(centers, rows, sigma)
    keys = _keys(truth, len(centers))
    nodes = np.unique(np.concatenate([truth.first, truth.second]))
    index.nprobe = 1
    while index.nprobe < index.nlist:
        batches = (nodes[begin : begin + _BATCH] for begin in range(0, len(nodes), _BATCH))
        found = Links.joined([_search(index, centers, batch, sigma) for batch in batches])
        if np.isin(keys, _keys(found, len(centers))).sum() >= wanted * len(keys):
            return
        index.nprobe = min(2 * index.nprobe, index.nlist)


def _search(index: Any, centers: Float[np.ndarray, "n d"], rows: Int[np.ndarray, " m"], sigma: float) -> Links:
    """The links of these rows that the index finds."""
    x = read(centers, rows)
    ends, _, found = index.range_search(x, least_inner(sigma) - _HALF)
    others, column = np.unique(found, return_inverse=True)
    row = np.repeat(np.arange(len(rows)), np.diff(ends.astype(np.int64)))
    return _links(rows, row, x, others, column, read(centers, others), sigma)


def _of_all(centers: Float[np.ndarray, "n d"], rows: Int[np.ndarray, " m"], sigma: float) -> Links:
    """All links of these rows."""
    x = read(centers, rows)
    limit = least_inner(sigma) - BLAS.error(centers.shape[1])
    parts = []
    for begin in range(0, len(centers), BLAS.block):
        others = np.arange(begin, min(begin + BLAS.block, len(centers)))
        columns = read(centers, slice(begin, begin + BLAS.block))
        row, column = np.divmod(BLAS.at_least(x, columns, limit)[0], len(others))
        parts.append(_links(rows, row, x, others, column, columns, sigma))
    return Links.joined(parts).in_order()


def _links(
    rows: Int[np.ndarray, " r"],
    row: Int[np.ndarray, " m"],
    x: Float[np.ndarray, "r d"],
    others: Int[np.ndarray, " c"],
    column: Int[np.ndarray, " m"],
    columns: Float[np.ndarray, "c d"],
    sigma: float,
) -> Links:
    """The links among proposed pairs, given by their positions in `rows` and `others`."""
    found = Proposed(row, column, np.empty(len(row), np.float32), x, columns, 0, 0).links(sigma)
    a, b = rows[found.first], others[found.second]
    return Links(np.minimum(a, b), np.maximum(a, b), found.distance)[a != b].in_order()


def _keys(links: Links, count: int) -> Int[np.ndarray, " n"]:
    return np.asarray(links.first * count + links.second)
