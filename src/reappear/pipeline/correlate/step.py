from dataclasses import replace
from pathlib import Path

import numpy as np

from reappear.core import SILENT, InputError, Progress
from reappear.pipeline.record import Outcome, Record, run_step
from reappear.pipeline.workspace import Workspace
from reappear.store import Columns, read_embeddings, read_identities, write_identities

from .fold import identify
from .settings import CorrelateSettings


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
