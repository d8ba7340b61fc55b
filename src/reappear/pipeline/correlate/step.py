from dataclasses import replace
from pathlib import Path

import numpy as np

from reappear.core import SILENT, InputError, Progress, SettingsError
from reappear.pipeline.engines import Bounded, open_engine, parse_memory, say_memory
from reappear.pipeline.record import Outcome, Record, run_step
from reappear.pipeline.settings import to_plain
from reappear.pipeline.workspace import Workspace
from reappear.store import read_embeddings, read_identities, read_table, remove_folder, write_identities

from .checkpoints import Checkpoints
from .fold import both, identify
from .settings import CorrelateSettings

_NEEDED = 300 << 20  # bytes for the program, and blocks of fixed size
_PER_CROP, _PER_TRACKLET = 250, 400  # bytes of columns while a stage works, measured at a million tracklets
_SHARED = 256 << 20  # bytes for results of workers under way


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
    memory = parse_memory(settings.memory)
    plain = to_plain(settings)
    del plain["memory"], plain["engine"]  # the result does not depend on them
    return run_step(
        work.identities(name),
        step="correlate",
        settings=plain,
        inputs={"crops": work.crops, "embeddings": work.embeddings(embeddings), **begun},
        work=lambda aside: _correlate(work, settings, memory, embeddings, start, aside, progress),
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
    memory: int,
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
    needed = _NEEDED + _PER_CROP * len(crops) + _PER_TRACKLET * len(tracklets)
    if memory < needed:
        raise SettingsError(
            f"memory: {say_memory(memory)} is too little for {len(crops):,} crops in {len(tracklets):,} tracklets; "
            f"give {say_memory(needed)} or more"
        )
    truth = read_table(work.crops / "crops.parquet", "truth")["truth"].astype(np.int64) if crops.has_truth else None
    earlier = read_identities(work.identities(start)) if start else None
    unfinished = aside / "unfinished"
    matrix = 4 * len(tracklets) * vectors.shape[1]
    with open_engine(settings.engine, 2 * matrix + _SHARED) as engine:
        found, empty = identify(
            tracklets,
            settings,
            start=earlier.assignment if earlier else None,
            truth=truth,
            engine=Bounded(engine, aside, memory - needed),
            checkpoints=Checkpoints(unfinished, progress),
            progress=progress,
        )
    if earlier:  # why crops and tracklets are where they are includes what was done before
        found = replace(found, links=both(earlier.links, found.links), moves=both(earlier.moves, found.moves))
    found.report["start"] = start
    found.report["embeddings"] = {"name": embeddings, **meta}
    write_identities(aside, found)
    remove_folder(unfinished)
    last = found.report["stages"][-1]
    return Outcome(
        counts={"crops": len(crops), "tracklets": len(tracklets), "identities": last["identities"]},
        dropped={
            "could not be embedded": empty,
            "unlike its tracklet, and like no other of its video": len(crops) - empty - last["crops_kept"],
        },
    )
