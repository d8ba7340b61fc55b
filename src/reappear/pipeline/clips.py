"""One vector of each tracklet, by an extractor that sees its images together."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float, UInt8

from reappear.core import InputError, Progress, unit_rows
from reappear.data import decode_image
from reappear.models.extractors import TrackletExtractor
from reappear.store import CropStore

AT_ONCE = 16  # tracklets


class Frames:
    """Images of a tracklet, decoded when they are asked for.

    Args:
        read: The image of a row.
        rows: Of the tracklet.
        mirrored: Whether images are mirrored.
    """

    def __init__(
        self, read: Callable[[int], UInt8[np.ndarray, "h w 3"]], rows: Sequence[int], *, mirrored: bool = False
    ) -> None:
        self._read, self._rows, self._mirrored = read, rows, mirrored

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int, /) -> UInt8[np.ndarray, "h w 3"]:
        image = self._read(self._rows[position])
        return np.ascontiguousarray(image[:, ::-1]) if self._mirrored else image

    def mirrored(self) -> "Frames":
        """The same, mirrored."""
        return Frames(self._read, self._rows, mirrored=True)


def tracklet_vectors(
    extractor: TrackletExtractor, frames: Sequence[Frames], *, dense: bool = False, flip: bool = False
) -> Float[np.ndarray, "n d"]:
    """Unit vectors of tracklets; zeros where an image that is needed cannot be decoded, or a vector is not finite."""
    try:
        vectors = unit_rows(extractor.tracklets(frames, dense=dense))
        if flip:
            mirrored = extractor.tracklets([one.mirrored() for one in frames], dense=dense)
            vectors = unit_rows(vectors + unit_rows(mirrored))
        return vectors
    except InputError:
        if len(frames) == 1:
            return np.zeros((1, extractor.width), np.float32)
        return np.concatenate([tracklet_vectors(extractor, [one], dense=dense, flip=flip) for one in frames])


def embed_tracklets(
    crops: CropStore, extractor: TrackletExtractor, *, flip: bool, progress: Progress
) -> Float[np.ndarray, "t d"]:
    """Unit vectors of all tracklets of a workspace, as float16; zeros where a crop that is needed cannot be decoded."""
    offsets = crops.offsets.tolist()
    vectors = np.zeros((len(offsets) - 1, extractor.width), np.float16)
    with progress.task(f"embedding tracklets with {extractor.name}", len(vectors), "tracklet") as tick:
        for begin in range(0, len(vectors), AT_ONCE):
            ends = offsets[begin : begin + AT_ONCE + 1]
            frames = [
                Frames(lambda crop: decode_image(crops.image(crop)), range(first, last))
                for first, last in pairwise(ends)
            ]
            vectors[begin : begin + len(frames)] = tracklet_vectors(extractor, frames, flip=flip)
            tick(len(frames))
    return vectors
