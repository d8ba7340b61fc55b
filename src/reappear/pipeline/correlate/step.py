from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any

import numpy as np

from reappear.core import (
    SILENT,
    Assignment,
    InputError,
    Progress,
    SettingsError,
    TrackletSet,
    counted,
    device_memory_errors,
    read_text,
)
from reappear.denoise import ReviewConstraints
from reappear.pipeline.contents import hash_files
from reappear.pipeline.embed import require_embeddings
from reappear.pipeline.engines import Bounded, choose_products, format_memory, open_engine, parse_memory
from reappear.pipeline.record import Changed, Outcome, Record, Update, run_step
from reappear.pipeline.workspace import Workspace
from reappear.store import (
    count_decisions,
    read_embeddings,
    read_identities,
    read_table,
    read_tracklet_vectors,
    write_identities,
    write_table,
    write_text,
)

from .checkpoints import StageCheckpoints
from .choices import LINKED, linked_rows
from .numbers import TABLE, format_changes, keep_numbers
from .settings import CorrelateSettings
from .stages import identify

_NEEDED = 250 << 20  # bytes for the program, and blocks of fixed size
_PER_CROP, _PER_TRACKLET = 150, 800  # bytes of columns while a stage works; some 1200 of a tracklet of 3 crops measured
_MIN_MEMORY_BYTES = 64 << 20  # bytes for links, at least
_SHARED = 256 << 20  # bytes for results of workers under way
_UNFINISHED = "unfinished"
_MOST_NOTES = 5  # ignored decisions, one line each


def correlate(
    work: Workspace,
    name: str,
    settings: CorrelateSettings,
    *,
    embeddings: str,
    start: str | None = None,
    numbers: str | None = None,
    replace: bool = False,
    progress: Progress = SILENT,
) -> Record:
    """Writes identities/NAME: the identity of each tracklet, its links, and the changes of each stage.

    Identities of an earlier state of the crops, by the same settings, are replaced, and their numbers are kept.

    Args:
        work: A workspace with crops and embeddings.
        name: Name of the folder of identities.
        settings: Thresholds and stages.
        embeddings: Name of the embeddings to read.
        start: Name of earlier identities to start from, which are kept; only the cross-video stage runs. None = start
            from tracklets.
        numbers: Name of identities, of any state of the crops, whose numbers are kept where there are none of this
            name yet. Numbers say nothing of who is who, and are no input of the step.
        replace: Identities of this name by other embeddings are replaced too.
        progress: Progress listener.
    """
    work.open_crops()
    require_embeddings(work, embeddings)
    begun = {"start": work.finished_identities(start)} if start else {}
    log = review_log(work, settings)
    decided = hash_files({"review": log} if log else {}, work.hashes)
    folders = [work.identities(name)]
    if numbers is not None:
        folders.append(work.existing_identities(numbers))

    def fill(staging: Path) -> Outcome:
        earlier = next((folder for folder in folders if (folder / "record.json").exists()), None)
        return _correlate(work, settings, embeddings, start, log, earlier, staging, progress)

    def decide(record: Record) -> Changed:
        return "replace" if replace or work.is_of_earlier_crops(record) else "refuse"

    return run_step(
        work.identities(name),
        step="correlate",
        settings=settings,
        inputs={"crops": work.crops, "embeddings": work.embeddings(embeddings), **begun, **decided},
        work=fill,
        update=Update(decide, lambda staging: StageCheckpoints(staging / _UNFINISHED, progress).remove()),
        progress=progress,
    )


