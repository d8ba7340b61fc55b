"""correlate: embeddings → identities, by the stages of CION Sec. 3.1-3.2."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int

from reappear.core import SILENT, Assignment, InputError, Progress, SettingsError, TrackletSet, settings
from reappear.denoise import (
    SIGMA_CST,
    SIGMA_DRM,
    Trace,
    calibrate,
    cross_video,
    noise_terms,
    single_tracklet,
    single_video,
)
from reappear.metrics import score_identities
from reappear.store import Columns, Identities, read_embeddings, read_identities, write_identities

from .record import Outcome, Record, run_step
from .workspace import Workspace

BASELINE = "tracklet = person"
SO_FAR = "identities so far"


@settings
class CorrelateSettings:
    """How tracklets become identities. With `thresholds: paper` and `constraints: false` it is the paper's method."""

    thresholds: Annotated[
        Literal["auto", "paper"],
        "auto: chosen from the footage, for tracklets are one person and those seen at the same time are two; "
        "paper: 0.20 and 0.18, which fit the authors' own extractor",
    ] = "auto"
    sigma_cst: Annotated[
        float | None, "cosine distance from which a crop is noise in its tracklet; sets it by hand"
    ] = None
    sigma_drm: Annotated[float | None, "cosine distance up to which two are one person; sets it by hand"] = None
    outliers: Annotated[float, "automatic thresholds: largest share of crops to call noise, 0..1"] = 0.1
    strangers: Annotated[
        float, "automatic thresholds: share of crops that may pass for somebody seen at the same time, 0..1"
    ] = 0.05
    false_links: Annotated[
        float, "automatic thresholds: links between different people that are bearable, for each identity left"
    ] = 0.1
    radius: Annotated[int, "half width of the sliding range across videos, in identities (r_s)"] = 1000
    single_tracklet: Annotated[bool, "take deviating crops out of each tracklet (Eq. 4)"] = True
    single_video: Annotated[bool, "give such crops to another tracklet, join tracklets of a video (Eq. 5-6)"] = True
    cross_video: Annotated[bool, "join identities of all videos (Eq. 7)"] = True
    minimum_crops: Annotated[int, "tracklets left with fewer crops by Eq. 4 are taken apart"] = 1
    targets: Annotated[
        Literal["frozen", "updated"], "Eq. 5: centroids taken once, or moved by every crop that is given away"
    ] = "frozen"
    merge: Annotated[
        Literal["once", "repeat"], "Eq. 6: one look at all pairs, or again with new centroids until none is left"
    ] = "once"
    constraints: Annotated[bool, "never join people who are seen at the same time in one video"] = True
    overlap: Annotated[float, "seconds that two tracklets must share in one video to be two people"] = 1.0


def correlate(
    work: Workspace,
    name: str,
    settings: CorrelateSettings,
    *,
    embeddings: str,
    start: str | None = None,
    progress: Progress = SILENT,
) -> Record:
    """Writes identities/NAME: who each tracklet is, why, and how much each stage changed.

    Args:
        work: A workspace with crops and embeddings.
        name: Name of the folder of identities.
        settings: Thresholds and stages.
        embeddings: Name of the embeddings to read.
        start: Name of earlier identities to go on from. What they joined stays joined, and only the cross-video stage
            is left to do; none = start from tracklets.
        progress: Who is told.
    """
    _require(work, embeddings)
    begun = {"start": work.identities(start)} if start else {}
    return run_step(
        work.identities(name),
        step="correlate",
        settings=settings,
        inputs={"crops": work.crops, "embeddings": work.embeddings(embeddings), **begun},
        work=lambda aside: _correlate(work, settings, embeddings, start, aside, progress),
        progress=progress,
    )


def _require(work: Workspace, embeddings: str) -> None:
    work.open_crops()
    if not (work.embeddings(embeddings) / "record.json").exists():
        folders = work.embeddings(embeddings).parent.glob("*/record.json")
        there = ", ".join(sorted(path.parent.name for path in folders)) or "none"
        raise InputError(
            f"{work.root} holds no embeddings {embeddings!r} (there: {there}); run `reappear embed`, or name others"
        )


def _correlate(
    work: Workspace,
    settings: CorrelateSettings,
    embeddings: str,
    start: str | None,
    aside: Path,
    progress: Progress,
) -> Outcome:
    crops = work.open_crops()
    vectors, meta = read_embeddings(work.embeddings(embeddings))
    if len(vectors) != len(crops):
        raise InputError(
            f"{work.embeddings(embeddings)} holds {len(vectors)} rows for {len(crops)} crops; embed these crops anew"
        )
    if not len(crops):
        raise InputError(f"{work.crops} holds no crops; there is nobody to tell apart")
    tracklets = crops.tracklet_set(vectors)
    truth = crops.crops["truth"].astype(np.int64) if crops.has_truth else None
    earlier = read_identities(work.identities(start)) if start else None
    found, empty = identify(
        tracklets, settings, start=earlier.assignment if earlier else None, truth=truth, progress=progress
    )
    if earlier:  # why crops and tracklets are where they are includes what was done before
        found = replace(found, links=_both(earlier.links, found.links), moves=_both(earlier.moves, found.moves))
    found.report["start"] = start
    found.report["embeddings"] = {"name": embeddings, **meta}
    write_identities(aside, found)
    last = found.report["stages"][-1]
    return Outcome(
        counts={"crops": len(crops), "tracklets": len(tracklets), "identities": last["identities"]},
        dropped={
            "could not be embedded": empty,
            "unlike its tracklet, and like no other of its video": len(crops) - empty - last["crops_kept"],
        },
    )


