"""k-reciprocal re-ranking (Zhong et al. 2017) on sparse matrices, in blocks.

The published algorithm holds several matrices of all images by all images. Here lists of neighbours and sparse rows
are held: memory grows with images × neighbours.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from reappear.core import InputError, SettingsError, counted, unit_rows

from .gallery import Block, GalleryFactory, NumpyGallery
from .retrieval_task import RetrievalTask

_KEPT = 4  # neighbours kept with their distance, in multiples of k1: most pairs that get a weight are among them
_PAIRS = 1 << 14
_FEATURES = 1 << 10  # pairs of features at once, so that they stay in the cache
_NEXT_TO_NOTHING = np.float32(1e-12)  # between rows that are alike, so that each is nearest to itself
_ROW = (1 << 32) - 1


def k_reciprocal_rerank(
    query: Float[np.ndarray, "q d"],
    gallery: Float[np.ndarray, "g d"],
    *,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    memory_mb: int = 256,
) -> Float[np.ndarray, "q g"]:
    """Distances that also ask whose neighbours the neighbours are (Zhong et al., CVPR 2017, Eq. 3-12).

    `(1 - weight) Jaccard + weight original`, where the original distance is the squared Euclidean one of unit vectors
    over the farthest of each row, as the public code has it; k1 and the half of it count neighbours without the image
    itself, k2 counts them with it.

    Args:
        query: Features, normalised here.
        gallery: Features, normalised here; without junk, for its neighbours would count.
        k1: Neighbours that are asked whether they are mutual.
        k2: Neighbours whose encodings are averaged; 1 = none.
        weight: Of the original distance, in [0, 1]; lambda of the paper.
        memory_mb: Bound of what is held at once beside features, neighbours and the result.

    Returns:
        Distances in [0, 1], the smaller the nearer.

    Raises:
        InputError: Features are zero, not finite, or of different widths.
        SettingsError: k1, k2 or weight is out of range.
    """
    encoding = encode(query, gallery, k1=k1, k2=k2, memory_mb=memory_mb)
    if not 0 <= weight <= 1:
        raise SettingsError(f"weight: must lie in 0..1, got {weight}")
    out = np.empty((len(query), len(gallery)), np.float32)
    step = _step(len(gallery), memory_mb)
    for begin in range(0, len(query), step):
        numbers = np.arange(begin, min(begin + step, len(query)))
        out[numbers] = encoding.distance(numbers, weight)
    return out


@dataclass(frozen=True)
class Encoding:
    """Queries and gallery as their k-reciprocal neighbours see them.

    Attributes:
        features: Unit rows, queries first.
        queries: How many rows are queries.
        farthest: `1 - cos` to the farthest row, for each row: what its distances are divided by.
        membership: How much each row belongs to each other one's neighbourhood; rows sum to 1 (V of the paper).
    """

    features: Float[np.ndarray, "n d"]
    queries: int
    farthest: Float[np.ndarray, " n"]
    membership: sparse.csr_array

    @cached_property
    def _columns(self) -> sparse.csc_array:
        return sparse.csc_array(self.membership[self.queries :])

    def distance(self, queries: Int[np.ndarray, " b"], weight: float) -> Float[np.ndarray, "b g"]:
        """The final distance of some queries to the whole gallery."""
        rows = self.features[queries] @ self.features[self.queries :].T
        np.subtract(1, rows, out=rows)
        rows *= np.float32(weight) / self.farthest[queries, None]
        rows += np.float32(1 - weight)
        gallery = self._columns
        for row, query in zip(rows, queries, strict=True):
            mine = slice(*self.membership.indptr[query : query + 2])
            columns, share = self.membership.indices[mine], self.membership.data[mine]
            begin, length = gallery.indptr[columns], np.diff(gallery.indptr)[columns]
            at = np.arange(length.sum()) + np.repeat(begin - np.cumsum(length) + length, length)
            smaller = np.minimum(gallery.data[at], np.repeat(share, length))
            common = np.bincount(gallery.indices[at], smaller, minlength=len(row))
            some = np.flatnonzero(common)
            row[some] -= (1 - weight) * common[some] / (2 - common[some])
        return np.asarray(rows)


def encode(
    query: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "g d"], *, k1: int, k2: int, memory_mb: int
) -> Encoding:
    """The sparse k-reciprocal encoding; arguments as for `k_reciprocal_rerank`."""
    for name, value in (("k1", k1), ("k2", k2), ("memory_mb", memory_mb)):
        if value < 1:
            raise SettingsError(f"{name}: must be 1 or more, got {value}")
    if query.shape[1] != gallery.shape[1]:
        raise InputError(
            f"query features have {counted(query.shape[1], 'value')} and gallery features {gallery.shape[1]}; "
            f"embed both with one model"
        )
    features = np.concatenate([unit_rows(query, name="query"), unit_rows(gallery, name="gallery")])
    near, distance, farthest = nearest_rows(features, min(len(features), max(_KEPT * k1, k1 + 1, k2)), memory_mb)
    membership = membership_of(features, near, distance, farthest, first=k1 + 1, half=int(np.around(k1 / 2)) + 1, k2=k2)
    return Encoding(features, len(query), farthest, membership)


def membership_of(
    features: Float[np.ndarray, "n d"],
    near: Int[np.ndarray, "n k"],
    distance: Float[np.ndarray, "n k"],
    scale: Float[np.ndarray, " n"],
    *,
    first: int,
    half: int,
    k2: int,
) -> sparse.csr_array:
    """How much each row belongs to each other one's neighbourhood (V of Zhong et al. 2017, Eq. 4-10); rows sum to 1.

    Args:
        features: Unit rows.
        near: The nearest rows of each, itself first.
        distance: `1 - cos` to them.
        scale: What distances of each row are divided by in the exponent.
        first: Neighbours, the row itself among them, that are asked whether they are mutual.
        half: The same for neighbours of neighbours.
        k2: Neighbours whose encodings are averaged; 1 = none.
    """
    pairs = sparse.coo_array(_expanded(_reciprocal(near[:, :first]), _reciprocal(near[:, :half])))
    row, column = pairs.coords
    shares = np.exp(-_distances(features, near, distance, row, column) / scale[row])
    shares /= np.bincount(row, shares, minlength=len(features))[row]
    membership = sparse.csr_array((shares.astype(np.float32), (row, column)), shape=(len(features),) * 2)
    if k2 > 1:
        membership = sparse.csr_array(_adjacency(near[:, :k2]) @ membership / np.float32(min(k2, len(features))))
    return membership


def reranked(
    task: RetrievalTask, *, k1: int = 20, k2: int = 6, weight: float = 0.3, memory_mb: int = 256
) -> GalleryFactory:
    """A backend for `rank_task` and `top` of this very task, which ranks by re-ranked distances.

    Raises:
        InputError: Queries are in the gallery too: they would be their own neighbours.
    """
    if task.own_images:
        raise InputError(
            f"the gallery has {counted(task.own_images, 'image')} of the queries too, which would be their own "
            "neighbours; take them out of the gallery, or do not re-rank"
        )
    shown = np.flatnonzero(task.gallery_ids >= 0)
    encoding = encode(task.query, task.gallery[shown], k1=k1, k2=k2, memory_mb=memory_mb)

    class Reranked(NumpyGallery):
        def __init__(self, gallery: Float[np.ndarray, "g d"], scale: Float[np.ndarray, " g"]) -> None:
            super().__init__(gallery, np.ones_like(scale))

        def wrong_before(self, block: Block) -> Int[np.ndarray, "b m"]:
            return super().wrong_before(block.of_cosines())

        def nearest(self, block: Block, length: int) -> tuple[Int[np.ndarray, "b k"], Float[np.ndarray, "b k"]]:
            return super().nearest(block.of_cosines(), length)

        def products(self, block: Block) -> Float[np.ndarray, "b g"]:
            out = np.full((len(block.number), len(task.gallery)), -np.inf, np.float32)
            out[:, shown] = 1 - encoding.distance(block.number, weight)
            return out

    return Reranked


def _step(columns: int, memory_mb: int) -> int:
    return max(1, (memory_mb << 20) // (12 * columns))


def nearest_rows(
    features: Float[np.ndarray, "n d"], kept: int, memory_mb: int
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"], Float[np.ndarray, " n"]]:
    """The nearest rows of each row, itself first, how far they are (`1 - cos`), and how far the farthest row is.

    Each pair is computed once and used for both of its rows, which is half of the whole product.
    """
    count = len(features)
    best = np.full((count, kept), _key(np.float32(np.inf), 0))
    farthest = np.full(count, _NEXT_TO_NOTHING)
    step = _step(count, memory_mb)
    for begin in range(0, count, step):
        end = min(begin + step, count)
        apart = features[begin:end] @ features[begin:].T
        np.subtract(1, apart, out=apart)
        np.maximum(apart, _NEXT_TO_NOTHING, out=apart)
        np.fill_diagonal(apart, 0)
        farthest[begin:] = np.maximum(farthest[begin:], apart.max(axis=0))
        farthest[begin:end] = np.maximum(farthest[begin:end], apart.max(axis=1))
        _keep_nearest(best[begin:end], apart, begin)
        _keep_nearest(best[end:], apart[:, end - begin :].T, begin)
    return (best & _ROW).astype(np.int32), _distance_of(best), farthest


def _keep_nearest(best: Int[np.ndarray, "r k"], apart: Float[np.ndarray, "r c"], first: int) -> None:
    """Sorts the nearest of `apart`, whose columns are rows from `first` on, into what was the nearest so far."""
    kept = best.shape[1]
    bar = _distance_of(best[:, -1])
    if apart.shape[1] > kept:
        bar = np.minimum(bar, np.partition(apart, kept - 1, axis=1)[:, kept - 1])
    row, column = np.divmod(np.flatnonzero(apart <= bar[:, None]), apart.shape[1])
    counts = np.bincount(row, minlength=len(best))
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    found = np.full((len(best), int(counts.max(initial=0))), _key(np.float32(np.inf), 0))
    found[row, place] = _key(apart[row, column], first + column)
    best[:] = np.sort(np.concatenate([best, found], axis=1), axis=1)[:, :kept]


def _key(distance: Any, row: Any) -> Any:
    """Sorts by distance, and of equals the earlier row: the bits of a float that is not negative sort as it does."""
    return np.asarray(distance).view(np.int32).astype(np.int64) << 32 | row


def _distance_of(key: Int[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    return np.asarray(key >> 32).astype(np.int32).view(np.float32)


def _adjacency(near: Int[np.ndarray, "n k"]) -> sparse.csr_array:
    return _rows_of_neighbors(near, np.ones(near.size, np.float32))


def _rows_of_neighbors(near: Int[np.ndarray, "n k"], values: np.ndarray) -> sparse.csr_array:
    """A matrix with these values at the neighbours of each row, in their order."""
    count, width = near.shape
    kind = sparse.get_index_dtype(maxval=near.size)
    offsets = np.arange(0, near.size + 1, width, dtype=kind)
    return sparse.csr_array((values, near.ravel().astype(kind), offsets), shape=(count, count))


def _reciprocal(near: Int[np.ndarray, "n k"]) -> sparse.csr_array:
    """1 where two rows are neighbours of each other (Eq. 3)."""
    forward = _adjacency(near)
    return sparse.csr_array(forward.multiply(forward.T.tocsr()))


def _expanded(mutual: sparse.csr_array, half: sparse.csr_array) -> sparse.csr_array:
    """With the mutual neighbours of those that share more than two thirds of theirs (Eq. 4)."""
    sizes = np.diff(half.indptr)
    out = []
    for begin in range(0, mutual.shape[0], _PAIRS):
        mine = sparse.csr_array(mutual[begin : begin + _PAIRS])
        common = sparse.csr_array((mine @ half.T).multiply(mine))
        common.data = (3 * common.data > 2 * sizes[common.indices]).astype(np.float32)
        common.eliminate_zeros()
        out.append(mine + common @ half)
    return sparse.csr_array(sparse.vstack(out))


def _distances(
    features: Float[np.ndarray, "n d"],
    near: Int[np.ndarray, "n k"],
    known: Float[np.ndarray, "n k"],
    row: Int[np.ndarray, " p"],
    column: Int[np.ndarray, " p"],
) -> Float[np.ndarray, " p"]:
    """`1 - cos` of pairs of rows: looked up among the neighbours kept, else computed."""
    place = _rows_of_neighbors(near, np.arange(1, near.size + 1))
    place.sort_indices()
    at = np.asarray(place[row, column]).ravel() - 1
    out = known.ravel()[at]
    lacking = np.flatnonzero(at < 0)
    for begin in range(0, len(lacking), _FEATURES):
        some = lacking[begin : begin + _FEATURES]
        out[some] = 1 - np.einsum("pd,pd->p", features[row[some]], features[column[some]])
    return np.asarray(out)
