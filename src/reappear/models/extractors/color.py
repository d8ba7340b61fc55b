"""Colours by height: a descriptor that needs no weights. Imports no network.

Histograms of hue, saturation and value over horizontal stripes, as in Gray and Tao 2008 (ELF) and Farenzena et al. 2010
(SDALF), compared by the Hellinger kernel (Arandjelović and Zisserman 2012): the root of a histogram, so that the cosine
of two vectors is the mean Bhattacharyya coefficient of their stripes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from annotated_types import Interval
from jaxtyping import Float, Int, UInt8

from reappear.core import Fraction, settings
from reappear.models.preprocessing import Image, resize_images

_HEIGHT, _WIDTH = 64, 32
_BITS = 5  # per channel, of the table that turns a colour into its bins
_GREY, _COLOURED = 0.1, 0.35  # saturation up to which a colour counts as grey, and from which as coloured
_MIDDLE = 120.0  # what the mean of each channel is brought to
_CHUNK = 64

Bins = Annotated[int, Interval(ge=1, le=_HEIGHT // 2)]


@settings
class ColorSettings:
    """Colour histograms over horizontal stripes: no weights, no training."""

    kind: Literal["color"] = "color"
    stripes: Annotated[Bins, "horizontal stripes"] = 12
    hues: Annotated[Bins, "bins of hue, for coloured pixels"] = 16
    values: Annotated[Bins, "bins of brightness for each hue"] = 3
    greys: Annotated[Bins, "bins of brightness for grey pixels"] = 6
    balance: Annotated[
        Fraction, "how far each colour channel is brought to the same mean, against casts of cameras"
    ] = 1.0
    centre: Annotated[
        float,
        "columns are weighted by a Gaussian of this width around the middle, in crop widths",
        Interval(ge=0.01, le=100),
    ] = 0.18

    @property
    def files(self) -> dict[str, Path]:
        """What the vectors depend on besides the images."""
        return {}

    def build(self) -> "ColorExtractor":
        """The extractor."""
        return ColorExtractor(
            stripes=self.stripes,
            hues=self.hues,
            values=self.values,
            greys=self.greys,
            balance=self.balance,
            centre=self.centre,
        )


class ColorExtractor:
    """Describes an image by its colours, stripe by stripe.

    Args:
        stripes: Horizontal stripes; neighbours share half a stripe of pixels, with falling weight.
        hues: Bins of hue; a pixel falls into the two nearest, as it does for brightness.
        values: Bins of brightness for each hue.
        greys: Bins of brightness for grey pixels.
        balance: How far each channel is brought to the same mean: 0 = not, 1 = wholly.
        centre: Width of the Gaussian that weights columns, in crop widths.
    """

    name = "color"

    def __init__(
        self,
        *,
        stripes: int = 12,
        hues: int = 16,
        values: int = 3,
        greys: int = 6,
        balance: float = 1.0,
        centre: float = 0.18,
    ) -> None:
        self._balance = np.float32(balance)
        self._bins = _bins_of_colours(hues, values, greys)
        self._rows, self._columns = _weights_of_rows(stripes), _weights_of_columns(centre)
        self.width = len(self._rows) * self._bins.shape[1]

    def __call__(self, images: Sequence[Image]) -> Float[np.ndarray, "n d"]:
        """Vectors of unit length."""
        out = np.empty((len(images), self.width), np.float32)
        for first in range(0, len(images), _CHUNK):
            small = resize_images(images[first : first + _CHUNK], _HEIGHT, _WIDTH)
            bins = self._bins[_colours(self._balanced(small))]
            histograms = self._rows @ (self._columns @ bins)  # small products, which BLAS does not spread over threads
            out[first : first + _CHUNK] = np.sqrt(histograms / len(self._rows)).reshape(len(small), -1)
        return out

    def _balanced(self, images: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h w 3"]:
        means = images.mean(axis=(1, 2), dtype=np.float32)
        gains = (_MIDDLE / np.maximum(means, 1)) ** self._balance
        return np.asarray(np.minimum(images * gains[:, None, None], np.float32(255)).astype(np.uint8))


def _colours(images: UInt8[np.ndarray, "n h w 3"]) -> Int[np.ndarray, "n h w"]:
    """The row of the table of colours for each pixel."""
    r, g, b = (images[..., channel].astype(np.intp) >> (8 - _BITS) for channel in range(3))
    return np.asarray(r << 2 * _BITS | g << _BITS | b)


def _bins_of_colours(hues: int, values: int, greys: int) -> Float[np.ndarray, "colours bins"]:
    """What each colour adds to each bin; rows sum to 1."""
    levels = (np.arange(1 << _BITS, dtype=np.float32) + 0.5) / (1 << _BITS)
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=3).reshape(-1, 1, 3)
    hue, saturation, value = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV).reshape(-1, 3).T
    coloured = np.clip((saturation - _GREY) / (_COLOURED - _GREY), 0, 1)[:, None]
    around = _shares(hue / 360 * hues, hues + 1)
    around = np.concatenate([around[:, :1] + around[:, -1:], around[:, 1:-1]], axis=1)  # the last hue is the first
    bright = _shares(value * (values - 1), values)
    joint = (around[:, :, None] * bright[:, None]).reshape(len(rgb), -1)
    return np.concatenate([coloured * joint, (1 - coloured) * _shares(value * (greys - 1), greys)], axis=1)


def _shares(place: Float[np.ndarray, " n"], count: int) -> Float[np.ndarray, "n count"]:
    """Shares of the two bins between whose centres 0, 1, ..., count-1 a value lies."""
    return np.asarray(np.clip(1 - np.abs(place[:, None] - np.arange(count)), 0, 1), np.float32)


def _weights_of_rows(stripes: int) -> Float[np.ndarray, "stripes h"]:
    """What each row of pixels weighs in each stripe; a stripe's weights sum to 1."""
    height = (np.arange(_HEIGHT) + 0.5) / _HEIGHT * stripes
    away = np.abs(height - (np.arange(stripes)[:, None] + 0.5))
    weights = np.clip(1 - away / 0.75, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _weights_of_columns(centre: float) -> Float[np.ndarray, " w"]:
    """What each column of pixels weighs; they sum to 1."""
    weights = np.exp(-0.5 * (((np.arange(_WIDTH) + 0.5) / _WIDTH - 0.5) / centre) ** 2)
    return np.asarray(weights / weights.sum(), np.float32)
