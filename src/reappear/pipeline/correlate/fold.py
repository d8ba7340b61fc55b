"""The stages, one after the other."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Int

from reappear.core import SILENT, Assignment, InputError, Progress, TrackletSet
from reappear.denoise import Trace, cross_video, single_tracklet, single_video
from reappear.store import Identities

from .row import said, stage_row
from .settings import CorrelateSettings
from .thresholds import choose_thresholds

BASELINE = "tracklet = person"
SO_FAR = "identities so far"


def identify(
    tracklets: TrackletSet,
    settings: CorrelateSettings,
    *,
    start: Assignment | None = None,
    truth: Int[np.ndarray, " n"] | None = None,
    progress: Progress = SILENT,
) -> tuple[Identities, int]:
    """Folds the chosen stages over tracklets.

    Args:
        tracklets: All crops; a row of zeros is a crop that could not be embedded, and is discarded first.
        settings: Thresholds and stages.
        start: Identities to go on from with the cross-video stage alone, as its nodes; tracklets if not given.
        truth: True person of each crop, -1 = nobody. Used for the scores in the report, for nothing else.
        progress: Who is told.

    Returns:
        The identities with their report, and how many crops could not be embedded.
    """
    assignment, empty = _embedded(tracklets, start)
    cst, drm, thresholds = choose_thresholds(tracklets, assignment, settings, progress)
    stages = _stages(settings, cst, drm, begun=start is not None)
    trace = Trace()
    rows = [
        stage_row(BASELINE if start is None else SO_FAR, tracklets, assignment, assignment, trace, cst, drm, truth, 0.0)
    ]
    with progress.task("correlate", len(stages)) as advance:
        for name, stage in stages:
            begun = time.perf_counter()
            before, assignment = assignment, stage(tracklets, assignment, trace=trace)
            seconds = time.perf_counter() - begun
            rows.append(stage_row(name, tracklets, before, assignment, trace, cst, drm, truth, seconds))
            progress.note(said(rows[-1]))
            advance(1)
    report = {"thresholds": thresholds, "stages": rows}
    return Identities(assignment, trace.link_columns(), trace.move_columns(), report), empty


def _stages(
    settings: CorrelateSettings, cst: float, drm: float, *, begun: bool
) -> list[tuple[str, Callable[..., Assignment]]]:
    first = partial(single_tracklet, sigma_cst=cst, minimum_crops=settings.minimum_crops)
    second = partial(
        single_video,
        sigma_cst=cst,
        sigma_drm=drm,
        targets=settings.targets,
        merge=settings.merge,
        constraints=settings.constraints,
        overlap=settings.overlap,
    )
    third = partial(
        cross_video,
        sigma_drm=drm,
        radius=settings.radius,
        constraints=settings.constraints,
        overlap=settings.overlap,
    )
    stages = (
        (settings.single_tracklet and not begun, "single-tracklet", first),
        (settings.single_video and not begun, "single-video", second),
        (settings.cross_video, "cross-video", third),
    )
    return [(name, stage) for wanted, name, stage in stages if wanted]


def _embedded(tracklets: TrackletSet, start: Assignment | None) -> tuple[Assignment, int]:
    """What to start from, less the crops that have no embedding."""
    start = Assignment.untouched(tracklets) if start is None else start
    step = 65_536
    good = np.concatenate(
        [np.zeros(0, bool)]
        + [
            np.isfinite(block).all(1) & block.any(1)
            for block in (tracklets.embeddings[i : i + step] for i in range(0, len(tracklets.embeddings), step))
        ]
    )
    if not good.any():
        raise InputError("no crop could be embedded; see why in the record of embed")
    owner = np.where(good, start.tracklet, -1)
    held = np.bincount(owner[owner >= 0], minlength=len(tracklets)) > 0
    identity = np.full(len(tracklets), -1, np.int64)
    identity[held] = np.unique(start.identity[held], return_inverse=True)[1]
    return Assignment(owner, identity), int(np.count_nonzero(~good))
