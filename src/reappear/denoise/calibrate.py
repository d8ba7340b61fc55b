"""Calibrates the thresholds from tracklets, without labels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from reappear.core import LOCAL, Assignment, Engine, SettingsError, TrackletSet, counted, generator

from .constraints import overlapping_pairs
from .evidence import Distances, any_pairs, between_parts, between_tracklets, to_others, to_rest
from .false_links import Joins, Tail, tails
from .groups import Groups, centroids, rows_of
from .joining import shortest_forest
from .linking import count_pairs, find_links
from .outliers import Outliers
from .single_tracklet import single_tracklet
from .thresholds import NO_CROP, OVERLAP, RESOLUTION, SIGMA_DRM, check_sigma

FEWEST_CROPS = 200
FEWEST_SIMULTANEOUS = 50
FEWEST_PAIRS = 1000
_BINS = 60

Interval = tuple[float, float]
_UNKNOWN = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Curves:
    """Distributions of cosine distances for a plot: share of each kind in each bin.

    Attributes:
        top: The bins divide 0..top evenly; what lies beyond is in none.
        own: Crops to the rest of their tracklet.
        others: Crops to tracklets seen at the same time.
        parts: Parts of one tracklet to each other.
        simultaneous: Tracklets seen at the same time to each other.
    """

    top: float
    own: tuple[float, ...]
    others: tuple[float, ...]
    parts: tuple[float, ...]
    simultaneous: tuple[float, ...]


@dataclass(frozen=True)
class Calibration:
    """Thresholds and the evidence behind them; NaN = no evidence of that kind.

    Attributes:
        sigma_cst: Threshold inside an identity.
        sigma_drm: Threshold between identities.
        sigma_cst_interval: Within which 95 % of the thresholds lie that resampled tracklets ask for.
        sigma_drm_interval: The same.
        crops: Crops compared with the other crops of their tracklet.
        crops_outside: Share of them at least `sigma_cst` from these.
        crops_wrong: Estimated share of all crops that show another person than their tracklet.
        outside_wrong: Share of the crops at least `sigma_cst` away that are.
        simultaneous: Pairs of tracklets seen at the same time in one video, which are two people.
        simultaneous_linked: Share of them within `sigma_drm`.
        parts: Pairs of parts of one tracklet, which are one person.
        parts_linked: Share of them within `sigma_drm`.
        pairs: Pairs of tracklets that linking compares.
        pairs_linked: How many of them are within `sigma_drm`.
        false_links: Share of the pairs of crops that linking at `sigma_drm` puts together, through chains too, that
            are of two people.
        curves: The distributions.
        notes: What the evidence did not carry, in words.
    """

    sigma_cst: float
    sigma_drm: float
    sigma_cst_interval: Interval
    sigma_drm_interval: Interval
    crops: int
    crops_outside: float
    crops_wrong: float
    outside_wrong: float
    simultaneous: int
    simultaneous_linked: float
    parts: int
    parts_linked: float
    pairs: int
    pairs_linked: int
    false_links: float
    curves: Curves
    notes: tuple[str, ...]


def calibrate(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    impostors: float = 0.9,
    false_links: float = 0.2,
    resamples: int = 100,
    radius: int | None = None,
    overlap: float = OVERLAP,
    sigma_cst: float | None = None,
    seed: int = 0,
    engine: Engine = LOCAL,
) -> Calibration:
    """Chooses σ_cst and σ_drm for the extractor at hand. Not in the paper, whose 0.20 and 0.18 fit one network.

    A tracklet is one person, and tracklets seen at the same time in one video are two.

    σ_cst is the nearest distance from which the share `impostors` of the crops that lie there show another person.
    Crops lie at some distance from the rest of their own tracklet; impostors lie where crops lie from tracklets seen
    at the same time. What the first distribution has of the second is at most their ratio beyond any distance, and the
    least of these ratios is taken for the share π of crops that show another person (`Outliers`). Beyond σ it is then
    π · impostors beyond σ / crops beyond σ.

    σ_drm is the longest link at which no more than the share `false_links` of the pairs of crops that linking puts
    together is of two people. How often two people come within a distance is read off the pairs seen at the same time,
    and off all pairs, almost all of which are two people. The lower tail, where pairs of one person hide, is continued
    from higher quantiles (1 and 10 %, 5 and 20 %) as a power law, which is how distances near zero thin out in a space
    of any dimension. Pairs of one person only ever add to a tail, so the lowest of these estimates is taken. Then
    tracklets are joined along the shortest links, and each join counts with all pairs of crops that it puts together,
    so that long chains cost what they do; of the joins of a stretch of distances as many are false as the estimate
    grows by.

    Args:
        tracklets: All crops.
        assignment: Where they are now; each tracklet is taken for one person.
        impostors: Share of the crops taken out by σ_cst that should show another person, 0..1.
        false_links: Share of pairs of crops put together that may be of two people, 0..1.
        resamples: How often tracklets are drawn anew, with replacement, for the intervals; σ_cst and the links found
            stay as they are when σ_drm is chosen again. 0 = no intervals.
        radius: Half width of the sliding range that linking will use; `None` = all pairs.
        overlap: Seconds that two tracklets must share in one video to be two people.
        sigma_cst: Where it is set by hand.
        seed: Of the resampling.
        engine: Where pairs are compared, and where centroids lie.
    """
    for name, share in (("impostors", impostors), ("false_links", false_links)):
        if not 0 < share < 1:
            raise SettingsError(f"{name}: must lie between 0 and 1, got {share}")
    if resamples < 0:
        raise SettingsError(f"resamples: must be 0 or more, got {resamples}")
    notes: list[str] = []
    groups = Groups.of(assignment.tracklet, len(tracklets))
    together = overlapping_pairs(tracklets, groups.sizes > 0, overlap)
    times = partial(_resampled, len(tracklets), resamples, seed)
    inside = _inside(tracklets, groups, together, impostors, times, notes, engine)
    cst, cst_interval = (inside.sigma, inside.interval) if sigma_cst is None else (sigma_cst, _UNKNOWN)
    check_sigma("sigma_cst", cst)
    clean = Groups.of(single_tracklet(tracklets, assignment, sigma_cst=cst).tracklet, len(tracklets))
    between = _between(tracklets, clean, together, false_links, radius, times, notes, engine)
    drm = between.sigma
    return Calibration(
        sigma_cst=cst,
        sigma_drm=drm,
        sigma_cst_interval=cst_interval,
        sigma_drm_interval=between.interval,
        crops=len(inside.own),
        crops_outside=_share(inside.own.value >= cst),
        crops_wrong=inside.outliers.share if inside.outliers else float("nan"),
        outside_wrong=inside.outliers.wrong_from(cst) if inside.outliers else float("nan"),
        simultaneous=len(between.simultaneous),
        simultaneous_linked=_share(between.simultaneous.value <= drm),
        parts=len(between.parts),
        parts_linked=_share(between.parts.value <= drm),
        pairs=between.pairs,
        pairs_linked=count_pairs(between.nodes, drm, reach=between.reach, engine=engine),
        false_links=between.false_links,
        curves=_curves(inside.own, inside.others, between.parts, between.simultaneous),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Inside:
    own: Distances
    others: Distances
    outliers: Outliers | None
    sigma: float
    interval: Interval


def _inside(
    tracklets: TrackletSet,
    groups: Groups,
    together: Int[np.ndarray, "p 2"],
    impostors: float,
    times: Callable[[], Iterator[Float[np.ndarray, " t"]]],
    notes: list[str],
    engine: Engine,
) -> _Inside:
    """Crops and the tracklets they lie in, as tracked: σ_cst."""
    present = np.flatnonzero(groups.sizes)
    anybody = any_pairs(present, len(present) - 1, "impostors")
    centers = centroids(tracklets.embeddings, groups, engine)
    own = to_rest(tracklets, groups, centers)
    parts, simultaneous = between_parts(tracklets, groups, engine), between_tracklets(centers, together)
    if len(parts) and len(simultaneous) and np.median(parts.value) >= np.median(simultaneous.value) - RESOLUTION:
        notes.append(
            "parts of one tracklet are no closer than tracklets of people seen at the same time: "
            "this extractor does not separate these people; use another"
        )
    enough = len(together) >= FEWEST_SIMULTANEOUS
    others = to_others(tracklets, groups, centers, together if enough else anybody)
    if len(own) < FEWEST_CROPS or len(anybody) < FEWEST_PAIRS:
        notes.append(
            f"{counted(len(own), 'crop')} can be compared with others of their tracklet, and "
            f"{counted(len(anybody), 'pair')} of tracklets with each other; {FEWEST_CROPS} and {FEWEST_PAIRS} are "
            f"needed: sigma_cst is {NO_CROP:g}, which removes no crop"
        )
        return _Inside(own, others, None, NO_CROP, _UNKNOWN)
    if not enough:
        notes.append(
            f"{counted(len(together), 'pair')} of simultaneous tracklets, {FEWEST_SIMULTANEOUS} are needed: for "
            f"impostors, any two tracklets are used, few of which should be one person"
        )
    drawn = (Outliers.of(own.drawn(t), others.drawn(t)) for t in times())  # one at a time: each has weights for all
    once = next(drawn)
    sigma = once.nearest(impostors)
    if sigma == NO_CROP:
        notes.append(f"no distance removes {impostors:.0%} impostors: sigma_cst is {NO_CROP:g}, which removes no crop")
    return _Inside(own, others, once, sigma, _interval([one.nearest(impostors) for one in drawn]))


@dataclass(frozen=True)
class _Between:
    nodes: Float[np.ndarray, "n d"]
    reach: int
    pairs: int
    parts: Distances
    simultaneous: Distances
    sigma: float
    interval: Interval
    false_links: float


def _between(
    tracklets: TrackletSet,
    groups: Groups,
    together: Int[np.ndarray, "p 2"],
    bearable: float,
    radius: int | None,
    times: Callable[[], Iterator[Float[np.ndarray, " t"]]],
    notes: list[str],
    engine: Engine,
) -> _Between:
    """σ_drm, from tracklets without their outliers."""
    centers = centroids(tracklets.embeddings, groups, engine)
    filled = np.flatnonzero(groups.sizes)
    nodes, count = rows_of(centers, filled, engine), len(filled)
    reach = max(0, min(count - 1, count if radius is None else radius))
    pairs = reach * count - reach * (reach + 1) // 2
    parts = between_parts(tracklets, groups, engine)
    simultaneous = between_tracklets(centers, together)
    bulk = between_tracklets(centers, any_pairs(filled, reach, "pairs"))
    known = [d for d, fewest in ((simultaneous, FEWEST_SIMULTANEOUS), (bulk, FEWEST_PAIRS)) if len(d) >= fewest]
    if not known:
        near = float(np.quantile(parts.value, 0.9)) if len(parts) else SIGMA_DRM
        notes.append(
            f"too few to calibrate: {counted(count, 'tracklet')}, {counted(len(simultaneous), 'simultaneous pair')}; "
            f"{FEWEST_SIMULTANEOUS} such pairs or {FEWEST_PAIRS} of any are needed; "
            f"sigma_drm is the paper's {SIGMA_DRM}, or less where 9 of 10 tracklets have parts that are closer"
        )
        return _Between(nodes, reach, pairs, parts, simultaneous, min(SIGMA_DRM, near), _UNKNOWN, float("nan"))
    if len(simultaneous) < FEWEST_SIMULTANEOUS:
        notes.append(
            f"{counted(len(simultaneous), 'pair')} of simultaneous tracklets, {FEWEST_SIMULTANEOUS} are needed: "
            f"sigma_drm assumes that few of all pairs are one person"
        )
    once, *drawn = (tails([d.drawn(t) for d in known]) for t in times())
    joins = _joins(nodes, reach, pairs, groups.sizes[filled], once, engine)
    sigma, false = joins.longest(once, bearable)
    interval = _interval([joins.longest(each, bearable)[0] for each in drawn])
    return _Between(nodes, reach, pairs, parts, simultaneous, sigma, interval, false)


def _joins(
    nodes: Float[np.ndarray, "n d"],
    reach: int,
    pairs: int,
    crops: Int[np.ndarray, " n"],
    impostors: list[Tail],
    engine: Engine,
) -> Joins:
    """Joins up to where as many links are false as there are tracklets, by when everybody is in one chain."""
    ceiling = max(tail.quantile(min(1.0, len(nodes) / pairs)) for tail in impostors)
    links = find_links(nodes, min(2.0, ceiling), reach=reach, engine=engine)
    return Joins.along(shortest_forest(len(nodes), links), crops, pairs)


def _resampled(tracklets: int, resamples: int, seed: int) -> Iterator[Float[np.ndarray, " t"]]:
    """How often each tracklet counts: once, and then as drawn with replacement."""
    yield np.ones(tracklets)
    for number in range(resamples):
        drawn = generator(seed, "calibrate", "resample", number).integers(0, tracklets, tracklets)
        yield np.bincount(drawn, minlength=tracklets).astype(np.float64)


def _interval(values: list[float]) -> Interval:
    if not values:
        return _UNKNOWN
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _share(marks: np.ndarray) -> float:
    return float(np.mean(marks)) if len(marks) else float("nan")


def _curves(own: Distances, others: Distances, parts: Distances, simultaneous: Distances) -> Curves:
    top = max([0.01, *(float(np.quantile(d.value, 0.99)) for d in (own, others, parts, simultaneous) if len(d))])

    def shares(distances: Distances) -> tuple[float, ...]:
        counts, _ = np.histogram(distances.value, _BINS, (0, top))
        return tuple((counts / max(1, len(distances))).round(6).tolist())

    return Curves(top, shares(own), shares(others), shares(parts), shares(simultaneous))