def _both(earlier: Columns, later: Columns) -> Columns:
    return {name: np.concatenate([earlier[name], later[name]]) for name in later}


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
    cst, drm, thresholds = _thresholds(tracklets, assignment, settings, progress)
    stages = _stages(settings, cst, drm, begun=start is not None)
    trace = Trace()
    rows = [_row(BASELINE if start is None else SO_FAR, tracklets, assignment, assignment, trace, cst, drm, truth, 0.0)]
    with progress.task("correlate", len(stages)) as advance:
        for name, stage in stages:
            begun = time.perf_counter()
            before, assignment = assignment, stage(tracklets, assignment, trace=trace)
            seconds = time.perf_counter() - begun
            rows.append(_row(name, tracklets, before, assignment, trace, cst, drm, truth, seconds))
            progress.note(_said(rows[-1]))
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


def _thresholds(
    tracklets: TrackletSet, assignment: Assignment, settings: CorrelateSettings, progress: Progress
) -> tuple[float, float, dict[str, Any]]:
    for key in ("sigma_cst", "sigma_drm"):
        value = getattr(settings, key)
        if value is not None and not 0 <= value <= 2:
            raise SettingsError(f"{key}: must be a cosine distance in 0..2, got {value}")
    cst, drm = settings.sigma_cst, settings.sigma_drm
    said: dict[str, Any] = {"rule": settings.thresholds}
    if settings.thresholds == "auto" and (cst is None or drm is None):
        evidence = calibrate(
            tracklets,
            assignment,
            outliers=settings.outliers,
            strangers=settings.strangers,
            false_links=settings.false_links,
            radius=settings.radius,
            overlap=settings.overlap,
            sigma_cst=cst,
        )
        for note in evidence.notes:
            progress.note(f"correlate: {note}")
        cst, drm = evidence.sigma_cst if cst is None else cst, evidence.sigma_drm if drm is None else drm
        said["evidence"] = {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in asdict(evidence).items()
            if key not in ("sigma_cst", "sigma_drm")
        }
    cst, drm = SIGMA_CST if cst is None else cst, SIGMA_DRM if drm is None else drm
    by_hand = [key for key in ("sigma_cst", "sigma_drm") if getattr(settings, key) is not None]
    return cst, drm, {"sigma_cst": cst, "sigma_drm": drm, "by_hand": by_hand, **said}


def _row(
    name: str,
    tracklets: TrackletSet,
    before: Assignment,
    after: Assignment,
    trace: Trace,
    sigma_cst: float,
    sigma_drm: float,
    truth: Int[np.ndarray, " n"] | None,
    seconds: float,
) -> dict[str, Any]:
    """What one stage did, and how things stand after it."""
    noise = noise_terms(tracklets, after, sigma_cst=sigma_cst, sigma_drm=sigma_drm)
    left, came = before.tracklet >= 0, after.tracklet >= 0
    row: dict[str, Any] = {
        "name": name,
        "crops_discarded": int(np.count_nonzero(left & ~came)),
        "crops_moved": int(np.count_nonzero(~left & came)),
        "crops_kept": int(np.count_nonzero(came)),
        "tracklets_merged": sum(len(columns["first"]) for stage, columns in trace.links if stage == name),
        "links_vetoed": trace.vetoed.get(name, 0),
        "identities": noise.identities,
        "noise": noise.score,
        "inconsistent": noise.inconsistent,
        "similar_pairs": noise.similar_pairs,
        "seconds": round(seconds, 3),
    }
    identity = after.crop_identity
    if truth is not None and ((truth >= 0) & (identity >= 0)).any():
        row["scores"] = asdict(score_identities(truth, identity))
    return row


def _said(row: dict[str, Any]) -> str:
    text = (
        f"{row['name']}: {row['crops_discarded']} crops out, {row['crops_moved']} moved, {row['tracklets_merged']} "
        f"tracklets merged, {row['identities']} identities, n_S {row['noise']:.3f}"
    )
    if "scores" in row:
        text += f", pairwise F1 {row['scores']['pairwise_f1']:.3f}, B-cubed F1 {row['scores']['bcubed_f1']:.3f}"
    return text
