"""Long-range cross-video denoising, Eq. 7."""

from reappear.core import LOCAL, Assignment, Engine, SettingsError, TrackletSet

from .linking import find_links
from .nodes import Nodes
from .products import BLAS, Products
from .rules import NO_RULES, Rules
from .thresholds import RADIUS, SIGMA_DRM, check_sigma
from .trace import Trace

STAGE = "cross-video"


def cross_video(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    sigma_drm: float = SIGMA_DRM,
    radius: int = RADIUS,
    rules: Rules = NO_RULES,
    trace: Trace | None = None,
    engine: Engine = LOCAL,
    products: Products = BLAS,
) -> Assignment:
    """Links identities of all videos within a sliding range (CION Sec. 3.2, Eq. 7).

    Nodes are the identities after single-video denoising, in the order of their first tracklet; a node's centroid
    is the mean of all its crops. Nodes at most `radius` apart in that order and within `sigma_drm` are linked, and
    each connected component is one identity. With `radius` at least the number of nodes all pairs are compared.

    Args:
        tracklets: All crops.
        assignment: Where they are now.
        sigma_drm: Threshold between centroids, 0..2 (σ_drm).
        radius: Half width of the sliding range in nodes, 0 or more (r_s).
        rules: Cannot-link constraints, review decisions and the guard against chains (not in the paper).
        trace: Records the links.
        engine: Where pairs are compared, and where centroids lie.
        products: Where inner products are taken; links are the same everywhere.
    """
    check_sigma("sigma_drm", sigma_drm)
    if radius < 0:
        raise SettingsError(f"radius: must be 0 or more, got {radius}")
    nodes = Nodes.of(tracklets, assignment, engine)
    links = find_links(nodes.centers, sigma_drm, reach=radius, thin=rules.none, engine=engine, products=products)
    return nodes.joined(STAGE, tracklets, assignment, links, sigma_drm=sigma_drm, rules=rules, trace=trace)
