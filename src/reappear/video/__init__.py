"""Videos in, tracklets out: decode, detect, track, crop."""

from .crop import CropSettings, choose_crops, cut, encode_jpeg
from .decode import Footage, Frame, open_footage
from .detectors import (
    AutoSettings,
    Detector,
    DetectorSettings,
    FrameDetections,
    MotionSettings,
    MotSettings,
    YoloxSettings,
)
from .find import ENDINGS, find_videos
from .sequence import is_image_sequence, sequence_images
from .track import LEAST_INTERVALS, ByteTrackSettings, OcSortSettings, SortSettings, Tracker, TrackerSettings
from .tracklets import TrackedVideo, follow
from .truth import match_truth, read_truth, truth_file

__all__ = [
    "ENDINGS",
    "LEAST_INTERVALS",
    "AutoSettings",
    "ByteTrackSettings",
    "CropSettings",
    "Detector",
    "DetectorSettings",
    "Footage",
    "Frame",
    "FrameDetections",
    "MotSettings",
    "MotionSettings",
    "OcSortSettings",
    "SortSettings",
    "TrackedVideo",
    "Tracker",
    "TrackerSettings",
    "YoloxSettings",
    "choose_crops",
    "cut",
    "encode_jpeg",
    "find_videos",
    "follow",
    "is_image_sequence",
    "match_truth",
    "open_footage",
    "read_truth",
    "sequence_images",
    "truth_file",
]
