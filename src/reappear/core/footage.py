"""Videos, detections and tracks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from .columns import require_equal_length, require_offsets


@dataclass(frozen=True)
class Video:
    """One file, or one recording of a stream.

    Attributes:
        id: Its number in the workspace, from 0.
        path: File or folder.
        size: Width and height in pixels.
        rate: Frames a second; 0 = unknown.
        frames: Number of decoded frames.
        camera: The viewpoint. Videos of one camera share its name; a file alone is its own camera.
    """

    id: int
    path: Path
    size: tuple[int, int]
    rate: float
    frames: int
    camera: str


@dataclass(frozen=True)
class Detections:
    """Detected people of one video, sorted by frame.

    Attributes:
        frame: Frame number, from 0 in decoding order.
        box: Left, top, right, bottom in pixels; right and bottom are exclusive.
        score: Confidence in [0, 1].
    """

    frame: Int[np.ndarray, " n"]
    box: Float[np.ndarray, "n 4"]
    score: Float[np.ndarray, " n"]

    def __post_init__(self) -> None:
        require_equal_length(self, "frame", "box", "score")

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True)
class Tracks:
    """The tracklets of one video: rows of tracklet `t` are `offsets[t]:offsets[t+1]`, sorted by frame."""

    frame: Int[np.ndarray, " n"]
    box: Float[np.ndarray, "n 4"]
    score: Float[np.ndarray, " n"]
    offsets: Int[np.ndarray, " _"]

    def __post_init__(self) -> None:
        require_equal_length(self, "frame", "box", "score")
        require_offsets(self.offsets, len(self.frame), "Tracks.offsets")

    def __len__(self) -> int:
        return len(self.offsets) - 1
