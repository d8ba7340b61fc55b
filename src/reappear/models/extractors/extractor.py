from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Protocol, runtime_checkable

import cv2
import numpy as np
from annotated_types import Interval
from jaxtyping import Float, UInt8

from reappear.core import InputError

Channel = Annotated[float, Interval(ge=-1000, le=1000)]
Deviation = Annotated[float, Interval(ge=1e-6, le=1e6)]
Mean = tuple[Channel, Channel, Channel]
Std = tuple[Deviation, Deviation, Deviation]
Scale = Annotated[float, Interval(ge=1e-3, le=1e5)]
Image = UInt8[np.ndarray, "_h _w 3"]


@runtime_checkable
class Extractor(Protocol):
    """Turns images of people into vectors.

    Attributes:
        name: What it is, for records and reports.
        width: Length of its vectors.
    """

    name: str
    width: int

    def __call__(self, images: Sequence[Image]) -> Float[np.ndarray, "n d"]:
        """Vectors of RGB images of any sizes, as float32; not necessarily of unit length."""
        ...


def require_finite_vectors(extractor: Extractor, source: Path | str) -> None:
    """Tries an extractor on one image of noise.

    Raises:
        InputError: The vector is not finite.
    """
    noise = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    if not np.isfinite(extractor([noise])).all():
        raise InputError(f"{source} gives vectors that are NaN or infinite; check its weights, mean, std and scale")


def resized(images: Sequence[Image], height: int, width: int) -> UInt8[np.ndarray, "n h w 3"]:
    """Images brought to one size: averaged where they shrink, cubic where they grow."""
    out = np.empty((len(images), height, width, 3), np.uint8)
    for slot, image in zip(out, images, strict=True):
        shrinks = image.shape[0] >= height and image.shape[1] >= width
        cv2.resize(image, (width, height), dst=slot, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return out


def normalised(
    images: UInt8[np.ndarray, "n h w 3"],
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    scale: float,
    channels: str,
) -> Float[np.ndarray, "n 3 h w"]:
    """Pixels as a network wants them: `(pixel / scale - mean) / std`, channels in the order "rgb" or "bgr".

    `mean` and `std` are in the order of `channels`.
    """
    ordered = images if channels == "rgb" else images[..., ::-1]
    per_pixel = 1 / (np.float32(scale) * np.asarray(std, np.float32))
    shifted = ordered * per_pixel - np.asarray(mean, np.float32) / np.asarray(std, np.float32)
    return np.ascontiguousarray(shifted.transpose(0, 3, 1, 2), np.float32)
