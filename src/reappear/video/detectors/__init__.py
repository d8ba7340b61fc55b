"""Where the people are in a frame. A new detector is one file, named here."""

from .detector import Detector, Found
from .mot import MotBoxes, MotSettings
from .motion import MotionDetector, MotionSettings
from .yolox import YoloxDetector, YoloxSettings

DetectorSettings = MotionSettings | YoloxSettings | MotSettings

__all__ = [
    "Detector",
    "DetectorSettings",
    "Found",
    "MotBoxes",
    "MotSettings",
    "MotionDetector",
    "MotionSettings",
    "YoloxDetector",
    "YoloxSettings",
]
