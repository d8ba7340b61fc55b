"""Long-range cross-video denoising, Eq. 7."""

from reappear.core import LOCAL, Assignment, Engine, SettingsError, TrackletSet

from .guard import GUARD, MAX_DIAMETER, Guard
from .linking import find_links
from .nodes import Nodes
from .products import BLAS, Products
from .review import ReviewConstraints
from .rules import Rules
from .thresholds import OVERLAP, RADIUS, SIGMA_DRM, check_sigma
from .trace import Trace

STAGE = "cross-video"


def cross_video(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    sigma_drm: float = SIGMA_DRM,
    radius: int = RADIUS,
    constraints: bool = False,
    overlap: float = OVERLAP,
    review: ReviewConstraints | None = None,
    guard: Guard = GUARD,
    max_diameter: float = MAX_DIAMETER,
    trace: Trace | None = None,
    engine: Engine = LOCAL,
    products: Products = BLAS,
) -> Assignment:
    """Joins identities of all videos within a sliding range (CION Sec. 3.2, Eq. 7).

    Nodes are the identities that single-video denoising left, in the order of their first tracklet; a node's centroid
    is the mean of all its crops. Nodes at most `radius` apart in that order and within `sigma_drm` are linked, and
    each connected component is one identity. With `radius` at least the number of nodes every pair is looked at.

    Args:
        tracklets: All crops.
        assignment: Where they are now.
        sigma_drm: Threshold between centroids, 0..2 (σ_drm).
        radius: Half width of the sliding range in nodes, 0 or more (r_s).
        constraints: Whether people seen at the same time are kept apart, through chains too (not in the paper).
        overlap: Seconds that two tracklets must share in one video to be two people.
        review: What was decided in a review.
        guard: Against chains (not in the paper). "diameter": no two members of a group lie farther apart than
            `max_diameter` times `sigma_drm`. "cut": links whose ends share too few neighbours do not count.
        max_diameter: 1 (complete linkage) or more.
        trace: Records the links.
        engine: Where pairs are compared, and where centroids lie.
        products: Where inner products are taken; links are the same everywhere.
    """
    check_sigma("sigma_drm", sigma_drm)
    if radius < 0:
        raise SettingsError(f"radius: must be 0 or more, got {radius}")
    rules = Rules(constraints, overlap, review, guard, max_diameter)
    nodes = Nodes.of(tracklets, assignment, engine)
    links = find_links(nodes.centers, sigma_drm, reach=radius, thin=rules.none, engine=engine, products=products)
    return nodes.joined(STAGE, tracklets, assignment, links, sigma_drm=sigma_drm, rules=rules, trace=trace)
