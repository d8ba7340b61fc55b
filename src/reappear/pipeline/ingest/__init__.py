"""Ingest: videos, labelled images or labelled embeddings → crops grouped into tracklets, in a workspace.

People are detected and tracked in videos. Labelled images and embeddings are imported unchanged: the rows of one
identity in one camera (and sequence) are a tracklet.
"""

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Interval

from reappear.core import OPERATIONAL, SILENT, Processes, Progress, SettingsError, settings
from reappear.pipeline.record import Record
from reappear.pipeline.workspace import Workspace
from reappear.video import AutoSettings, ByteTrackSettings, CropSettings, DetectorSettings, TrackerSettings, find_videos

__all__ = ["IngestSettings", "ingest", "require_sources"]

_OF_VIDEOS = ("detector", "tracker", "crop", "stride", "camera", "truth_ids")


@settings
class IngestSettings:
    """How people in videos are detected, tracked and cropped, or how a labelled set is read."""

    layout: Annotated[
        str,
        "kind of input: auto = detected from the files; videos; vectors = a .npy with its .csv; "
        "or a data set, see `reappear data list`",
    ] = "auto"
    labels_are_truth: Annotated[
        bool, "labelled sets: use the labels as ground truth for scoring; they never influence the result"
    ] = False
    detector: Annotated[DetectorSettings, "detector of people in a frame"] = field(default_factory=AutoSettings)
    tracker: Annotated[TrackerSettings, "tracker that links detections into tracklets"] = field(
        default_factory=ByteTrackSettings
    )
    crop: Annotated[CropSettings, "which boxes are kept, and how they are cropped"] = field(
        default_factory=CropSettings
    )
    stride: Annotated[int, "process every n-th frame", Interval(ge=1, le=1_000_000)] = 1
    camera: Annotated[
        Literal["file", "prefix"],
        "camera of a video: file = each file is its own; prefix = the file name up to its last underscore",
    ] = "file"
    truth_ids: Annotated[
        Literal["video", "global"],
        "scope of ground truth ids: video = equal ids in two videos are two people; global = one person",
    ] = "video"
    workers: Annotated[
        Processes, "files processed at the same time; 0 = one per processor. The result is the same", OPERATIONAL
    ] = 0


def require_sources(sources: Sequence[Path], settings: IngestSettings) -> None:
    """Looks for the input, before anything else is imported or made.

    Raises:
        InputError: A path does not exist, there are no videos in it, or its kind is ambiguous.
        SettingsError: The layout is unknown.
    """
    from .kinds import VIDEOS, detect_kind

    kind = detect_kind(sources, settings.layout, SILENT)
    _refuse_idle(kind, settings)
    if kind == VIDEOS:
        find_videos(sources)


def _refuse_idle(kind: str, settings: IngestSettings) -> None:
    """Raises SettingsError for a setting that has no effect on inputs of this kind."""
    names, others = (("labels_are_truth",), "sets with labels") if kind == "videos" else (_OF_VIDEOS, "videos")
    for name in names:
        if getattr(settings, name) != getattr(IngestSettings(), name):
            flag = f"--{name.replace('_', '-')}"
            raise SettingsError(f"{flag} has no effect on {kind}: it is for {others}; leave it out, or give --layout")


def ingest(
    sources: Sequence[Path], work: Workspace, settings: IngestSettings, *, progress: Progress = SILENT
) -> Record:
    """Writes the crops of `sources` to `WORK/crops`, and embeddings, if given, to `WORK/embeddings/round0`.

    Unreadable files are skipped, with a note and a count. Files finished before an interruption are not processed
    again.

    Raises:
        InputError: A path does not exist, nothing in it can be read, or its kind is ambiguous.
    """
    from .images import ingest_images
    from .kinds import VECTORS, VIDEOS, detect_kind
    from .vectors import ingest_vectors
    from .videos import ingest_videos

    kind = detect_kind(sources, settings.layout, progress)
    _refuse_idle(kind, settings)
    work.make()
    if kind == VIDEOS:
        return ingest_videos(sources, work, settings, progress=progress)
    if kind == VECTORS:
        return ingest_vectors(sources, work, settings, progress=progress)
    if len(sources) != 1:
        raise SettingsError(f"layout: a set of images is one folder or file, got {len(sources)}")
    return ingest_images(sources[0], kind, work, settings, progress=progress)
