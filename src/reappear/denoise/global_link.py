"""All pairs of identities instead of a sliding range: what the paper leaves out for its cost (CION App. A.2)."""

from reappear.core import LOCAL, Assignment, Engine, TrackletSet

from .approximate import Approximate, approximate_links
from .linking import find_links
from .nodes import Nodes
from .products import BLAS, Products
from .rules import NO_RULES, Rules
from .thresholds import SIGMA_DRM, check_sigma
from .trace import Trace

STAGE = "global-link"


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
    """Links identities of all videos without a range limit: Eq. 7 with r_s = N.

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
            trace.recall[STAGE] = recall
    return nodes.joined(STAGE, tracklets, assignment, links, sigma_drm=sigma_drm, rules=rules, trace=trace)
