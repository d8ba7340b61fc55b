from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt8

from reappear.core.columns import require_equal_length


@dataclass(frozen=True)
class FrameDetections:
    """The detections of one frame.

    Attributes:
        box: Left, top, right, bottom in pixels; may reach beyond the frame.
        score: Confidence in [0, 1].
        identity: Track id of each detection, where the detector provides it; the tracker is then bypassed.
    """

    box: Float[np.ndarray, "n 4"]
    score: Float[np.ndarray, " n"]
    identity: Int[np.ndarray, " n"] | None = None

    def __post_init__(self) -> None:
        require_equal_length(self, "box", "score")


@runtime_checkable
class Detector(Protocol):
    """Detects people in the frames of one video, in order. One instance per video."""

    def detect(self, image: UInt8[np.ndarray, "h w 3"], number: int) -> FrameDetections:
        """The detections in frame `number`, an RGB image."""
        ...
