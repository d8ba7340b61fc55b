"""Multi-object tracking: links detections of consecutive frames into tracklets."""

from collections import deque
from statistics import median_low
from typing import Annotated, Literal, Protocol, runtime_checkable

import numpy as np
from annotated_types import Interval
from jaxtyping import Int

from reappear.core import Fraction, settings

from .detectors import FrameDetections
from .trackers import ByteTrack, OcSort

LEAST_INTERVALS = 3  # frames for which a lost tracklet is kept at least, whatever the frame rate
_INTERVALS_KEPT = 15


@runtime_checkable
class Tracker(Protocol):
    """Tracks the people of one video, frame by frame in order. One instance per video."""

    def update(self, found: FrameDetections, time: float) -> Int[np.ndarray, " n"]:
        """The tracklet of each box that was found `time` seconds into the video; -1 = none (yet).

        Times increase strictly from call to call.
        """
        ...


Seconds = Annotated[float, Interval(ge=0, le=3600)]
Frames = Annotated[int, Interval(ge=1, le=1000)]


@settings
class ByteTrackSettings:
    """ByteTrack (Zhang et al. 2022, arXiv:2110.06864): boxes of low score extend tracklets, but start none."""

    kind: Literal["bytetrack"] = "bytetrack"
    activation_score: Annotated[Fraction, "score from which a box may start a tracklet"] = 0.5
    high_score: Annotated[Fraction, "score from which a box is matched in the first round"] = 0.5
    minimum_iou: Annotated[Fraction, "least IoU of a box with the predicted one to be matched"] = 0.3
    lost_seconds: Annotated[Seconds, "seconds without a detection after which a tracklet ends; at least 3 frames"] = 1.0
    minimum_frames: Annotated[Frames, "frames in a row before a tracklet counts"] = 2

    def build(self, *, rate: float) -> "VideoTracker":
        """A tracker for one video of `rate` frames a second."""
        algorithm = ByteTrack(
            rate=rate,
            activation_score=self.activation_score,
            high_score=self.high_score,
            minimum_iou=self.minimum_iou,
            minimum_frames=self.minimum_frames,
        )
        return VideoTracker(algorithm, rate=rate, lost_seconds=self.lost_seconds)


@settings
class OcSortSettings:
    """OC-SORT (Cao et al. 2023, arXiv:2203.14360): handles turns and stops better than a constant velocity."""

    kind: Literal["ocsort"] = "ocsort"
    high_score: Annotated[Fraction, "boxes below this score are not used"] = 0.5
    minimum_iou: Annotated[Fraction, "least IoU of a box with the predicted one to be matched"] = 0.3
    direction_weight: Annotated[float, "weight of a steady direction against overlap", Interval(ge=0, le=100)] = 0.2
    lost_seconds: Annotated[Seconds, "seconds without a detection after which a tracklet ends; at least 3 frames"] = 1.0
    minimum_frames: Annotated[Frames, "frames in a row before a tracklet counts"] = 3

    def build(self, *, rate: float) -> "VideoTracker":
        """A tracker for one video of `rate` frames a second."""
        algorithm = OcSort(
            rate=rate,
            high_score=self.high_score,
            minimum_iou=self.minimum_iou,
            direction_weight=self.direction_weight,
            minimum_frames=self.minimum_frames,
        )
        return VideoTracker(algorithm, rate=rate, lost_seconds=self.lost_seconds)


@settings
class SortSettings:
    """SORT (Bewley et al. 2016, arXiv:1602.00763): constant velocity and overlap, nothing else."""

    kind: Literal["sort"] = "sort"
    activation_score: Annotated[Fraction, "score from which a box may start a tracklet"] = 0.5
    minimum_iou: Annotated[Fraction, "least IoU of a box with the predicted one to be matched"] = 0.3
    lost_seconds: Annotated[Seconds, "seconds without a detection after which a tracklet ends; at least 3 frames"] = 1.0
    minimum_frames: Annotated[Frames, "frames in a row before a tracklet counts"] = 3

    def build(self, *, rate: float) -> "VideoTracker":
        """A tracker for one video of `rate` frames a second."""
        algorithm = ByteTrack(
            rate=rate,
            activation_score=self.activation_score,
            high_score=0.0,
            minimum_iou=self.minimum_iou,
            minimum_frames=self.minimum_frames,
            in_a_row=False,
        )
        return VideoTracker(algorithm, rate=rate, lost_seconds=self.lost_seconds)


TrackerSettings = ByteTrackSettings | OcSortSettings | SortSettings


class VideoTracker:
    """Runs a tracker on the time stamps of a video, with gaps and variable frame rates.

    A lost tracklet is kept for `lost_seconds`, or for `LEAST_INTERVALS` frame intervals where those are longer. The
    interval is the median of the latest; a single gap does not change it.

    Args:
        algorithm: Assigns boxes to tracklets.
        rate: Frames a second processed, by the header of the video.
        lost_seconds: Seconds without a detection after which a tracklet ends.
    """

    def __init__(self, algorithm: ByteTrack | OcSort, *, rate: float, lost_seconds: float) -> None:
        self._algorithm, self._lost_seconds, self._rate = algorithm, lost_seconds, rate
        self._time: float | None = None
        self._intervals = deque([1 / rate], maxlen=_INTERVALS_KEPT)

    def update(self, found: FrameDetections, time: float) -> Int[np.ndarray, " n"]:
        """See `Tracker.update`."""
        seconds = 1 / self._rate if self._time is None else time - self._time
        if self._time is not None:
            self._intervals.append(seconds)
        self._time = time
        # 1.01: tolerance for rounded times
        lost_seconds = max(self._lost_seconds, LEAST_INTERVALS * 1.01 * median_low(self._intervals))
        box, score = found.box.astype(np.float64), found.score.astype(np.float64)
        return self._algorithm.update(box, score, seconds, lost_seconds=lost_seconds)
