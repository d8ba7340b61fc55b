"""Person detectors. A new detector is one file, listed here."""

from .auto import AutoSettings
from .detector import Detector, FrameDetections
from .mot import MotBoxes, MotSettings
from .motion import MotionDetector, MotionSettings
from .yolox import YoloxDetector, YoloxSettings

DetectorSettings = AutoSettings | MotionSettings | YoloxSettings | MotSettings

__all__ = [
    "AutoSettings",
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
