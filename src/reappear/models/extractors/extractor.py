from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from reappear.core import InputError
from reappear.models.clips import Frames
from reappear.models.preprocessing import Image


@runtime_checkable
class Extractor(Protocol):
    """Turns images of people into vectors.

    Attributes:
        name: What it is, for records and reports.
        width: Length of its vectors.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def width(self) -> int: ...  # noqa: D102

    def __call__(self, images: Sequence[Image]) -> Float[np.ndarray, "n d"]:
        """Vectors of RGB images of any sizes, as float32; not necessarily of unit length."""
        ...


@runtime_checkable
class TrackletExtractor(Extractor, Protocol):
    """An extractor that also makes one vector of the images of a tracklet."""

    def tracklets(self, tracklets: Sequence[Frames], *, dense: bool = False) -> Float[np.ndarray, "n d"]:
        """Vectors of tracklets, of one clip each, or the mean of those of clips of all frames."""
        ...


def require_finite_vectors(extractor: Extractor, source: Path | str) -> None:
    """Tries an extractor on one image of noise.

    Raises:
        InputError: The vector is not finite.
    """
    noise = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    if not np.isfinite(extractor([noise])).all():
        raise InputError(f"{source} gives vectors that are NaN or infinite; check its weights, mean, std and scale")
