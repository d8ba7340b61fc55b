"""Boxes of one person in frame after frame become a tracklet."""

from collections import deque
from statistics import median_low
from typing import Annotated, Literal, Protocol, runtime_checkable

import numpy as np
from annotated_types import Interval
from jaxtyping import Int

from reappear.core import Fraction, settings

from .detectors import Found
from .trackers import ByteTrack, OcSort

LEAST_INTERVALS = 3  # frames that a tracklet waits at least, however far apart they are
_INTERVALS_KEPT = 15


@runtime_checkable
class Tracker(Protocol):
    """Follows the people of one video, whose frames come in order. Made anew for each video."""

    def update(self, found: Found, time: float) -> Int[np.ndarray, " n"]:
        """The tracklet of each box that was found `time` seconds into the video; -1 = none (yet).

        Times increase strictly from call to call.
        """
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
    lost: Annotated[Seconds, "seconds that a tracklet waits for somebody who is out of sight; at least 3 frames"] = 1.0
    steady: Annotated[Frames, "frames in a row before a tracklet counts"] = 2

    def build(self, *, rate: float) -> "VideoTracker":
        """A tracker for one video of `rate` frames a second."""
        algorithm = ByteTrack(rate=rate, begin=self.begin, high=self.high, overlap=self.iou, steady=self.steady)
        return VideoTracker(algorithm, rate=rate, lost=self.lost)


@settings
class OcSortSettings:
    """OC-SORT (Cao et al. 2023, arXiv:2203.14360): follows turns and stops better than a constant velocity."""

    kind: Literal["ocsort"] = "ocsort"
    high: Annotated[Fraction, "boxes below this score are not used"] = 0.5
    iou: Annotated[Fraction, "overlap with its predicted place that a box needs to be matched, IoU"] = 0.3
    direction: Annotated[float, "weight of a steady direction against overlap", Interval(ge=0, le=100)] = 0.2
    lost: Annotated[Seconds, "seconds that a tracklet waits for somebody who is out of sight; at least 3 frames"] = 1.0
    steady: Annotated[Frames, "frames in a row before a tracklet counts"] = 3

    def build(self, *, rate: float) -> "VideoTracker":
        """A tracker for one video of `rate` frames a second."""
        algorithm = OcSort(rate=rate, high=self.high, overlap=self.iou, direction=self.direction, steady=self.steady)
        return VideoTracker(algorithm, rate=rate, lost=self.lost)


@settings
class SortSettings:
    """SORT (Bewley et al. 2016, arXiv:1602.00763): constant velocity and overlap, nothing else."""

    kind: Literal["sort"] = "sort"
    begin: Annotated[Fraction, "score from which a box may begin a tracklet"] = 0.5
    iou: Annotated[Fraction, "overlap with its predicted place that a box needs to be matched, IoU"] = 0.3
    lost: Annotated[Seconds, "seconds that a tracklet waits for somebody who is out of sight; at least 3 frames"] = 1.0
    steady: Annotated[Frames, "frames in a row before a tracklet counts"] = 3

    def build(self, *, rate: float) -> "VideoTracker":
        """A tracker for one video of `rate` frames a second."""
        algorithm = ByteTrack(
            rate=rate, begin=self.begin, high=0.0, overlap=self.iou, steady=self.steady, in_a_row=False
        )
        return VideoTracker(algorithm, rate=rate, lost=self.lost)


TrackerSettings = ByteTrackSettings | OcSortSettings | SortSettings


class VideoTracker:
    """A tracker by the time stamps of a video, so that gaps and uneven rates do no harm.

    A tracklet waits for `lost` seconds, and for `LEAST_INTERVALS` frame intervals where those are longer. The interval
    is the median of the latest; a single gap does not change it.

    Args:
        algorithm: What assigns boxes to tracklets.
        rate: Frames a second that it sees, as the video states.
        lost: Seconds that a tracklet waits for somebody who is out of sight.
    """

    def __init__(self, algorithm: ByteTrack | OcSort, *, rate: float, lost: float) -> None:
        self._algorithm, self._lost, self._rate = algorithm, lost, rate
        self._time: float | None = None
        self._intervals = deque([1 / rate], maxlen=_INTERVALS_KEPT)

    def update(self, found: Found, time: float) -> Int[np.ndarray, " n"]:
        """See `Tracker.update`."""
        seconds = 1 / self._rate if self._time is None else time - self._time
        if self._time is not None:
            self._intervals.append(seconds)
        self._time = time
        # 1.01: whatever the rounding of times
        lost = max(self._lost, LEAST_INTERVALS * 1.01 * median_low(self._intervals))
        box, score = found.box.astype(np.float64), found.score.astype(np.float64)
        return self._algorithm.update(box, score, seconds, lost=lost)
