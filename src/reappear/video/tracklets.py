"""Detects and tracks the people of one video."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reappear.core import Tracks, lengths_to_offsets

from .decode import Footage
from .detectors import Detector
from .track import Tracker


@dataclass(frozen=True)
class TrackedVideo:
    """The tracklets of one video and how it was read.

    Attributes:
        tracks: Tracklets sorted by first frame.
        time: Seconds of each row of `tracks`.
        size: Width and height in pixels of the frame of each row of `tracks`.
        ids: The id of each tracklet: the detector's, where it has ids, else the tracker's.
        detections: Boxes found, in tracklets or not.
        frames: Frames decoded.
        seconds: Time of the last processed frame.
        interval: Median seconds between processed frames; 0 for fewer than two.
        damage: Why decoding ended early or skipped frames; empty when it did not.
    """

    tracks: Tracks
    time: Float[np.ndarray, " n"]
    size: Int[np.ndarray, "n 2"]
    ids: Int[np.ndarray, " t"]
    detections: int
    frames: int
    seconds: float
    interval: float
    damage: str


def follow(
    footage: Footage,
    detector: Detector,
    tracker: Tracker,
    *,
    stride: int = 1,
    tick: Callable[[int], None] = lambda frames: None,
) -> TrackedVideo:
    """Detects and tracks the people of one video, on every `stride`-th frame."""
    numbers, times, sizes, boxes, scores, owners = [], [], [], [], [], []
    detections, looked = 0, []
    for frame in footage.frames(stride=stride):
        found = detector.detect(frame.image, frame.number)
        ids = found.identity if found.identity is not None else tracker.update(found, frame.time)
        detections += len(ids)
        looked.append(frame.time)
        mine = np.flatnonzero(ids >= 0)
        numbers.append(np.full(len(mine), frame.number))
        times.append(np.full(len(mine), frame.time))
        sizes.append(np.full((len(mine), 2), frame.image.shape[1::-1]))
        boxes.append(found.box[mine])
        scores.append(found.score[mine])
        owners.append(ids[mine])
        tick(stride)
    owner = np.concatenate([*owners, np.zeros(0, np.int64)])
    # Stable: within a tracklet the frames stay in order.
    names, first, number, lengths = np.unique(owner, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    order = np.argsort(rank[number], kind="stable")
    tracks = Tracks(
        frame=np.concatenate([*numbers, np.zeros(0, np.int64)])[order],
        box=np.concatenate([*boxes, np.zeros((0, 4), np.float32)])[order],
        score=np.concatenate([*scores, np.zeros(0, np.float32)])[order],
        offsets=lengths_to_offsets(lengths[np.argsort(first)]),
    )
    return TrackedVideo(
        tracks,
        time=np.concatenate([*times, np.zeros(0)])[order],
        size=np.concatenate([*sizes, np.zeros((0, 2), np.int64)])[order],
        ids=names[np.argsort(first)].astype(np.int64),
        detections=detections,
        frames=footage.frames_read,
        seconds=looked[-1] if looked else 0.0,
        interval=float(np.median(np.diff(looked))) if len(looked) > 1 else 0.0,
        damage=footage.damage,
    )
