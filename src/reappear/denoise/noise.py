"""The noise score n_S of an assignment, Eq. 1-3: exact, or for many identities from a random sample of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reappear.core import LOCAL, Assignment, Engine, SettingsError, TrackletSet, generator

from .groups import Groups, centroids, distance_to_own
from .linking import count_pairs, least_inner
from .products import BLAS, Products
from .thresholds import SIGMA_CST, SIGMA_DRM, check_sigma, deviates, is_same

ROWS = 4096
"""Identities in a sample; n_S of a million then costs a million × 4096 distances instead of half a million squared."""

_COLUMNS = 8192


@dataclass(frozen=True)
class Noise:
    """The terms of n_S.

    Attributes:
        identities: Number of identities with crops (M).
        inconsistent: Identities with a crop at least σ_cst from their centroid (sum of Eq. 1).
        similar_pairs: Unordered pairs of identities within σ_drm (half the sum of Eq. 2).
    """

    identities: int
    inconsistent: int
    similar_pairs: int

    @property
    def score(self) -> float:
        """n_S: (inconsistent + ordered similar pairs) / identities, in [0, M]; 0 where there are none."""
        if not self.identities:
            return 0.0
        return (self.inconsistent + 2 * self.similar_pairs) / self.identities


def noise_score(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    sigma_cst: float = SIGMA_CST,
    sigma_drm: float = SIGMA_DRM,
    engine: Engine = LOCAL,
    products: Products = BLAS,
) -> float:
    """n_S (CION Sec. 3.1, Eq. 1-3): inconsistent identities plus similar pairs of identities, per identity.

    An identity is inconsistent if its farthest crop is at least `sigma_cst` from the centroid of all its crops. A pair
    is similar if its centroids are within `sigma_drm`; as in the paper each pair counts twice, in both orders, and
    the sum is divided by M, so the score lies in [0, M]. Exact: all pairs are compared, in tiles of bounded memory.

    Args:
        tracklets: All crops.
        assignment: Where they are; discarded crops do not count.
        sigma_cst: Threshold of cosine distance inside an identity, 0..2 (σ_cst).
        sigma_drm: Threshold of cosine distance between identities, 0..2 (σ_drm).
        engine: Where pairs are compared, and where centroids lie.
        products: Where inner products are taken; the score is the same everywhere.
    """
    return noise_terms(
        tracklets, assignment, sigma_cst=sigma_cst, sigma_drm=sigma_drm, engine=engine, products=products
    ).score


def noise_terms(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    sigma_cst: float = SIGMA_CST,
    sigma_drm: float = SIGMA_DRM,
    engine: Engine = LOCAL,
    products: Products = BLAS,
) -> Noise:
    """The terms of `noise_score`."""
    check_sigma("sigma_cst", sigma_cst)
    check_sigma("sigma_drm", sigma_drm)
    centers, inconsistent = _look_inside(tracklets, assignment, sigma_cst, engine)
    return Noise(len(centers), inconsistent, count_pairs(centers, sigma_drm, engine=engine, products=products))


@dataclass(frozen=True)
class SampledNoise:
    """The terms of n_S, of which the second is estimated.

    Attributes:
        identities: Number of identities with crops (M).
        inconsistent: Identities with a crop at least σ_cst from their centroid (sum of Eq. 1), all of them counted.
        similar: Others within σ_drm of an identity (sum of Eq. 2, divided by M), the mean over the sample.
        error: Standard error of `similar`, and so of the score.
        rows: Identities in the sample.
    """

    identities: int
    inconsistent: int
    similar: float
    error: float
    rows: int

    @property
    def score(self) -> float:
        """Unbiased estimate of n_S; its standard error is `error`."""
        return self.inconsistent / self.identities + self.similar if self.identities else 0.0


def sampled_noise(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    sigma_cst: float = SIGMA_CST,
    sigma_drm: float = SIGMA_DRM,
    rows: int = ROWS,
    seed: int = 0,
    engine: Engine = LOCAL,
) -> SampledNoise:
    """n_S (CION Sec. 3.1, Eq. 1-3) with the pairs of a random sample of identities with all others.

    Of each identity in the sample, drawn without replacement, all others within `sigma_drm` are counted. With `rows` at
    least the number of identities it is exact, and its error is 0.

    Args:
        tracklets: All crops.
        assignment: Where they are; discarded crops do not count.
        sigma_cst: Threshold of cosine distance inside an identity, 0..2 (σ_cst).
        sigma_drm: Threshold of cosine distance between identities, 0..2 (σ_drm).
        rows: Identities in the sample, 2 or more.
        seed: Of the draw.
        engine: Where pairs are compared, and where centroids lie.
    """
    check_sigma("sigma_cst", sigma_cst)
    check_sigma("sigma_drm", sigma_drm)
    if rows < 2:
        raise SettingsError(f"rows: must be 2 or more, got {rows}")
    centers, inconsistent = _look_inside(tracklets, assignment, sigma_cst, engine)
    count = len(centers)
    drawn = np.sort(generator(seed, "sampled noise").permutation(count)[:rows])
    near = np.zeros(len(drawn), np.int64)
    blocks = [(begin, min(begin + _COLUMNS, count), sigma_drm) for begin in range(0, count, _COLUMNS)]
    for part in engine.map(_near, _Sample(centers, drawn), blocks):
        near += part
    spread = float(near.std(ddof=1)) if len(near) > 1 else 0.0
    error = spread / len(near) ** 0.5 * (1 - len(near) / count) ** 0.5 if count else 0.0
    return SampledNoise(count, inconsistent, float(near.mean()) if count else 0.0, error, len(near))


def _look_inside(
    tracklets: TrackletSet, assignment: Assignment, sigma_cst: float, engine: Engine
) -> tuple[Float[np.ndarray, "g d"], int]:
    """The centroid of each identity with crops; the number with a crop too far away (Eq. 1)."""
    _, identity = np.unique(assignment.crop_identity, return_inverse=True)
    identity = identity - int((assignment.crop_identity < 0).any())
    groups = Groups.of(identity, int(identity.max(initial=-1)) + 1)
    centers = centroids(tracklets.embeddings, groups, engine)
    distance = distance_to_own(tracklets.embeddings, groups, centers)
    farthest = np.maximum.reduceat(distance, groups.offsets[:-1]) if len(groups) else distance
    return centers, int(np.count_nonzero(deviates(farthest, sigma_cst)))


@dataclass(frozen=True)
class _Sample:
    centers: Float[np.ndarray, "n d"]
    rows: Int[np.ndarray, " m"]


def _near(sample: _Sample, block: tuple[int, int, float]) -> Int[np.ndarray, " m"]:
    """How many nodes of `begin..end` are within σ_drm of each row of the sample, itself left out."""
    begin, end, sigma_drm = block
    limit, error = least_inner(sigma_drm), BLAS.error(sample.centers.shape[1])
    height, width = BLAS.tile
    out = np.zeros(len(sample.rows), np.int64)
    for top in range(0, len(sample.rows), height):
        mine = sample.rows[top : top + height]
        rows = sample.centers[mine]
        for left in range(begin, end, width):
            columns = sample.centers[left : min(left + width, end)]
            found, inner = BLAS.at_least(rows, columns, limit - error)
            row, column = np.divmod(found, len(columns))
            unsure = np.flatnonzero(inner < limit + error)
            near = mine[row] != left + column
            terms = rows[row[unsure]].astype(np.float64) * columns[column[unsure]]
            near[unsure] &= is_same(1 - terms.sum(axis=1), sigma_drm)
            out[top : top + height] += np.bincount(row[near], minlength=len(mine))
    return out