def _correlate(
    work: Workspace,
    settings: CorrelateSettings,
    embeddings: str,
    start: str | None,
    log: Path | None,
    numbered: Path | None,
    staging: Path,
    progress: Progress,
) -> Outcome:
    crops = work.open_crops()
    vectors, meta = read_embeddings(work.embeddings(embeddings))
    if len(vectors) != len(crops):
        raise InputError(
            f"{work.embeddings(embeddings)} holds {counted(len(vectors), 'row')} for {counted(len(crops), 'crop')}; "
            f"embed these crops anew"
        )
    if not len(crops):
        raise InputError(f"{work.crops} has no crops: nothing to correlate; ingest videos first")
    tracklets = crops.tracklet_set(vectors)
    linked = linked_rows(tracklets, read_tracklet_vectors(work.embeddings(embeddings)), staging / LINKED)
    spare = _spare_memory(settings, len(crops), len(tracklets), vectors.shape[1])
    listed = spare // (2 if settings.linking == "average" else 4)  # for pairs and links
    truth = read_table(work.crops / "crops.parquet", "truth")["truth"].astype(np.int64) if crops.has_truth else None
    earlier = read_identities(work.identities(start)) if start else None
    review = _weigh(log, work, tracklets, settings, progress) if log else None
    checkpoints = StageCheckpoints(staging / _UNFINISHED, progress)
    matrix = 4 * len(tracklets) * vectors.shape[1]
    products = choose_products(settings.device, settings.engine)
    advice = "set device cpu; finished pieces are kept, and the result is the same"
    with device_memory_errors(advice), open_engine(settings.engine, 2 * matrix + _SHARED) as engine:
        found, empty = identify(
            tracklets,
            settings,
            linked=linked,
            start=earlier,
            review=review,
            truth=truth,
            camera=np.unique([video.camera for video in crops.videos], return_inverse=True)[1][tracklets.video],
            engine=Bounded(engine, staging, limit=spare - listed, memory_bytes=_MIN_MEMORY_BYTES + listed),
            products=products,
            checkpoints=checkpoints,
            progress=progress,
        )
    found.report["start"] = start
    found.report["embeddings"] = {"name": embeddings, **meta}
    if log and review:
        found.report["review"] = {"decisions": review.counts, "overruled": list(review.overruled)}
        write_text(staging / "review.jsonl", read_text(log))
    identity, changes, table = keep_numbers(found.assignment.identity, crops, numbered)
    found = replace_fields(found, assignment=Assignment(found.assignment.tracklet, identity))
    found.report["numbers"] = changes
    if text := format_changes(changes):
        changes["summary"] = text
        progress.note(f"correlate: {text}")
    write_table(staging / TABLE, table)
    write_identities(staging, found)
    if "evidence" in found.report["thresholds"]:
        _draw(staging / "thresholds.svg", found.report["thresholds"])
    checkpoints.remove()
    (staging / LINKED).unlink(missing_ok=True)
    last = found.report["stages"][-1]
    rejected = int(np.count_nonzero(found.moves["stage"] == "review"))
    return Outcome(
        counts={"crops": len(crops), "tracklets": len(tracklets), "identities": last["identities"]},
        dropped={
            "no embedding": empty,
            "outliers without a matching tracklet in their video": len(crops) - empty - rejected - last["crops_kept"],
            **({"rejected in review": rejected} if rejected else {}),
        },
        made=int(last["identities"]),
    )


def _spare_memory(settings: CorrelateSettings, crops: int, tracklets: int, width: int) -> int:
    """Bytes beyond what every run needs, for matrices and for lists of pairs.

    Raises:
        SettingsError: The memory that is given does not reach.
    """
    needed = _NEEDED + _MIN_MEMORY_BYTES + _PER_CROP * crops + _PER_TRACKLET * tracklets
    if settings.pairs == "approximate":
        needed += 2 * tracklets * width  # an index
    memory = parse_memory(settings.memory)
    if memory < needed:
        raise SettingsError(
            f"memory: {settings.memory} is too little for {counted(crops, 'crop')} in "
            f"{counted(tracklets, 'tracklet')}; give {format_memory(needed)} or more"
        )
    return memory - needed


def review_log(work: Workspace, settings: CorrelateSettings) -> Path | None:
    """The log of decisions that `correlate` reads under these settings; None if there is none."""
    if settings.review == "none" or (settings.review == "auto" and not work.review.exists()):
        return None
    return work.review if settings.review == "auto" else Path(settings.review)


def _weigh(
    log: Path, work: Workspace, tracklets: TrackletSet, settings: CorrelateSettings, progress: Progress
) -> ReviewConstraints:
    """Constraints from the decisions; notes those ignored, and those that contradict times."""
    decisions = work.decisions(log)
    if gone := count_decisions(log) - len(decisions):
        progress.note(f"review: left out: {counted(gone, 'decision')} on videos that are not there now, until they are")
    review = ReviewConstraints.of(decisions, tracklets)
    for overruled in review.overruled[:_MOST_NOTES]:
        progress.note(f"review: {overruled}; decision ignored")
    if len(review.overruled) > _MOST_NOTES:
        progress.note(
            f"review: {counted(len(review.overruled) - _MOST_NOTES, 'decision')} more ignored; all are in report.json"
        )
    denied = review.contradicted(tracklets, settings.overlap) if settings.constraints else 0
    if denied:
        progress.note(f"review: simultaneous, but one person by decision: {counted(denied, 'pair')} of tracklets")
    return review


def _draw(path: Path, thresholds: dict[str, Any]) -> None:
    from reappear.pipeline.report.plots import draw_thresholds, standalone  # matplotlib is slow to import

    if (plot := draw_thresholds(thresholds, name="thresholds")) is not None:
        write_text(path, standalone(plot))
