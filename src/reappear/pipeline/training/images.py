"""Crops, decoded."""

import cv2
import numpy as np
from jaxtyping import UInt8

from reappear.data import Images


class CropImages:
    """The crops that are trained on, decoded once as far as memory allows.

    Args:
        images: The crops on disk.
        max_height: Taller crops are shrunk to this height in pixels when decoded.
        memory_mb: How much decoded crops may take.
    """

    def __init__(self, images: Images, *, max_height: int, memory_mb: int) -> None:
        self._images, self._max_height = images, max_height
        self._held: list[np.ndarray] = []
        left = memory_mb * 2**20
        for position in range(len(images)):
            image = self._decode(position)
            left -= image.nbytes
            if left < 0:
                break
            self._held.append(image)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, image: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._held[image] if image < len(self._held) else self._decode(image)

    def _decode(self, position: int) -> UInt8[np.ndarray, "h w 3"]:
        pixels = self._images[position]
        height, width = pixels.shape[:2]
        if height > self._max_height:
            size = (max(1, round(width * self._max_height / height)), self._max_height)
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        return np.asarray(pixels, np.uint8)
