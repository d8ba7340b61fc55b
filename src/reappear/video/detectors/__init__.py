"""Person detectors. A new detector is one file, listed here."""

from .detector import Detector, FrameDetections
from .mot import MotBoxes, MotSettings
from .motion import MotionDetector, MotionSettings
from .yolox import YoloxDetector, YoloxSettings

DetectorSettings = MotionSettings | YoloxSettings | MotSettings

__all__ = [
    "Detector",
    "DetectorSettings",
    "FrameDetections",
    "MotBoxes",
    "MotSettings",
    "MotionDetector",
    "MotionSettings",
    "YoloxDetector",
    "YoloxSettings",
]
