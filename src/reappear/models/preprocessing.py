"""Preprocessing: how images of any size become the input of a network. Imports no torch."""

from collections.abc import Sequence
from typing import Annotated, Literal

import cv2
import numpy as np
from annotated_types import Interval
from jaxtyping import Float, UInt8

from reappear.core import ImageSide, settings

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Image = UInt8[np.ndarray, "_h _w 3"]
Channel = Annotated[float, Interval(ge=-1000, le=1000)]
Deviation = Annotated[float, Interval(ge=1e-6, le=1e6)]
Mean = tuple[Channel, Channel, Channel]
Std = tuple[Deviation, Deviation, Deviation]
Scale = Annotated[float, Interval(ge=1e-3, le=1e5)]


@settings
class Preprocessing:
    """Resizes and normalises RGB images: `(pixel / scale - mean) / std`."""

    height: Annotated[ImageSide, "input height in pixels"] = 256
    width: Annotated[ImageSide, "input width in pixels"] = 128
    interpolation: Annotated[
        Literal["area-cubic"], "area averaging where neither side grows (`cv2.INTER_AREA`), else bicubic"
    ] = "area-cubic"
    mean: Annotated[Mean, "subtracted after scaling, in the channels' order"] = IMAGENET_MEAN
    std: Annotated[Std, "divided by, in the channels' order"] = IMAGENET_STD
    scale: Annotated[Scale, "pixels are divided by this first: 255 for networks that take 0..1, 1 for 0..255"] = 255.0
    channels: Annotated[Literal["rgb", "bgr"], "order of the colour channels of the input"] = "rgb"

    def __call__(self, images: Sequence[Image]) -> Float[np.ndarray, "n 3 h w"]:
        """The input of the network for RGB images of any sizes."""
        return self.normalise(self.resize(images))

    def resize(self, images: Sequence[Image]) -> UInt8[np.ndarray, "n h w 3"]:
        """Images of the input's size; those that have it already are unchanged."""
        return resize_images(images, self.height, self.width)

    def normalise(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n 3 h w"]:
        """Normalised float32 pixels, channels in the order of `channels`."""
        ordered = images if self.channels == "rgb" else images[..., ::-1]
        std = np.asarray(self.std, np.float32)
        shifted = ordered * (1 / (np.float32(self.scale) * std)) - np.asarray(self.mean, np.float32) / std
        return np.ascontiguousarray(shifted.transpose(0, 3, 1, 2), np.float32)


def resize_images(images: Sequence[Image], height: int, width: int) -> UInt8[np.ndarray, "n h w 3"]:
    """Images resized to one size in pixels, by area averaging where neither side grows, else bicubic."""
    out = np.empty((len(images), height, width, 3), np.uint8)
    for slot, image in zip(out, images, strict=True):
        shrinks = image.shape[0] >= height and image.shape[1] >= width
        cv2.resize(image, (width, height), dst=slot, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return out
