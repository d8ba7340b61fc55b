"""Writes labelled crops of a data set as the tables of a workspace."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from reappear.store import Columns, write_table

NO_TIMES = (
    "ingest: no times are given, so simultaneous tracklets are unknown: there are no cannot-link constraints, and "
    "thresholds are calibrated without them"
)


@dataclass(frozen=True)
class ExternalCrops:
    """Rows of a set, one for each crop.

    Attributes:
        video: Number of the video, from 0.
        tracklet: Rows with equal video, tracklet and label are one tracklet.
        label: Index into the names of labels; -1 = unlabelled.
        time: Seconds in its video; NaN = unknown.
        truth: Ground truth identity; -1 = no person, or unknown.
    """

    video: Int[np.ndarray, " n"]
    tracklet: Int[np.ndarray, " n"]
    label: Int[np.ndarray, " n"]
    time: Float[np.ndarray, " n"]
    truth: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, rows: np.ndarray) -> "ExternalCrops":
        return ExternalCrops(self.video[rows], self.tracklet[rows], self.label[rows], self.time[rows], self.truth[rows])

    def order(self) -> Int[np.ndarray, " n"]:
        """Row numbers sorted by video, tracklet, label and time (stable)."""
        return np.lexsort((self.time, self.label, self.tracklet, self.video))

    def begins(self) -> Int[np.ndarray, " t"]:
        """First row of each tracklet, for sorted rows."""
        new: Bool[np.ndarray, " n"] = np.ones(len(self), bool)
        new[1:] = False
        for key in (self.video, self.tracklet, self.label):
            new[1:] |= key[1:] != key[:-1]
        return np.flatnonzero(new)


@dataclass(frozen=True)
class ExternalVideos:
    """The videos of the rows, by number.

    Attributes:
        names: Names of the videos in the set.
        cameras: Camera of each video.
        path: Folder of the set.
    """

    names: list[str]
    cameras: list[str]
    path: Path


def write_external(
    staging: Path,
    rows: ExternalCrops,
    videos: ExternalVideos,
    *,
    labels: list[str],
    places: Columns,
    source: Columns,
    has_truth: bool,
) -> int:
    """Writes the tables of a workspace.

    Args:
        staging: The folder to write to.
        rows: Sorted rows.
        videos: Their videos.
        labels: Names of the labels.
        places: Columns shard, offset, size, width, height of each row; -1 where there is no image.
        source: Columns that identify each row in the set.
        has_truth: Whether true identities are known.

    Returns:
        The number of tracklets.
    """
    begins = rows.begins()
    lengths = np.diff(begins, append=len(rows))
    tracklet = np.repeat(np.arange(len(begins)), lengths)
    nothing = np.zeros(len(rows), np.float32)
    write_table(
        staging / "crops.parquet",
        {
            "video": rows.video,
            "frame": np.full(len(rows), -1),
            "time": rows.time,
            "left": nothing,
            "top": nothing,
            "right": places["width"].astype(np.float32),
            "bottom": places["height"].astype(np.float32),
            "score": nothing + 1,
            "tracklet": tracklet,
            **{name: places[name] for name in ("shard", "offset", "size")},
            "truth": rows.truth,
            "label": rows.label,
        },
    )
    write_table(staging / "labels.parquet", {"name": labels})
    write_table(staging / "sources.parquet", source)
    write_table(
        staging / "tracklets.parquet",
        {
            "video": rows.video[begins],
            "start": rows.time[begins],
            "end": rows.time[begins + lengths - 1],
            "crops": lengths,
        },
    )
    count = len(videos.names)
    last = np.zeros(count)
    np.maximum.at(last, rows.video, np.nan_to_num(rows.time))
    none = np.zeros(count, np.int64)
    write_table(
        staging / "videos.parquet",
        {
            "name": videos.names,
            "path": [str(videos.path)] * count,
            "camera": videos.cameras,
            "width": none,
            "height": none,
            "rate": np.zeros(count),
            "frames": none,
            "seconds": last,
            "sha256": [""] * count,
            "truth": np.full(count, has_truth),
        },
    )
    return len(begins)
