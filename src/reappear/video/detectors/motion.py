"""Motion detector: moving, person-shaped regions before a static background. No weights.

Background subtraction by a mixture of Gaussians per pixel (Zivkovic 2004, OpenCV's MOG2), at one exposure, shadows
removed, connected components, vertically adjacent parts merged. Groups are rejected: they are taller or wider than
usual for people at their place; so are regions whose brightness changes and whose edges do not, such as lit walls.
Requires a static camera.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from annotated_types import Interval
from jaxtyping import Bool, Float, UInt8

from reappear.core import RISING, Fraction, NotNegative, settings
from reappear.video.decode import Footage

from .detector import FrameDetections

_SHADOW_TO = 127  # MOG2 marks shadows so; 255 is foreground
_STILL = 0.7  # share of the time a pixel must be empty; with more, frequent passers become background
_SAMPLES = 128  # frames from which the background is learned
_ENOUGH = 30  # people from whom the usual height is learned
_OPENED = np.ones((2, 2), np.uint8)  # smaller spots are noise
_CLOSED = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 7))  # and smaller gaps
_SPECK = 0.025  # parts smaller than this, in squares of the least height, are noise

_REFERENCE = 31  # of them make the picture that exposure is compared with: the median of each pixel
_DARK, _BRIGHT = 20, 235  # pixels between these follow the exposure
_EVERY = 4  # rows and columns of the picture that exposure and noise are measured on
_USABLE = 0.2  # share of such pixels that is needed
_SAME_LIGHT = 0.01  # smaller changes of exposure are left to the background model
_STOPS = 2.0  # larger changes, in powers of two, are another picture
_EDGE, _EDGE_NOISE = 40.0, 6.0  # an edge is new from this difference on, or this multiple of the median one
_OUTLINE = 0.6  # share of the rows of a box with a new edge

_Part = tuple[int, int, int, int, int]  # left, top, right, bottom, area


@settings
class MotionSettings:
    """Background subtraction: no weights, for static cameras."""

    kind: Literal["motion"] = "motion"
    width: Annotated[int, "wider frames are reduced to this width, pixels", Interval(ge=16, le=16_384)] = 320
    study_frames: Annotated[
        int,
        "frames at the start that the background and the usual height of people are learned from",
        Interval(ge=1, le=1_000_000),
    ] = 1500
    history: Annotated[
        int, "frames over which the background follows changes of light", Interval(ge=1, le=1_000_000)
    ] = 500
    variance: Annotated[
        float, "squared distance, in variances, from which a pixel is not background", Interval(gt=0, le=1e6)
    ] = 16.0
    shadow: Annotated[Fraction, "a pixel darker than the background by up to this factor is its shadow"] = 0.6
    height: Annotated[
        float, "people are at least this tall, as a fraction of the frame's height", Interval(gt=0, le=1)
    ] = 0.08
    aspect: Annotated[tuple[NotNegative, NotNegative], "height over width of people, least and most", RISING] = (
        1.25,
        5.0,
    )
    tolerance: Annotated[
        NotNegative,
        "relative deviation from the usual height of people at that place; 1 or more = any height",
    ] = 0.2
    fill: Annotated[float, "fraction of a person's box that moves, at least", Interval(gt=0, le=1)] = 0.3

    def files(self, video: Path) -> dict[str, Path]:
        """What the result depends on besides the video."""
        return {}

    def build(self, footage: Footage) -> "MotionDetector":
        """A detector with the background of one video learned."""
        detector = MotionDetector(
            width=self.width,
            history=self.history,
            variance=self.variance,
            shadow=self.shadow,
            height=self.height,
            aspect=self.aspect,
            tolerance=self.tolerance,
            fill=self.fill,
        )
        detector.learn_background(footage, frames=self.study_frames)
        return detector


class MotionDetector:
    """Detects moving, person-shaped regions.

    Args:
        width: Wider frames are reduced to this width.
        history: Frames over which the background follows changes of light.
        variance: Squared distance, in variances, from which a pixel is not background.
        shadow: A pixel darker than the background by up to this factor is its shadow.
        height: People are at least this tall, as a fraction of the frame's height.
        aspect: Height over width of people, least and most.
        tolerance: Largest relative deviation from the usual height of people at that place.
        fill: Fraction of a person's box that moves, at least. The score grows from 0.5 at `fill` to 1 at twice of it.
    """

    def __init__(
        self,
        *,
        width: int = 320,
        history: int = 500,
        variance: float = 16.0,
        shadow: float = 0.6,
        height: float = 0.08,
        aspect: tuple[float, float] = (1.25, 5.0),
        tolerance: float = 0.2,
        fill: float = 0.3,
    ) -> None:
        self._width, self._history = width, history
        self._height, self._aspect, self._tolerance, self._fill = height, aspect, tolerance, fill
        self._reference: UInt8[np.ndarray, "_h _w 3"] | None = None
        self._usual: Callable[[np.ndarray], np.ndarray] | None = None
        self._size: tuple[int, int] | None = None  # width and height of the first frame
        self._background = cv2.createBackgroundSubtractorMOG2(history, variance, detectShadows=True)
        self._background.setShadowThreshold(shadow)
        self._background.setBackgroundRatio(_STILL)

    def learn_background(self, footage: Footage, *, frames: int) -> None:
        """Learns the background and the usual height of people from a sample of the first `frames` frames.

        So people present in the first frame are detected. Keeps every s-th frame and doubles s whenever there are too
        many: memory is bounded and one pass suffices.
        """
        kept: list[np.ndarray] = []
        step = 1
        for frame in footage.frames(only=frozenset(range(frames))):
            if frame.number % step == 0:
                kept.append(self._shrink(frame.image))
            if len(kept) > _SAMPLES:
                kept, step = kept[::2], step * 2
        # Consecutive frames show the same people in the same places; in that order they would become background.
        order = _spread(len(kept))
        self._reference = np.median([kept[i] for i in order[:_REFERENCE]], axis=0).astype(np.uint8) if kept else None
        kept = [self._level(image) for image in kept]
        for seen, i in enumerate(order):
            self._background.apply(kept[i], learningRate=1 / (seen + 1))
        whole = []
        for image in kept:
            box, _ = self._people(image, self._background.apply(image, learningRate=0))
            inside = (box[:, :2] > 0).all(axis=1) & (box[:, 2:] < image.shape[1::-1]).all(axis=1)
            whole.append(box[inside])
        if whole:
            self._usual = _usual_height(np.concatenate(whole))

    def detect(self, image: UInt8[np.ndarray, "h w 3"], number: int) -> FrameDetections:
        """See `Detector.detect`."""
        small = self._level(self._shrink(image))
        moving = self._background.apply(small, learningRate=1 / self._history)
        box, fill = self._people(small, moving)
        width, height = self._size or (image.shape[1], image.shape[0])
        box *= np.float32(width / small.shape[1])
        if (width, height) != image.shape[1::-1]:
            box *= np.array([image.shape[1] / width, image.shape[0] / height] * 2, np.float32)
        return FrameDetections(box, np.clip(0.5 * fill / self._fill, 0, 1).astype(np.float32))

    def _shrink(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "_h _w 3"]:
        """The image at the processing size, which is derived from the first frame."""
        self._size = self._size or (image.shape[1], image.shape[0])
        width, height = self._size
        if width > self._width:
            width, height = self._width, round(height * self._width / width)
        if (width, height) == image.shape[1::-1]:
            return image
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))

    def _level(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The image at the exposure and white balance of the reference: people change them, and then all moves."""
        if self._reference is None or self._reference.shape != image.shape:
            return image
        some, there = (picture[::_EVERY, ::_EVERY] for picture in (image, self._reference))
        fits = (there > _DARK) & (there < _BRIGHT) & (some < _BRIGHT)
        usable = fits[..., 0] & fits[..., 1] & fits[..., 2]  # 10 times as fast as `all`
        if np.count_nonzero(usable) < _USABLE * usable.size:
            return image
        # By columns of their own, which `median` sorts several times as fast.
        ratio = some[usable].T.astype(np.float32, order="C") / there[usable].T.astype(np.float32, order="C")
        gain = np.median(ratio, axis=1, overwrite_input=True)
        if np.abs(gain - 1).max() < _SAME_LIGHT or np.abs(np.log2(np.maximum(gain, 1e-6))).max() > _STOPS:
            return image
        levels = np.clip(np.rint(np.arange(256)[:, None] / gain), 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(image, levels[None]))

    def _people(
        self, image: UInt8[np.ndarray, "h w 3"], label: UInt8[np.ndarray, "h w"]
    ) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, " n"]]:
        """Boxes of person-shaped regions, and the moving fraction of each."""
        clean = cv2.morphologyEx((label > _SHADOW_TO).astype(np.uint8), cv2.MORPH_OPEN, _OPENED)
        mask = cv2.morphologyEx(clean, cv2.MORPH_CLOSE, _CLOSED)
        left, top, across, down = cv2.boundingRect(mask)  # of all that moves, which is little of the picture
        if not down:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        inside = mask[top : top + down, left : left + across]
        count, _, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
        least = self._height * len(mask)
        stats = stats[1:count][stats[1:count, cv2.CC_STAT_AREA] > _SPECK * least**2]
        parts = [(left + x, top + y, left + x + w, top + y + h, area) for x, y, w, h, area in stats.tolist()]
        merged = np.array(self._merge_stacked(parts), np.float32).reshape(-1, 5)
        box = np.ascontiguousarray(merged[:, :4])
        width, height = (box[:, 2:] - box[:, :2]).T
        fill = merged[:, 4] / np.maximum(width * height, 1)
        ratio = height / np.maximum(width, 1)
        good = (height >= least) & (ratio >= self._aspect[0]) & (ratio <= self._aspect[1]) & (fill >= self._fill)
        if self._usual is not None:
            good &= np.abs(height / self._usual(box[:, 3]) - 1) <= self._tolerance
        good[good] = self._has_outline(image, box[good])
        return box[good], fill[good]

    def _has_outline(self, image: UInt8[np.ndarray, "h w 3"], box: Float[np.ndarray, "n 4"]) -> Bool[np.ndarray, " n"]:
        """Whether edges appear or vanish in most rows of each box: light changes none, and people have an outline."""
        if not len(box):
            return np.zeros(0, bool)
        before = _edges(self._background.getBackgroundImage())
        change = cv2.max(*(cv2.absdiff(edge, earlier) for edge, earlier in zip(_edges(image), before, strict=True)))
        new = change > max(_EDGE, _EDGE_NOISE * float(np.median(change[::_EVERY, ::_EVERY])))
        rows = [np.any(new[y0:y1, x0:x1], axis=1, keepdims=True) for x0, y0, x1, y1 in box.astype(int).tolist()]
        return np.array([np.count_nonzero(row) / row.size for row in rows]) >= _OUTLINE

    def _merge_stacked(self, parts: list[_Part]) -> list[_Part]:
        """Merges vertically adjacent parts, such as head and legs of a person with a background-coloured coat."""
        parts = sorted(parts, key=lambda part: (part[1], part[0]))
        for i, (left, top, right, bottom, area) in enumerate(parts):
            for j, (x0, y0, x1, y1, other) in enumerate(parts[i + 1 :], i + 1):
                shared, gap = min(right, x1) - max(left, x0), max(top, y0) - min(bottom, y1)
                whole = min(left, x0), min(top, y0), max(right, x1), max(bottom, y1)
                height = whole[3] - whole[1]
                stacked = shared >= 0.5 * min(right - left, x1 - x0) and gap <= 0.15 * height
                if stacked and height <= self._tallest(whole[2] - whole[0], whole[3]):
                    rest = [part for k, part in enumerate(parts) if k not in (i, j)]
                    return self._merge_stacked([*rest, (*whole, area + other)])
        return parts

    def _tallest(self, width: int, foot: int) -> float:
        if self._usual is None:
            return self._aspect[1] * width
        return (1 + self._tolerance) * float(self._usual(np.array([foot], np.float32))[0])


