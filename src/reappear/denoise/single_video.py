"""Short-range single-video denoising, Eq. 5 and Eq. 6."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from reappear.core import LOCAL, Assignment, Engine, InputError, Local, SettingsError, TrackletSet, offsets_to_owner

from .groups import Groups, centroids, distance_to_own, read_unit, runs, to_unit, usable_rows
from .linking import find_links
from .links import Links
from .nodes import Nodes
from .rules import NO_RULES, Rules
from .thresholds import RESOLUTION, SIGMA_CST, SIGMA_DRM, check_sigma, deviates
from .trace import Trace

STAGE = "single-video"
Targets = Literal["frozen", "updated"]
Merge = Literal["once", "repeat"]


def single_video(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    sigma_cst: float = SIGMA_CST,
    sigma_drm: float = SIGMA_DRM,
    targets: Targets = "frozen",
    merge: Merge = "once",
    rules: Rules = NO_RULES,
    trace: Trace | None = None,
    engine: Engine = LOCAL,
) -> Assignment:
    """Reallocates removed crops within their video, then merges its tracklets (CION Sec. 3.2, Eq. 5-6).

    A discarded crop moves to the nearest *other* tracklet of its video if that is nearer than `sigma_cst`; otherwise
    it stays discarded. It never returns to its own tracklet, and empty tracklets receive none. Then identities
    of one video whose centroids are within `sigma_drm` are merged transitively (connected components).
    Of equal distances the earlier tracklet wins.

    Args:
        tracklets: All crops.
        assignment: Where they are now. Discarded crops whose row is zero or NaN, or that are rejected
            by review, are unchanged.
        sigma_cst: Threshold between crop and centroid, 0..2 (σ_cst).
        sigma_drm: Threshold between centroids, 0..2 (σ_drm).
        targets: "frozen": centroids are computed once, so the order of crops does not matter. "updated": each moved
            crop updates its new centroid before the next.
        merge: "once": one pass over all pairs. "repeat": repeated with the centroids of merged identities, until no
            pair is within `sigma_drm`.
        rules: Cannot-link constraints, review decisions and the guard against chains (not in the paper).
        trace: Records moves and links.
        engine: Where centroids lie.
    """
    check_sigma("sigma_drm", sigma_drm)
    if merge not in ("once", "repeat"):
        raise SettingsError(f"merge: must be once or repeat, got {merge!r}")
    out = reallocate(
        tracklets, assignment, sigma_cst=sigma_cst, targets=targets, rules=rules, trace=trace, engine=engine
    )
    while True:
        before = out.identities
        out = _merge(tracklets, out, sigma_drm, rules, trace, engine)
        if merge == "once" or out.identities == before:
            return out


def reallocate(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    sigma_cst: float = SIGMA_CST,
    targets: Targets = "frozen",
    rules: Rules = NO_RULES,
    trace: Trace | None = None,
    engine: Engine = LOCAL,
) -> Assignment:
    """The first half of `single_video`, Eq. 5: removed crops move to a matching tracklet of their video."""
    check_sigma("sigma_cst", sigma_cst)
    if targets not in ("frozen", "updated"):
        raise SettingsError(f"targets: must be frozen or updated, got {targets!r}")
    free = assignment.tracklet < 0
    if rules.review is not None:
        free &= ~rules.review.rejected
    owner = _reallocate(tracklets, assignment.tracklet, free, sigma_cst, targets, trace, engine)
    return Assignment(owner, assignment.identity)


def _reallocate(
    tracklets: TrackletSet,
    owner: Int[np.ndarray, " n"],
    free: Bool[np.ndarray, " n"],
    sigma_cst: float,
    targets: Targets,
    trace: Trace | None,
    engine: Engine,
) -> Int[np.ndarray, " n"]:
    """Eq. 5 for the crops in `free`."""
    groups = Groups.of(owner, len(tracklets))
    centers = centroids(tracklets.embeddings, groups, engine)
    filled = groups.sizes > 0
    origin = tracklets.origin
    excluded = usable_rows(tracklets.embeddings, np.flatnonzero(free))
    sums = centers * _lengths(tracklets.embeddings, groups, centers)[:, None] if targets == "updated" else None

    target = np.full(len(excluded), -1, np.int64)
    nearest_distance = np.full(len(excluded), np.nan)
    video = tracklets.video[origin[excluded]]
    range_of = {int(tracklets.video[begin]): (begin, end) for begin, end in runs(tracklets.video)}
    step = 1 if targets == "updated" else 256
    for first, last in runs(video):
        begin, end = range_of[int(video[first])]
        for some in (np.arange(at, min(at + step, last)) for at in range(first, last, step)):
            x = read_unit(tracklets.embeddings, excluded[some])
            distance = 1 - x @ centers[begin:end].T
            distance[:, ~filled[begin:end]] = np.inf
            distance[np.arange(len(some)), origin[excluded[some]] - begin] = np.inf
            nearest = np.argmax(distance <= distance.min(1, keepdims=True) + RESOLUTION, axis=1)
            value = distance[np.arange(len(some)), nearest]
            nearest_distance[some] = np.where(np.isfinite(value), value, np.nan)
            fits = np.isfinite(value) & ~deviates(value, sigma_cst)
            target[some[fits]] = nearest[fits] + begin
            if sums is not None and fits[0]:
                taker = int(nearest[0]) + begin
                sums[taker] += x[0]
                centers[taker] = to_unit(sums[taker : taker + 1].copy())[0]
    if trace is not None:
        trace.add_moves(STAGE, excluded, origin[excluded], target, nearest_distance)
    out = owner.astype(np.int64)
    out[excluded] = target
    return out


def _lengths(
    embeddings: Float[np.ndarray, "n d"], groups: Groups, centers: Float[np.ndarray, "t d"]
) -> Float[np.ndarray, " t"]:
    """Length of the sum of unit rows of each group."""
    along = 1 - distance_to_own(embeddings, groups, centers)
    return np.bincount(offsets_to_owner(groups.offsets), along, minlength=len(groups)).astype(np.float32)


def _merge(
    tracklets: TrackletSet,
    assignment: Assignment,
    sigma_drm: float,
    rules: Rules,
    trace: Trace | None,
    engine: Engine,
) -> Assignment:
    """Eq. 6."""
    nodes = Nodes.of(tracklets, assignment, engine)
    video = tracklets.video[nodes.representative]
    elsewhere = (nodes.of_tracklet >= 0) & (tracklets.video != video[nodes.of_tracklet])
    if elsewhere.any():
        identity = assignment.identity[np.flatnonzero(elsewhere)[0]]
        raise InputError(f"single_video: identity {identity} lies in several videos; run it before cross_video")
    here = Local(engine.memory_bytes)  # one video is too small to distribute
    links = Links.joined(
        [
            find_links(nodes.centers[begin:end], sigma_drm, thin=rules.none, engine=here).shifted(begin)
            for begin, end in runs(video)
        ]
    )
    return nodes.joined(STAGE, tracklets, assignment, links, sigma_drm=sigma_drm, rules=rules, trace=trace)
