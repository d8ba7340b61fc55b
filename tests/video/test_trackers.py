"""The trackers number people as release 2.6.1 of the package `trackers` does."""

import hashlib
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from reappear.video import ByteTrackSettings, OcSortSettings, SortSettings
from reappear.video.detectors import FrameDetections

RATE = 12.5
# sha256 of the ids that `trackers` 2.6.1 gave for the same boxes and times, with the same settings.
REFERENCE = {
    "bytetrack": "0aa69f4b1fd31712c4c17b0ae26997997bd6f882bd2a9edcd3130b5918848cb7",
    "bytetrack, two thresholds": "ca935e281a65c97adbc76ff279e984db21ff622cd95cc9edc1bafca4d3bd7e18",
    "ocsort": "6cd83114a42cc35ed608df0cebafa5cf0a20bea0355020464c691cbc2056b937",
    "ocsort, no direction": "4b525a0b6040fdde00cd6e3ad4a677924dadddf04fa154fc07f07cd0be8ce7e3",
    "sort": "300cedf24ca65ed60d8f1e288aeb4dee764e93fd1aaf69e747a23fa9cd087f18",
    "sort, short memory": "ae543380a6f9f0a5e28481f545b541873c73a8853c370ce1a1f1086d48ac818a",
}
SETTINGS = {
    "bytetrack": ByteTrackSettings(),
    "bytetrack, two thresholds": ByteTrackSettings(
        activation_score=0.7, high_score=0.6, minimum_iou=0.1, minimum_frames=3
    ),
    "ocsort": OcSortSettings(),
    "ocsort, no direction": replace(OcSortSettings(), direction_weight=0.0, high_score=0.3, minimum_frames=1),
    "sort": SortSettings(),
    "sort, short memory": SortSettings(activation_score=0.3, lost_seconds=0.2, minimum_frames=2),
}


def crowd(seed: int, frames: int = 60, people: int = 8):
    """Boxes of people who turn, hide and cross; false boxes; times that jitter, jump and stand still."""
    random = Random(seed)

    def draw(low: float, high: float, *shape: int) -> np.ndarray:
        return low + (high - low) * np.array([random.random() for _ in range(int(np.prod(shape)))]).reshape(shape)

    place, speed = draw(0, 400, people, 2), draw(-8, 8, people, 2)
    size = np.stack([draw(15, 40, people), draw(50, 120, people)], 1)
    time = 0.0
    for _ in range(frames):
        time += (1 + 0.2 * (random.random() - 0.5) + 8 * (random.random() < 0.04)) / RATE * (random.random() > 0.03)
        speed += draw(-2, 2, people, 2)
        place += speed
        speed[(place < 0) | (place > 400)] *= -1
        box = np.concatenate([place, place + size], 1) + draw(-4, 4, people, 4)
        false = draw(0, 400, int(3 * random.random()), 2)
        seen = draw(0, 1, people) < 0.85 * (random.random() > 0.05)
        box = np.concatenate([box[seen], np.concatenate([false, false + np.array([20, 60])], 1)])
        yield FrameDetections(box.astype(np.float32), draw(0.2, 1, len(box)).astype(np.float32)), time


def digest(settings) -> str:
    algorithm = settings.build(rate=RATE)._algorithm
    ids, clock = [], -1 / RATE
    for found, time in crowd(seed=1):
        before, clock = clock, time if time > clock else clock + 1 / RATE  # videos give times that increase strictly
        box, score = found.box.astype(np.float64), found.score.astype(np.float64)
        ids.append(algorithm.update(box, score, clock - before, lost_seconds=settings.lost_seconds))
    ids = np.concatenate(ids)
    assert 5 < ids.max() < 80
    return hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()


@pytest.mark.parametrize("case", SETTINGS)
def test_same_ids_as_the_trackers_package(case):
    assert digest(SETTINGS[case]) == REFERENCE[case]