def _edges(image: UInt8[np.ndarray, "h w 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Horizontal and vertical differences of brightness, times 4 (Sobel), each of shape h w."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.Sobel(grey, cv2.CV_16S, 1, 0), cv2.Sobel(grey, cv2.CV_16S, 0, 1)


def _usual_height(box: Float[np.ndarray, "n 4"]) -> Callable[[np.ndarray], np.ndarray] | None:
    """Usual box height as a function of the row of the feet: a line, as on flat ground in perspective.

    Outliers (groups, parts of people) are removed iteratively. None for too few people.
    """
    foot, height = box[:, 3], box[:, 3] - box[:, 1]
    if len(box) < _ENOUGH:
        return None
    near = np.ones(len(box), bool)
    line = np.zeros(2)
    for _ in range(10):
        line = np.polyfit(foot[near], height[near], 1) if np.ptp(foot[near]) > 0 else np.array([0, np.median(height)])
        near = np.abs(height / np.maximum(np.polyval(line, foot), 1) - 1) < 0.3
        if near.sum() < _ENOUGH:
            return None
    low, high = np.quantile(foot[near], (0.02, 0.98))
    return lambda at: np.asarray(np.maximum(np.polyval(line, np.clip(at, low, high)), 1), np.float32)


def _spread(count: int) -> list[int]:
    """0..count-1 in an order of which every prefix is spread evenly: the van der Corput sequence in base 2.

    >>> _spread(5)
    [0, 4, 2, 1, 3]
    """
    bits = max(count - 1, 0).bit_length()
    reversed_bits = (int(f"{i:0{bits}b}"[::-1], 2) if bits else i for i in range(1 << bits))
    return [i for i in reversed_bits if i < count]
