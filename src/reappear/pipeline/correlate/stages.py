"""Runs the denoising stages in sequence."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int

from reappear.core import LOCAL, SILENT, Assignment, Engine, InputError, Progress, TrackletSet
from reappear.denoise import (
    BLAS,
    Approximate,
    Products,
    ReviewConstraints,
    Rules,
    Trace,
    apply_review,
    average_link,
    cross_video,
    global_link,
    reallocate,
    reject,
    single_tracklet,
    single_video,
)
from reappear.denoise.groups import usable_rows
from reappear.store import Identities

from .checkpoints import StageCheckpoints
from .choices import choose_linking, choose_thresholds
from .row import format_row, measure_noise, stage_row
from .settings import CorrelateSettings

BASELINE = "tracklet = person"
SO_FAR = "identities so far"

Stage = Callable[..., Assignment]


def identify(
    tracklets: TrackletSet,
    settings: CorrelateSettings,
    *,
    linked: TrackletSet | None = None,
    start: Identities | None = None,
    review: ReviewConstraints | None = None,
    truth: Int[np.ndarray, " n"] | None = None,
    camera: Int[np.ndarray, " t"] | None = None,
    engine: Engine = LOCAL,
    products: Products = BLAS,
    checkpoints: StageCheckpoints | None = None,
    progress: Progress = SILENT,
) -> tuple[Identities, int]:
    """Applies the selected stages to tracklets.

    Args:
        tracklets: All crops; a row of zeros is a crop that could not be embedded, and is discarded first.
        settings: Thresholds and stages.
        linked: The same tracklets with the vectors that average linkage compares; those of crops if not given.
        start: Identities as nodes of the cross-video stage, which is then the only one; tracklets if not given. Their
            links and moves are kept.
        review: Review decisions.
        truth: True person of each crop, -1 = none. Used only for scores in the report.
        camera: Camera of each tracklet; if not given, each video has its own.
        engine: Where pairs are compared, and where centroids lie.
        products: Where their inner products are taken.
        checkpoints: Stores finished stages, and returns those of an earlier call with the same arguments.
        progress: Progress listener.

    Returns:
        The identities with their report; the number of crops without embedding.
    """
    assignment, empty = _embedded(tracklets, start.assignment if start else None)
    found = checkpoints.last() if checkpoints else None
    if found is None:
        name = BASELINE if start is None else SO_FAR
        mine = checkpoints.engine(engine, "thresholds") if checkpoints else engine
        trace = _trace(start)
        if review is not None:
            assignment = reject(assignment, review, trace)
        if start is not None:
            trace.connect(assignment.identity)
        thresholds = choose_thresholds(tracklets, assignment, settings, mine, progress)
        linking = choose_linking(tracklets, assignment, settings, progress)
        found = _noted(assignment, trace, {"thresholds": thresholds, "linking": linking, "stages": []})
        found = _after(name, _nothing, tracklets, found, settings, truth, mine, products)
        if checkpoints:
            checkpoints.keep(found)
    stages = _stages(settings, review, found, _place(tracklets, camera), products, linked, begun=start is not None)
    for name, stage in stages[len(found.report["stages"]) - 1 :]:
        mine = checkpoints.engine(engine, name) if checkpoints else engine
        found = _after(name, stage, tracklets, found, settings, truth, mine, products)
        progress.note(format_row(found.report["stages"][-1]))
        if checkpoints:
            checkpoints.keep(found)
    return found, empty


def _after(
    name: str,
    stage: Stage,
    tracklets: TrackletSet,
    found: Identities,
    settings: CorrelateSettings,
    truth: Int[np.ndarray, " n"] | None,
    engine: Engine,
    products: Products,
) -> Identities:
    """The identities after one more stage."""
    trace = _trace(found)
    known = len(trace.links)
    begun = time.perf_counter()
    assignment = stage(tracklets, found.assignment, trace=trace, engine=engine)
    seconds = time.perf_counter() - begun
    noise = measure_noise(tracklets, assignment, settings.noise, found.report["thresholds"], engine, products)
    row = stage_row(name, found.assignment, assignment, trace, known, noise, truth, seconds)
    return _noted(assignment, trace, {**found.report, "stages": [*found.report["stages"], row]})


def _trace(found: Identities | None) -> Trace:
    """A trace that continues that of `found`."""
    return Trace.after(found.links, found.moves, found.refused) if found else Trace()


def _noted(assignment: Assignment, trace: Trace, report: dict[str, Any]) -> Identities:
    return Identities(assignment, trace.link_columns(), trace.move_columns(), report, trace.refused_columns())


def _place(tracklets: TrackletSet, camera: Int[np.ndarray, " t"] | None) -> Int[np.ndarray, " t"]:
    """What decides how people look: the camera, or the video where there is one camera or none is known."""
    return tracklets.video if camera is None or len(np.unique(camera)) < 2 else camera


def _stages(
    settings: CorrelateSettings,
    review: ReviewConstraints | None,
    found: Identities,
    place: Int[np.ndarray, " t"],
    products: Products,
    linked: TrackletSet | None,
    *,
    begun: bool,
) -> list[tuple[str, Stage]]:
    cst, drm = (found.report["thresholds"][key] for key in ("sigma_cst", "sigma_drm"))
    rules = Rules(
        constraints=settings.constraints,
        overlap=settings.overlap,
        review=review,
        guard=settings.guard,
        max_diameter=settings.max_diameter,
    )
    index = Approximate(settings.recall) if settings.pairs == "approximate" else None
    seen = settings.overlap if settings.constraints else None
    inside: dict[str, Any] = {"sigma_cst": cst, "targets": settings.targets, "rules": rules}
    closed: dict[str, Any] = {"sigma_drm": drm, "rules": rules}
    across: tuple[str, Stage]
    if found.report["linking"]["method"] == "average":
        within = "reallocation", partial(reallocate, **inside)
        radius = settings.radius if settings.pairs == "sliding" else None
        average: dict[str, Any] = {"least": settings.z, "precision": settings.precision}
        average |= {"place": place, "radius": radius}
        across = "average-link", partial(average_link, approximate=index, rules=rules, products=products, **average)
        if linked is not None:
            across = "average-link", partial(_of_linked, linked, across[1])
    else:
        within = "single-video", partial(single_video, merge=settings.merge, sigma_drm=drm, **inside)
        if settings.pairs == "sliding":
            across = "cross-video", partial(cross_video, radius=settings.radius, products=products, **closed)
        else:
            across = "global-link", partial(global_link, approximate=index, products=products, **closed)
    stages: list[tuple[str, Stage]] = []
    if settings.single_tracklet and not begun:
        first = partial(_inside_tracklets, sigma_cst=cst, minimum_crops=settings.minimum_crops)
        stages.append(("single-tracklet", first))
    if settings.single_video and not begun:
        stages.append(within)
    if review is not None and begun:
        stages.append(("parting", partial(_as_decided, review=review, overlap=seen, unite=False)))
    if settings.cross_video:
        stages.append(across)
    if review is not None:
        stages.append(("review", partial(_as_decided, review=review, overlap=seen, unite=True)))
    return stages


def _of_linked(
    linked: TrackletSet, stage: Stage, _: TrackletSet, assignment: Assignment, *, trace: Trace, engine: Engine
) -> Assignment:
    """A stage that compares other vectors than those of crops."""
    return stage(linked, assignment, trace=trace, engine=engine)


def _nothing(tracklets: TrackletSet, assignment: Assignment, *, trace: Trace, engine: Engine) -> Assignment:
    return assignment


def _inside_tracklets(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    sigma_cst: float,
    minimum_crops: int,
    trace: Trace,
    engine: Engine,
) -> Assignment:
    """The single-tracklet stage, which needs no engine."""
    return single_tracklet(tracklets, assignment, sigma_cst=sigma_cst, minimum_crops=minimum_crops, trace=trace)


def _as_decided(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    review: ReviewConstraints,
    overlap: float | None,
    unite: bool,
    trace: Trace,
    engine: Engine,
) -> Assignment:
    """Review decisions as a stage, which needs no engine."""
    return apply_review(tracklets, assignment, review=review, overlap=overlap, unite=unite, trace=trace)


def _embedded(tracklets: TrackletSet, start: Assignment | None) -> tuple[Assignment, int]:
    """The initial assignment, without crops that have no embedding."""
    start = Assignment.untouched(tracklets) if start is None else start
    good = np.zeros(len(tracklets.embeddings), bool)
    good[usable_rows(tracklets.embeddings, np.arange(len(good)))] = True
    if not good.any():
        raise InputError("no crop has an embedding; see the record of embed")
    owner = np.where(good, start.tracklet, -1)
    held = np.bincount(owner[owner >= 0], minlength=len(tracklets)) > 0
    identity = np.full(len(tracklets), -1, np.int64)
    identity[held] = np.unique(start.identity[held], return_inverse=True)[1]
    return Assignment(owner, identity), int(np.count_nonzero(~good))
