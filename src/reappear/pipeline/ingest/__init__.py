"""Ingest: what there is of people → crops grouped into tracklets, in a workspace.

Videos are searched for people. A set that has its crops already, as images with labels or as embeddings with labels,
comes as it is given: what it takes for one person in one place is a tracklet.
"""

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Interval

from reappear.core import SILENT, Processes, Progress, SettingsError, settings
from reappear.pipeline.record import Record
from reappear.pipeline.workspace import Workspace
from reappear.video import ByteTrackSettings, CropSettings, DetectorSettings, MotionSettings, TrackerSettings

__all__ = ["IngestSettings", "ingest"]


@settings
class IngestSettings:
    """How people are found in videos and cut out, or how a set of crops is read."""

    layout: Annotated[
        str,
        "kind of input: auto = detected from the files; videos; vectors = a .npy with its .csv; "
        "or a data set, see `reappear data list`",
    ] = "auto"
    labels_are_truth: Annotated[
        bool, "sets with labels: they are right, so that what is found is scored against them; never used to find it"
    ] = False
    detector: Annotated[DetectorSettings, "detector of people in a frame"] = field(default_factory=MotionSettings)
    tracker: Annotated[TrackerSettings, "tracker that links detections into tracklets"] = field(
        default_factory=ByteTrackSettings
    )
    crop: Annotated[CropSettings, "which boxes are kept, and how they are cut out"] = field(
        default_factory=CropSettings
    )
    stride: Annotated[int, "look at every n-th frame", Interval(ge=1, le=1_000_000)] = 1
    camera: Annotated[
        Literal["file", "prefix"],
        "which camera filmed a video: each file its own, or the file name up to its last underscore names it",
    ] = "file"
    truth_ids: Annotated[
        Literal["video", "global"],
        "what equal ids in the ground truth of two videos mean: video = two people; global = one person",
    ] = "video"
    workers: Annotated[Processes, "files worked on at the same time; 0 = one per processor. The result is the same"] = 0


def ingest(
    sources: Sequence[Path], work: Workspace, settings: IngestSettings, *, progress: Progress = SILENT
) -> Record:
    """Writes the crops of `sources` to `WORK/crops`, and their embeddings to `WORK/embeddings/round0` where these came.

    What cannot be read is left out, with a note and a count. What was finished before an interruption is not done
    again.

    Raises:
        InputError: A path is not there, nothing in it can be read, or it is not clear what it is.
    """
    from .images import ingest_images
    from .kinds import VECTORS, VIDEOS, detect_kind
    from .vectors import ingest_vectors
    from .videos import ingest_videos

    kind = detect_kind(sources, settings.layout, progress)
    work.make()
    if kind == VIDEOS:
        return ingest_videos(sources, work, settings, progress=progress)
    if kind == VECTORS:
        return ingest_vectors(sources, work, settings, progress=progress)
    if len(sources) != 1:
        raise SettingsError(f"layout: a set of images is one folder or file, got {len(sources)}")
    return ingest_images(sources[0], kind, work, settings, progress=progress)
