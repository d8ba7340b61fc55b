"""Augmentation of whole images (Luo et al. 2019): resize, flip, pad and crop, erase; on the CPU in uint8."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import cv2
import numpy as np
from annotated_types import Interval
from jaxtyping import UInt8

from reappear.core import Fraction, Only, settings
from reappear.models.preprocessing import resize_images

from .views import ERASED, Area

Frames = Sequence[UInt8[np.ndarray, "_ _ 3"]]

_ATTEMPTS = 10
_ERASE_RATIO = (0.3, 3.3)


@settings
class ImageAugmentSettings:
    """Augmentation of whole images."""

    flip: Annotated[Fraction, "probability of a mirrored image"] = 0.5
    padding: Annotated[int, "pixels added at each side before a crop of the image's size", Interval(ge=0, le=1024)] = 10
    erase: Annotated[Fraction, "probability that a box of the image is erased"] = 0.5
    erase_area: Annotated[Area, "area of that box as a share of the image", Only("erase")] = (0.02, 0.4)
    erase_with: Annotated[
        Literal["mean", "noise"], "what fills it: the mean colour, or noise of each pixel", Only("erase")
    ] = "mean"


class ImageAugment:
    """Augments an image, or all frames of a clip alike.

    Args:
        settings: Probabilities and strengths.
        height: Of the result in pixels.
        width: Of the result in pixels.
    """

    def __init__(self, settings: ImageAugmentSettings, *, height: int, width: int) -> None:
        self._settings, self.height, self.width = settings, height, width

    def __call__(self, frames: Frames, random: np.random.Generator) -> list[UInt8[np.ndarray, "h w 3"]]:
        """The frames at the size wanted, each flipped, moved and erased in the same way."""
        chances = random.random(6)
        ratios, areas = random.random((2, _ATTEMPTS))
        height, width, pad = self.height, self.width, self._settings.padding
        top, left = int(chances[1] * (2 * pad + 1)), int(chances[2] * (2 * pad + 1))
        box = self._erased(chances, areas, ratios)
        noise = None
        if box and self._settings.erase_with == "noise":
            noise = np.clip(random.normal(ERASED, 58.0, (box[3], box[2], 3)), 0, 255).astype(np.uint8)
        made = []
        for shown in resize_images(frames, height, width):
            if chances[0] < self._settings.flip:
                shown = cv2.flip(shown, 1)
            if pad:
                padded = cv2.copyMakeBorder(shown, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(0, 0, 0))
                shown = padded[top : top + height, left : left + width].copy()
            if box:
                x, y, w, h = box
                shown[y : y + h, x : x + w] = ERASED if noise is None else noise
            made.append(np.asarray(shown, np.uint8))
        return made

    def _erased(self, chances: np.ndarray, areas: np.ndarray, ratios: np.ndarray) -> tuple[int, int, int, int] | None:
        """Left, top, width and height of the erased box: RandomErasing (Zhong et al. 2020)."""
        if chances[3] >= self._settings.erase:
            return None
        low, high = self._settings.erase_area
        area = self.height * self.width * (low + areas * (high - low))
        first, last = np.log(_ERASE_RATIO)
        ratio = np.exp(first + ratios * (last - first))
        h, w = np.rint(np.sqrt(area * ratio)).astype(int), np.rint(np.sqrt(area / ratio)).astype(int)
        fits = np.flatnonzero((h > 0) & (w > 0) & (h < self.height) & (w < self.width))
        if len(fits) == 0:
            return None
        box_h, box_w = int(h[fits[0]]), int(w[fits[0]])
        left = math.floor(chances[4] * (self.width - box_w + 1))
        top = math.floor(chances[5] * (self.height - box_h + 1))
        return left, top, box_w, box_h
