"""The unit step of Eq. 1, 2, 4, 5, 6 where a distance meets its threshold.

The paper leaves `step(0)` open. We read it as 1 on both sides: a crop at σ_cst deviates (Eq. 4 says `>=`, so Eq. 5
takes a crop only below), a pair at σ_drm is one person. Distances are computed in float32, so whatever lies within
`RESOLUTION` of a threshold, or of another distance, counts as equal to it.
"""

import numpy as np
from jaxtyping import Bool, Float

from reappear.core import SettingsError

RESOLUTION = 1e-6
"""Cosine distances closer than this are equal."""

SIGMA_CST = 0.20
"""The paper's threshold inside an identity (σ_cst), which fits the authors' own extractor."""

NO_CROP = 2.0
"""σ_cst that removes no crop."""

SIGMA_DRM = 0.18
"""The paper's threshold between identities (σ_drm), which fits the authors' own extractor."""

OVERLAP = 1.0
"""Seconds that two tracklets must share in one video to be two people; a detector cuts one body in two for moments."""

RADIUS = 1000
"""The paper's sliding half width (r_s), in nodes."""


def deviates(distance: Float[np.ndarray, "*shape"], sigma_cst: float) -> Bool[np.ndarray, "*shape"]:
    """Whether a crop this far from a centroid is noise in it: `distance >= sigma_cst`."""
    return np.asarray(distance >= sigma_cst - RESOLUTION)


def is_same(distance: Float[np.ndarray, "*shape"], sigma_drm: float) -> Bool[np.ndarray, "*shape"]:
    """Whether centroids this far apart are one person: `distance <= sigma_drm`."""
    return np.asarray(distance <= sigma_drm + RESOLUTION)


def check_sigma(name: str, sigma: float) -> None:
    """Refuses what is no cosine distance."""
    if not 0 <= sigma <= 2:
        raise SettingsError(f"{name}: must be a cosine distance in 0..2, got {sigma}")
