"""The noise score n_S of an assignment, Eq. 1-3."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from reappear.core import LOCAL, Assignment, Engine, TrackletSet

from .groups import Groups, centroids, distance_to_own
from .linking import count_pairs
from .products import BLAS, Products
from .thresholds import SIGMA_CST, SIGMA_DRM, check_sigma, deviates


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
    centers, inconsistent = look_inside(tracklets, assignment, sigma_cst, engine)
    return Noise(len(centers), inconsistent, count_pairs(centers, sigma_drm, engine=engine, products=products))


def look_inside(
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
