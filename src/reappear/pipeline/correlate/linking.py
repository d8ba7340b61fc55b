"""The linking of a run: what is asked for, or the closure where average linkage has nothing to compare with."""

from typing import Any

import numpy as np

from reappear.core import Assignment, Progress, TrackletSet
from reappear.denoise.average_link import FEWEST

from .settings import CorrelateSettings


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
        note = f"average linkage compares with lookalikes and needs {FEWEST} tracklets, here are {nodes}"
    elif videos < 2:
        note = "average linkage is for several videos, here is one"
    if note is None:
        return {"method": "average", "z": settings.z}
    note += ": tracklets are linked by closure (--linking closure)"
    progress.note(f"correlate: {note}")
    return {"method": "closure", "note": note}
