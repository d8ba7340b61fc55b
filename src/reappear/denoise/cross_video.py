"""Long-range cross-video denoising, Eq. 7: within a sliding range as in the paper, or without (its App. A.2)."""

from reappear.core import LOCAL, Assignment, Engine, SettingsError, TrackletSet

from .approximate import Approximate, approximate_links
from .linking import find_links
from .nodes import Nodes
from .products import BLAS, Products
from .rules import NO_RULES, Rules
from .thresholds import RADIUS, SIGMA_DRM, check_sigma
from .trace import Trace

CROSS_VIDEO, GLOBAL_LINK = "cross-video", "global-link"


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
    return nodes.joined(CROSS_VIDEO, tracklets, assignment, links, sigma_drm=sigma_drm, rules=rules, trace=trace)


def global_link(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    sigma_drm: float = SIGMA_DRM,
    rules: Rules = NO_RULES,
    approximate: Approximate | None = None,
    trace: Trace | None = None,
    engine: Engine = LOCAL,
    products: Products = BLAS,
) -> Assignment:
    """Links identities of all videos without a range limit: Eq. 7 with r_s = N (not in the paper, for its cost).

    Equals `cross_video` with a radius of at least the number of nodes. Costs N² d floating point
    operations, tiled, on every core or the device of `products`.

    Args:
        tracklets: All crops.
        assignment: Where they are now.
        sigma_drm: Threshold between centroids, 0..2 (σ_drm).
        rules: Cannot-link constraints, review decisions and the guard against chains (not in the paper).
        approximate: Search an index instead of all pairs; misses some.
        trace: Records the links, and with an index the share of them that it found.
        engine: Where blocks of pairs are compared, and where centroids lie; an index is searched in this process.
        products: Where inner products are taken; links are the same everywhere.

    Raises:
        SettingsError: A threshold out of range, or links that must all be kept exceed the memory.
    """
    check_sigma("sigma_drm", sigma_drm)
    nodes = Nodes.of(tracklets, assignment, engine)
    if approximate is None:
        links = find_links(nodes.centers, sigma_drm, thin=rules.none, engine=engine, products=products)
    else:
        links, recall = approximate_links(
            nodes.centers, sigma_drm, approximate, thin=rules.none, memory_bytes=engine.memory_bytes
        )
        if trace is not None and recall is not None:
            trace.recall[GLOBAL_LINK] = recall
    return nodes.joined(GLOBAL_LINK, tracklets, assignment, links, sigma_drm=sigma_drm, rules=rules, trace=trace)
