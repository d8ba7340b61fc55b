"""What a run decides before its stages: thresholds, how it links, and the vectors that it compares."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from reappear.core import Assignment, Engine, InputError, Progress, TrackletSet, counted
from reappear.denoise import SIGMA_CST, SIGMA_DRM, calibrate
from reappear.denoise.average_link import FEWEST
from reappear.store import read_npy

from .settings import CorrelateSettings, Rule

LINKED = "linked.npy"
_BLOCK = 1 << 14


def linked_rows(tracklets: TrackletSet, vectors: Float[np.ndarray, "t d"] | None, file: Path) -> TrackletSet | None:
    """The tracklets with the vector of its tracklet in the place of each crop's own: what average linkage compares.

    Args:
        tracklets: With the vectors of crops, which stay where a tracklet has no vector, and for crops without one.
        vectors: Of tracklets; None = there are none.
        file: Where the rows lie.

    Raises:
        InputError: The vectors are not those of these tracklets.
    """
    if vectors is None:
        return None
    crops, origin = tracklets.embeddings, tracklets.origin
    if vectors.shape != (len(tracklets), crops.shape[1]):
        raise InputError(
            f"vectors of {counted(len(vectors), 'tracklet')}, {vectors.shape[1:]} wide, do not fit "
            f"{counted(len(tracklets), 'tracklet')} of {crops.shape[1]}; embed these crops anew"
        )
    rows = np.lib.format.open_memmap(file, "w+", np.float16, crops.shape)
    for begin in range(0, len(crops), _BLOCK):
        some = slice(begin, begin + _BLOCK)
        of_crops, of_tracklets = np.asarray(crops[some]), vectors[origin[some]]
        known = of_crops.any(axis=1) & of_tracklets.any(axis=1)
        rows[some] = np.where(known[:, None], of_tracklets, of_crops)
    rows.flush()
    return replace(tracklets, embeddings=read_npy(file))


def choose_linking(
    tracklets: TrackletSet, assignment: Assignment, settings: CorrelateSettings, progress: Progress
) -> dict[str, Any]:
    """The report's entry on linking: the method, its settings, and why it is not the one asked for, if it is not."""
    if settings.linking == "closure":
        return {"method": "closure"}
    nodes = assignment.identities
    held = np.unique(assignment.tracklet[assignment.tracklet >= 0])
    videos = len(np.unique(tracklets.video[held]))
    note = None
    if nodes < FEWEST:
        note = f"average linkage compares with lookalikes and needs {FEWEST} tracklets, got {nodes}"
    elif videos < 2:
        note = "average linkage is for several videos, here is one"
    if note is None:
        return {"method": "average", "z": settings.z}
    note += ": tracklets are linked by closure (--linking closure)"
    if settings.precision is not None:
        note += ", which has no precision"
    progress.note(f"correlate: {note}")
    return {"method": "closure", "note": note}


def choose_thresholds(
    tracklets: TrackletSet, assignment: Assignment, settings: CorrelateSettings, engine: Engine, progress: Progress
) -> dict[str, Any]:
    """`sigma_cst`, `sigma_drm`, and the report's entries on them."""
    rules = settings.rules
    cst, drm = _of_rule(rules[0], SIGMA_CST), _of_rule(rules[1], SIGMA_DRM)
    entries: dict[str, Any] = {}
    if "calibrated" in rules:
        evidence = calibrate(
            tracklets,
            assignment,
            impostors=settings.impostors,
            false_links=settings.false_links,
            resamples=settings.resamples,
            radius=settings.radius if settings.pairs == "sliding" else None,
            overlap=settings.overlap,
            sigma_cst=cst,
            engine=engine,
        )
        for note in evidence.notes:
            progress.note(f"correlate: {note}")
        cst, drm = evidence.sigma_cst if cst is None else cst, evidence.sigma_drm if drm is None else drm
        found = asdict(evidence)
        entries["evidence"] = {key: _plain(found[key]) for key in found if key not in ("sigma_cst", "sigma_drm")}
    words = ["by hand" if isinstance(rule, float) else rule for rule in rules]
    return {"sigma_cst": cst, "sigma_drm": drm, "rules": words, **entries}


def _of_rule(rule: Rule, paper: float) -> float | None:
    """None = to be calibrated."""
    if isinstance(rule, float):
        return rule
    return paper if rule == "paper" else None


def _plain(value: Any) -> Any:
    """JSON knows no NaN, nor an interval of two."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return None if isinstance(value, tuple) and value and value[0] != value[0] else value
