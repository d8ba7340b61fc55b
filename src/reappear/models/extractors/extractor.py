import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from reappear.core import InputError, SettingsError, parse_json
from reappear.models.clips import Frames
from reappear.models.preprocessing import Image, Preprocessing

PREPROCESSING_KEY = "reappear.preprocessing"  # in the metadata of an exported file: the fields of `Preprocessing`


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


def parse_preprocessing(text: str, source: Path) -> Preprocessing:
    """The preprocessing in the metadata of an exported file, as JSON.

    Raises:
        InputError: It is not what `export-model` writes.
    """
    value = parse_json(text, f"{source}: {PREPROCESSING_KEY}")
    names = {field.name for field in dataclasses.fields(Preprocessing)}
    if not isinstance(value, dict) or not value.keys() <= names:
        raise InputError(f"{source}: {PREPROCESSING_KEY} must be an object of {', '.join(sorted(names))}; export again")
    try:
        return Preprocessing(**value)
    except SettingsError as error:
        raise InputError(f"{source}: {PREPROCESSING_KEY}: {error}; export it again") from error


def given_preprocessing(settings: Any) -> dict[str, Any]:
    """The fields of `Preprocessing` that are set in the settings of an extractor."""
    names = [field.name for field in dataclasses.fields(Preprocessing)]
    return {name: value for name in names if (value := getattr(settings, name, None)) is not None}
