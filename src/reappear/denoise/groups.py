"""Crops by the tracklet or identity that holds them, read in bounded blocks and never copied whole."""

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from reappear.core import LOCAL, Engine, InputError, lengths_to_offsets, offsets_to_owner, thread_map

T = TypeVar("T")

_BLOCK_BYTES = 4 << 20  # of more, memory is given back and asked for anew each time
_ROWS = 4096  # read at a time; of a mapped file each may bring 64 KB into memory, which then goes again


@dataclass(frozen=True)
class Groups:
    """Rows of group `g` are `rows[offsets[g]:offsets[g+1]]`, in the order of the crops."""

    rows: Int[np.ndarray, " n"]
    offsets: Int[np.ndarray, " _"]

    @classmethod
    def of(cls, owner: Int[np.ndarray, " all"], count: int) -> "Groups":
        """Groups rows by their owner in `0..count-1`; rows of -1 are in none."""
        kept = np.flatnonzero(owner >= 0)
        mine = owner[kept]
        sizes = np.bincount(mine, minlength=count)
        return cls(kept[np.argsort(mine, kind="stable")], lengths_to_offsets(sizes))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> Int[np.ndarray, " g"]:
        """How many rows each group has."""
        return np.diff(self.offsets)


def read_unit(embeddings: Float[np.ndarray, "n d"], rows: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m d"]:
    """These crops as float32 rows of unit length.

    Raises:
        InputError: A row is zero or not finite.
    """
    x = np.empty((len(rows), embeddings.shape[1]), np.float32)
    for begin in range(0, len(rows), _ROWS):
        x[begin : begin + _ROWS] = embeddings[rows[begin : begin + _ROWS]]
        release_pages(embeddings)
    norms = np.sqrt(np.einsum("nd,nd->n", x, x))
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        raise InputError(
            f"embeddings: row {rows[bad[0]]} is zero or not finite, and {len(bad) - 1} more like it; "
            f"discard these crops (tracklet -1) or embed them again"
        )
    x /= norms[:, None]
    return np.asarray(x)


def release_pages(matrix: Float[np.ndarray, "n d"]) -> None:
    """Releases the pages of a memory-mapped matrix, which would otherwise stay resident once read.

    The system keeps the pages while nothing else needs the room, so that reading them again costs next to nothing.
    What was written stays written, but where a map is private to this process: that is left alone.
    """
    base: object = matrix
    shared = not matrix.flags.writeable
    while isinstance(base, np.ndarray):
        shared = shared or getattr(base, "mode", "c") != "c"
        base = base.base
    if isinstance(base, mmap.mmap) and shared:
        base.madvise(mmap.MADV_DONTNEED)


def _each_block(
    embeddings: Float[np.ndarray, "all d"],
    groups: Groups,
    work: Callable[[Int[np.ndarray, " m"], Float[np.ndarray, "m d"]], T],
) -> Iterator[T]:
    """What is made of the owner of each row and the row itself, block by block in the order of the groups."""
    owner = offsets_to_owner(groups.offsets)
    step = max(1, _BLOCK_BYTES // (4 * max(1, embeddings.shape[1])))

    def read(begin: int) -> T:
        some = slice(begin, begin + step)
        return work(owner[some], read_unit(embeddings, groups.rows[some]))

    return thread_map(read, range(0, len(owner), step))


def centroids(
    embeddings: Float[np.ndarray, "all d"], groups: Groups, engine: Engine = LOCAL
) -> Float[np.ndarray, "g d"]:
    """The direction of the mean of each group's unit rows, as unit rows.

    Cosine distance does not see a centroid's length, so it is dropped. Groups that are empty, or whose rows cancel
    out, have a row of zeros: at distance 1 from everything.
    """
    total = engine.zeros(len(groups), embeddings.shape[1])

    def few(
        owner: Int[np.ndarray, " m"], x: Float[np.ndarray, "m d"]
    ) -> tuple[Int[np.ndarray, " h"], Float[np.ndarray, "h d"]]:
        """Writes the sums of all but the first and the last group, which go on in the blocks beside this one."""
        here, part = sum_rows(owner, x)
        total[here[1:-1]] = part[1:-1]
        release_pages(total)
        ends = [0, -1][: len(here)]
        return here[ends], part[ends]

    for here, part in _each_block(embeddings, groups, few):
        total[here] += part
    return to_unit(total)


def sum_rows(
    owner: Int[np.ndarray, " m"], rows: Float[np.ndarray, "m d"]
) -> tuple[Int[np.ndarray, " h"], Float[np.ndarray, "h d"]]:
    """The owners there are, and the sum of the rows of each."""
    here, place = np.unique(owner, return_inverse=True)
    pick = csr_array((np.ones(len(owner)), (place, np.arange(len(owner)))), shape=(len(here), len(owner)))
    return here, pick @ rows


def add_rows(sums: Float[np.ndarray, "g d"], owner: Int[np.ndarray, " n"], rows: Float[np.ndarray, "n d"]) -> None:
    """Adds each row to the sum of its owner."""

    def few(some: slice) -> tuple[Int[np.ndarray, " h"], Float[np.ndarray, "h d"]]:
        part = sum_rows(owner[some], rows[some])
        release_pages(rows)
        return part

    for here, part in thread_map(few, row_slices(rows)):
        sums[here] += part


def rows_of(matrix: Float[np.ndarray, "n d"], rows: Int[np.ndarray, " m"], engine: Engine) -> Float[np.ndarray, "m d"]:
    """These rows of a float32 matrix, where the engine has room for them; the matrix itself if they are all of it."""
    if len(rows) == len(matrix):
        return matrix
    out = engine.zeros(len(rows), matrix.shape[1])
    for some in row_slices(out):
        out[some] = matrix[rows[some]]
        release_pages(matrix)
        release_pages(out)
    return out


def to_unit(sums: Float[np.ndarray, "g d"]) -> Float[np.ndarray, "g d"]:
    """Sums of unit rows scaled to unit length, in place; those that cancel out become zero."""

    def few(some: slice) -> None:
        rows = sums[some]
        norms = np.sqrt(np.einsum("gd,gd->g", rows, rows))[:, None]
        np.divide(rows, norms, out=rows, where=norms > 1e-5)
        rows[norms[:, 0] <= 1e-5] = 0
        release_pages(sums)

    for _ in thread_map(few, row_slices(sums)):
        pass
    return sums


def row_slices(matrix: Float[np.ndarray, "n d"]) -> list[slice]:
    """Cuts rows into blocks of bounded size."""
    step = max(1, _BLOCK_BYTES // (4 * max(1, matrix.shape[1])))
    return [slice(begin, begin + step) for begin in range(0, len(matrix), step)]


def distance_to_own(
    embeddings: Float[np.ndarray, "all d"], groups: Groups, centers: Float[np.ndarray, "g d"]
) -> Float[np.ndarray, " n"]:
    """Cosine distance of each row of `groups.rows` to the centroid of its group."""

    def few(owner: Int[np.ndarray, " m"], x: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " m"]:
        distance = 1 - np.einsum("md,md->m", x, centers[owner])
        release_pages(centers)
        return np.asarray(distance)

    return np.concatenate([np.zeros(0, np.float32), *_each_block(embeddings, groups, few)])


def usable_rows(embeddings: Float[np.ndarray, "n d"], rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " _"]:
    """Those of `rows` with an embedding: neither zero nor NaN."""
    good = [np.zeros(0, bool)]
    for begin in range(0, len(rows), _ROWS):
        x = embeddings[rows[begin : begin + _ROWS]]
        good.append(np.isfinite(x).all(1) & x.any(1))
        release_pages(embeddings)
    return np.asarray(rows[np.concatenate(good)])


def runs(values: Int[np.ndarray, " n"]) -> list[tuple[int, int]]:
    """Begin and end of each stretch of equal values.

    >>> runs(np.array([4, 4, 2]))
    [(0, 2), (2, 3)]
    """
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return list(pairwise(edges)) if len(values) else []


def renumber(identity: Int[np.ndarray, " t"]) -> Int[np.ndarray, " t"]:
    """Numbers identities from 0 without gaps, in the order of their first tracklet; -1 stays."""
    out = np.full(len(identity), -1, np.int64)
    kept = np.flatnonzero(identity >= 0)
    _, first, inverse = np.unique(identity[kept], return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    out[kept] = rank[inverse]
    return out
