"""Boxes of one person in frame after frame become a tracklet."""

from typing import Annotated, Literal, Protocol, runtime_checkable

import numpy as np
from annotated_types import Interval
from jaxtyping import Int

from reappear.core import Fraction, settings

from .detectors import Found
from .trackers import ByteTrack, OcSort


@runtime_checkable
class Tracker(Protocol):
    """Follows the people of one video, whose frames come in order. Made anew for each video."""

    def update(self, found: Found, time: float) -> Int[np.ndarray, " n"]:
        """The tracklet of each box that was found `time` seconds into the video; -1 = none (yet)."""
        ...


Seconds = Annotated[float, Interval(ge=0, le=3600)]
Frames = Annotated[int, Interval(ge=1, le=1000)]


@settings
class ByteTrackSettings:
    """ByteTrack (Zhang et al. 2022, arXiv:2110.06864): boxes of low score extend tracklets, but begin none."""

    kind: Literal["bytetrack"] = "bytetrack"
    begin: Annotated[Fraction, "score from which a box may begin a tracklet"] = 0.5
    high: Annotated[Fraction, "score from which a box is matched in the first round"] = 0.5
    iou: Annotated[Fraction, "overlap with its predicted place that a box needs to be matched, IoU"] = 0.3
    lost: Annotated[Seconds, "seconds that a tracklet waits for somebody who is out of sight"] = 1.0
    steady: Annotated[Frames, "frames in a row before a tracklet counts"] = 2

    def build(self, *, rate: float) -> "VideoTracker":
        """A tracker for one video of `rate` frames a second."""
        algorithm = ByteTrack(
            rate=rate, begin=self.begin, high=self.high, overlap=self.iou, lost=self.lost, steady=self.steady
        )
        return VideoTracker(algorithm, rate=rate)


@settings
class OcSortSettings:
    """OC-SORT (Cao et al. 2023, arXiv:2203.14360): follows turns and stops better than a constant velocity."""

    kind: Literal["ocsort"] = "ocsort"
    high: Annotated[Fraction, "boxes below this score are not used"] = 0.5
    iou: Annotated[Fraction, "overlap with its predicted place that a box needs to be matched, IoU"] = 0.3
    direction: Annotated[float, "weight of a steady direction against overlap", Interval(ge=0, le=100)] = 0.2
    lost: Annotated[Seconds, "seconds that a tracklet waits for somebody who is out of sight"] = 1.0
    steady: Annotated[Frames, "frames in a row before a tracklet counts"] = 3

    def build(self, *, rate: float) -> "VideoTracker":
        """A tracker for one video of `rate` frames a second."""
        algorithm = OcSort(
            rate=rate, high=self.high, overlap=self.iou, direction=self.direction, lost=self.lost, steady=self.steady
        )
        return VideoTracker(algorithm, rate=rate)


@settings
class SortSettings:
    """SORT (Bewley et al. 2016, arXiv:1602.00763): constant velocity and overlap, nothing else."""

    kind: Literal["sort"] = "sort"
    begin: Annotated[Fraction, "score from which a box may begin a tracklet"] = 0.5
    iou: Annotated[Fraction, "overlap with its predicted place that a box needs to be matched, IoU"] = 0.3
    lost: Annotated[Seconds, "seconds that a tracklet waits for somebody who is out of sight"] = 1.0
    steady: Annotated[Frames, "frames in a row before a tracklet counts"] = 3

    def build(self, *, rate: float) -> "VideoTracker":
        """A tracker for one video of `rate` frames a second."""
        algorithm = ByteTrack(
            rate=rate, begin=self.begin, high=0.0, overlap=self.iou, lost=self.lost, steady=self.steady, in_a_row=False
        )
        return VideoTracker(algorithm, rate=rate)


TrackerSettings = ByteTrackSettings | OcSortSettings | SortSettings


class VideoTracker:
    """A tracker by the time stamps of a video, so that gaps and uneven rates do no harm.

    Args:
        algorithm: What assigns boxes to tracklets.
        rate: Frames a second that it sees.
    """

    def __init__(self, algorithm: ByteTrack | OcSort, *, rate: float) -> None:
        self._algorithm = algorithm
        self._step = 1 / rate
        self._time = -self._step

    def update(self, found: Found, time: float) -> Int[np.ndarray, " n"]:
        """See `Tracker.update`."""
        # Broken time stamps stand still or run backwards; the tracker's clock must not.
        before, self._time = self._time, time if time > self._time else self._time + self._step
        return self._algorithm.update(found.box.astype(np.float64), found.score.astype(np.float64), self._time - before)
