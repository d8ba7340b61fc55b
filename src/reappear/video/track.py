"""Boxes of one person in frame after frame become a tracklet. The trackers are those of the `trackers` package."""

from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
from annotated_types import Interval
from jaxtyping import Int

from reappear.core import Fraction, settings

from .detectors import Found


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

    def build(self, *, rate: float) -> "LibraryTracker":
        """A tracker for one video of `rate` frames a second."""
        from trackers import ByteTrackTracker  # a second and a half to import

        return LibraryTracker(
            ByteTrackTracker(
                lost_track_buffer=_buffer(self.lost),
                frame_rate=rate,
                track_activation_threshold=self.begin,
                high_conf_det_threshold=self.high,
                minimum_iou_threshold=self.iou,
                minimum_consecutive_frames=self.steady,
            ),
            rate=rate,
        )


@settings
class OcSortSettings:
    """OC-SORT (Cao et al. 2023, arXiv:2203.14360): follows turns and stops better than a constant velocity."""

    kind: Literal["ocsort"] = "ocsort"
    high: Annotated[Fraction, "boxes below this score are not used"] = 0.5
    iou: Annotated[Fraction, "overlap with its predicted place that a box needs to be matched, IoU"] = 0.3
    direction: Annotated[float, "weight of a steady direction against overlap", Interval(ge=0, le=100)] = 0.2
    lost: Annotated[Seconds, "seconds that a tracklet waits for somebody who is out of sight"] = 1.0
    steady: Annotated[Frames, "frames in a row before a tracklet counts"] = 3

    def build(self, *, rate: float) -> "LibraryTracker":
        """A tracker for one video of `rate` frames a second."""
        from trackers import OCSORTTracker

        return LibraryTracker(
            OCSORTTracker(
                lost_track_buffer=_buffer(self.lost),
                frame_rate=rate,
                high_conf_det_threshold=self.high,
                minimum_iou_threshold=self.iou,
                direction_consistency_weight=self.direction,
                minimum_consecutive_frames=self.steady,
            ),
            rate=rate,
        )


@settings
class SortSettings:
    """SORT (Bewley et al. 2016, arXiv:1602.00763): constant velocity and overlap, nothing else."""

    kind: Literal["sort"] = "sort"
    begin: Annotated[Fraction, "score from which a box may begin a tracklet"] = 0.5
    iou: Annotated[Fraction, "overlap with its predicted place that a box needs to be matched, IoU"] = 0.3
    lost: Annotated[Seconds, "seconds that a tracklet waits for somebody who is out of sight"] = 1.0
    steady: Annotated[Frames, "frames in a row before a tracklet counts"] = 3

    def build(self, *, rate: float) -> "LibraryTracker":
        """A tracker for one video of `rate` frames a second."""
        from trackers import SORTTracker

        return LibraryTracker(
            SORTTracker(
                lost_track_buffer=_buffer(self.lost),
                frame_rate=rate,
                track_activation_threshold=self.begin,
                minimum_iou_threshold=self.iou,
                minimum_consecutive_frames=self.steady,
            ),
            rate=rate,
        )


TrackerSettings = ByteTrackSettings | OcSortSettings | SortSettings


class LibraryTracker:
    """One tracker of the `trackers` package, told the time of each frame so that gaps and uneven rates do no harm.

    Args:
        tracker: The tracker.
        rate: Frames a second that it sees.
    """

    def __init__(self, tracker: Any, *, rate: float) -> None:
        self._tracker = tracker
        self._step = 1 / rate
        self._time = -self._step

    def update(self, found: Found, time: float) -> Int[np.ndarray, " n"]:
        """See `Tracker.update`."""
        from supervision import Detections

        # Broken time stamps stand still or run backwards; the tracker's clock must not.
        self._time = time if time > self._time else self._time + self._step
        tracked = self._tracker.update(
            Detections(
                xyxy=found.box.astype(np.float64),
                confidence=found.score.astype(np.float64),
                data={"row": np.arange(len(found.box))},
            ),
            timestamp=self._time,
        )
        ids = np.full(len(found.box), -1, np.int64)
        if len(tracked):
            ids[tracked.data["row"]] = tracked.tracker_id
        return ids


def _buffer(seconds: float) -> int:
    return round(30 * seconds)  # the package counts frames of a 30-frames-a-second video, whatever the rate
