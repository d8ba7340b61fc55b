"""Thresholds that suit the extractor, from what the footage itself proves."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from reappear.core import Assignment, TrackletSet

from .constraints import overlapping_pairs
from .groups import Groups, centroids, distance_to_own
from .linking import find_links, shortest_forest
from .single_tracklet import single_tracklet
from .steps import SIGMA_CST, SIGMA_DRM

_MOST_PAIRS = 200_000
_FEWEST_PAIRS = 50
_FEWEST_CROPS = 200
_TAIL = 0.02
_FEWEST_IN_TAIL = 10


@dataclass(frozen=True)
class Calibration:
    """Thresholds and the evidence behind them.

    Attributes:
        sigma_cst: Threshold inside an identity.
        sigma_drm: Threshold between identities.
        crops: Crops compared with the rest of their tracklet.
        halves: Tracklets cut into two halves, which are one person.
        halves_linked: Share of them whose halves lie within `sigma_drm`; NaN without halves.
        apart: Pairs of tracklets seen at the same time, which are two people.
        apart_linked: Share of them within `sigma_drm`; NaN without such pairs.
        false_links: Links between different people to expect at `sigma_drm` among all pairs compared.
        notes: What the evidence did not carry, in words.
    """

    sigma_cst: float
    sigma_drm: float
    crops: int
    halves: int
    halves_linked: float
    apart: int
    apart_linked: float
    false_links: float
    notes: tuple[str, ...]


def calibrate(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    outliers: float = 0.02,
    false_links: float = 0.05,
    radius: int | None = None,
    sigma_cst: float | None = None,
) -> Calibration:
    """Chooses σ_cst and σ_drm for the extractor at hand. Not in the paper, whose 0.20 and 0.18 fit one network.

    σ_cst is where the share `outliers` of all crops deviates from the rest of its tracklet.

    σ_drm weighs each link against what it risks. Tracklets that share a moment in one video are two people; how often
    such pairs come within a distance d tells how many of the P compared pairs are false links at d: P · F(d). The lower
    tail of F, where pairs are rare, follows a power law whose exponent is Hill's estimate. σ_drm is the largest d at
    which false links stay below `false_links` for each identity that linking at d would leave: a false link joins two
    people whole, so what counts is how many there are for each person, not their share of all pairs.

    Args:
        tracklets: All crops.
        assignment: Where they are now; each tracklet is taken for one person.
        outliers: Share of crops to call noise, 0..1.
        false_links: Links between different people that are bearable, for each identity.
        radius: Half width of the sliding range that linking will use; `None` = all pairs.
        sigma_cst: Where it is set by hand.
    """
    notes: list[str] = []
    own = _distance_to_rest(tracklets, assignment)
    if sigma_cst is None and len(own) >= _FEWEST_CROPS:
        sigma_cst = float(np.quantile(own, 1 - outliers))
    elif sigma_cst is None:
        sigma_cst = SIGMA_CST
        notes.append(f"only {len(own)} crops have others to compare with; sigma_cst is the paper's {SIGMA_CST}")

    clean = single_tracklet(tracklets, assignment, sigma_cst=sigma_cst)
    groups = Groups.of(clean.tracklet, len(tracklets))
    centers = centroids(tracklets.embeddings, groups)
    filled = groups.sizes > 0
    halves = _distance_of_halves(tracklets, groups)
    pairs = overlapping_pairs(tracklets, filled)
    pairs = pairs[:: max(1, -(-len(pairs) // _MOST_PAIRS))]
    apart = np.sort(1 - np.einsum("pd,pd->p", centers[pairs[:, 0]], centers[pairs[:, 1]]).astype(np.float64))

    nodes = centers[filled]
    count = len(nodes)
    reach = count if radius is None else min(radius, count)
    compared = reach * count - reach * (reach + 1) // 2
    if len(apart) >= _FEWEST_PAIRS:
        tail = _Tail.of(apart)
        ceiling = tail.quantile(false_links * count / max(1, compared))
        forest = np.sort(shortest_forest(count, find_links(nodes, min(2.0, ceiling), reach=reach)).distance)
        # The largest d with P·F(d) <= false_links · identities(d): candidates are the links themselves.
        expected = compared * tail.share(forest)
        bearable = expected <= false_links * (count - np.arange(1, len(forest) + 1))
        sigma_drm = float(forest[bearable][-1]) if bearable.any() else float(ceiling)
        expected_links = float(compared * tail.share(np.array([sigma_drm]))[0])
    else:
        sigma_drm = min(SIGMA_DRM, float(np.quantile(halves, 0.9)) if len(halves) else SIGMA_DRM)
        expected_links = float("nan")
        notes.append(
            f"only {len(apart)} pairs of tracklets share a moment; sigma_drm is {sigma_drm:.4f}: the paper's "
            f"{SIGMA_DRM}, or less where 9 of 10 tracklets have halves that are closer"
        )
    return Calibration(
        sigma_cst=sigma_cst,
        sigma_drm=sigma_drm,
        crops=len(own),
        halves=len(halves),
        halves_linked=float(np.mean(halves <= sigma_drm)) if len(halves) else float("nan"),
        apart=len(apart),
        apart_linked=float(np.mean(apart <= sigma_drm)) if len(apart) else float("nan"),
        false_links=expected_links,
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Tail:
    """Distribution of distances between people: as counted, and below the lowest few a power law (Hill 1975)."""

    ordered: Float[np.ndarray, " n"]
    edge: float
    mass: float
    exponent: float

    @classmethod
    def of(cls, ordered: Float[np.ndarray, " n"]) -> "_Tail":
        size = min(len(ordered) - 1, max(_FEWEST_IN_TAIL, round(_TAIL * len(ordered))))
        edge = max(float(ordered[size]), 1e-6)
        spread = float(np.mean(np.log(edge / np.maximum(ordered[:size], 1e-6))))
        return cls(ordered, edge, size / len(ordered), 1 / max(spread, 1e-3))

    def share(self, distance: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        """Share of pairs of different people within each distance."""
        counted = np.searchsorted(self.ordered, distance, side="right") / len(self.ordered)
        return np.where(
            distance < self.edge, self.mass * np.power(np.maximum(distance, 0) / self.edge, self.exponent), counted
        )

    def quantile(self, share: float) -> float:
        """The distance within which this share of pairs lies."""
        if share < self.mass:
            return float(self.edge * (share / self.mass) ** (1 / self.exponent))
        return float(np.quantile(self.ordered, min(1.0, share)))


def _distance_to_rest(tracklets: TrackletSet, assignment: Assignment) -> Float[np.ndarray, " n"]:
    """Cosine distance of each crop to the mean of the other crops of its tracklet, where it has at least two others."""
    groups = Groups.of(assignment.tracklet, len(tracklets))
    owner = np.repeat(np.arange(len(groups)), groups.sizes)
    centers = centroids(tracklets.embeddings, groups)
    cosine = (1 - distance_to_own(tracklets.embeddings, groups, centers)).astype(np.float64)
    # x·S and |S| follow from the distance to the full mean: |S| is the sum of x·c over the tracklet.
    length = np.bincount(owner, cosine, minlength=len(groups))[owner]
    toward = cosine * length
    rest = np.sqrt(np.maximum(length**2 - 2 * toward + 1, 1e-10))
    return np.asarray((1 - (toward - 1) / rest)[groups.sizes[owner] >= 3])


def _distance_of_halves(tracklets: TrackletSet, groups: Groups) -> Float[np.ndarray, " h"]:
    """Cosine distance between the first and the second half of each tracklet of four crops or more."""
    owner = np.repeat(np.arange(len(groups)), groups.sizes)
    place = np.arange(len(owner)) - groups.offsets[owner]
    half = np.full(len(tracklets.embeddings), -1, np.int64)
    half[groups.rows] = 2 * owner + (place >= groups.sizes[owner] // 2)
    centers = centroids(tracklets.embeddings, Groups.of(half, 2 * len(groups)))
    long = groups.sizes >= 4
    return np.asarray(1 - np.einsum("td,td->t", centers[::2][long], centers[1::2][long]), np.float64)
