"""What moves before a still background is a person if it is shaped like one. No weights.

Background subtraction by a mixture of Gaussians per pixel (Zivkovic 2004, OpenCV's MOG2), shadows left out, connected
components, parts stacked on each other merged. Needs a camera that stands still.
"""

from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from reappear.core import settings
from reappear.video.decode import Footage

from .detector import Found

_SHADOW_TO = 127  # MOG2 marks shadows so; 255 is foreground
_SAMPLES = 96


@settings
class MotionSettings:
    """Background subtraction: no weights, for cameras that stand still."""

    kind: Literal["motion"] = "motion"
    width: Annotated[int, "frames wider than this are worked on at this width, pixels"] = 480
    study: Annotated[int, "frames from the start that the empty background is learned from before detecting"] = 1500
    history: Annotated[int, "frames over which the background follows changes of light"] = 500
    variance: Annotated[float, "squared distance, in variances, from which a pixel is not background"] = 16.0
    shadow: Annotated[float, "a pixel darker than the background by up to this factor is its shadow, 0 to 1"] = 0.6
    height: Annotated[float, "people are at least this tall, as a fraction of the frame's height"] = 0.08
    aspect: Annotated[tuple[float, float], "height over width of people, least and most"] = (1.25, 5.0)
    fill: Annotated[float, "fraction of a person's box that moves, at least"] = 0.3

    def files(self, video: Path) -> dict[str, Path]:
        """What the result depends on besides the video."""
        return {}

    def build(self, footage: Footage) -> "MotionDetector":
        """A detector that has studied the background of one video."""
        detector = MotionDetector(
            width=self.width,
            history=self.history,
            variance=self.variance,
            shadow=self.shadow,
            height=self.height,
            aspect=self.aspect,
            fill=self.fill,
        )
        detector.study(footage, frames=self.study)
        return detector


class MotionDetector:
    """Finds moving, person-shaped parts of the picture.

    Args:
        width: Wider frames are worked on at this width.
        history: Frames over which the background follows changes of light.
        variance: Squared distance, in variances, from which a pixel is not background.
        shadow: A pixel darker than the background by up to this factor is its shadow.
        height: People are at least this tall, as a fraction of the frame's height.
        aspect: Height over width of people, least and most.
        fill: Fraction of a person's box that moves, at least. The score grows from 0.5 at `fill` to 1 at twice of it.
    """

    def __init__(
        self,
        *,
        width: int = 480,
        history: int = 500,
        variance: float = 16.0,
        shadow: float = 0.6,
        height: float = 0.08,
        aspect: tuple[float, float] = (1.25, 5.0),
        fill: float = 0.3,
    ) -> None:
        self._width, self._history = width, history
        self._height, self._aspect, self._fill = height, aspect, fill
        self._background = cv2.createBackgroundSubtractorMOG2(history, variance, detectShadows=True)
        self._background.setShadowThreshold(shadow)

    def study(self, footage: Footage, *, frames: int) -> None:
        """Learns the background from frames spread over the first `frames`, so that people of the first frame are seen.

        Keeps every s-th frame, and doubles s whenever there are too many: memory is bounded and one reading is enough.
        """
        kept: list[np.ndarray] = []
        step = 1
        for frame in footage.frames(only=frozenset(range(frames))):
            if frame.number % step == 0:
                kept.append(self._shrink(frame.image))
            if len(kept) > _SAMPLES:
                kept, step = kept[::2], step * 2
        # Neighbours show the same people in the same places; the mixture must not take them for background.
        for seen, i in enumerate(_spread(len(kept))):
            self._background.apply(kept[i], learningRate=1 / (seen + 1))

    def detect(self, image: UInt8[np.ndarray, "h w 3"], number: int) -> Found:
        """See `Detector.detect`."""
        small = self._shrink(image)
        moving = self._background.apply(small, learningRate=1 / self._history) > _SHADOW_TO
        box, fill = self._people(moving)
        scale = np.float32(image.shape[1] / small.shape[1])
        return Found(box * scale, np.clip(0.5 * fill / self._fill, 0, 1).astype(np.float32))

    def _shrink(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "_h _w 3"]:
        height, width = image.shape[:2]
        if width <= self._width:
            return image
        return np.asarray(
            cv2.resize(image, (self._width, round(height * self._width / width)), interpolation=cv2.INTER_AREA)
        )

    def _people(self, moving: Bool[np.ndarray, "h w"]) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, " n"]]:
        clean = cv2.morphologyEx(moving.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
        mask = cv2.morphologyEx(clean, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 7)))
        count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        least = self._height * len(mask)
        parts = [
            (np.array([x, y, x + w, y + h]), int(area))
            for x, y, w, h, area in stats[1:count]
            if area > 0.1 * least**2 / 4
        ]
        merged = _merge_stacked(parts, self._aspect[1])
        box = np.array([b for b, _ in merged], np.float32).reshape(-1, 4)
        size = box[:, 2:] - box[:, :2]
        fill = np.array([area for _, area in merged], np.float32) / np.maximum(size.prod(axis=1), 1)
        ratio = size[:, 1] / np.maximum(size[:, 0], 1)
        good = (size[:, 1] >= least) & (ratio >= self._aspect[0]) & (ratio <= self._aspect[1]) & (fill >= self._fill)
        return box[good], fill[good]


def _merge_stacked(
    parts: list[tuple[Int[np.ndarray, " 4"], int]], tallest: float
) -> list[tuple[Int[np.ndarray, " 4"], int]]:
    """Joins parts that stand on each other, such as a head and a coat that differ from a dress like the background."""
    parts = sorted(parts, key=lambda part: (part[0][1], part[0][0]))
    joined = True
    while joined:
        joined = False
        for i in range(len(parts)):
            for j in range(i + 1, len(parts)):
                (a, area_a), (b, area_b) = parts[i], parts[j]
                whole = np.concatenate([np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])])
                shared = min(a[2], b[2]) - max(a[0], b[0])
                gap = max(a[1], b[1]) - min(a[3], b[3])
                width, height = whole[2] - whole[0], whole[3] - whole[1]
                if shared >= 0.5 * min(a[2] - a[0], b[2] - b[0]) and gap <= 0.15 * height and height <= tallest * width:
                    parts[i] = (whole, area_a + area_b)
                    del parts[j]
                    joined = True
                    break
            if joined:
                break
    return parts


def _spread(count: int) -> list[int]:
    """0..count-1 in an order whose beginnings are all spread evenly: the van der Corput sequence in base 2.

    >>> _spread(5)
    [0, 4, 2, 1, 3]
    """
    bits = max(count - 1, 0).bit_length()
    reversed_bits = (int(f"{i:0{bits}b}"[::-1], 2) if bits else i for i in range(1 << bits))
    return [i for i in reversed_bits if i < count]
