"""Which frames of a tracklet make a clip."""

from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

Compat = Literal["fixed", "official"]


@runtime_checkable
class Frames(Protocol):
    """Images of one tracklet in their order, in memory or not."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> Any:
        """One RGB image."""
        ...


def clip_positions(
    lengths: Int[np.ndarray, "*n"], place: Float[np.ndarray, "*n t"] | Float[np.ndarray, " t"], compat: Compat = "fixed"
) -> Int[np.ndarray, "*n t"]:
    """Positions in tracklets, one in each of T parts of equal length: restricted random sampling (Li et al. 2018).

    A tracklet of fewer than T frames repeats some. "official" has parts of `ceil(length / T)` frames and fills the last
    with the last frame: of 9 frames it takes 0, 2, 4, 6, 8, 8, 8, 8.

    Args:
        lengths: Of the tracklets, 1 or more.
        place: Where in each part, in [0, 1): random in training, 0 in a test.
        compat: How tracklets are cut.

    >>> clip_positions(np.array([16, 9, 3]), np.zeros(8)).tolist()
    [[0, 2, 4, 6, 8, 10, 12, 14], [0, 1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 1, 1, 1, 2, 2]]
    """
    lengths = np.asarray(lengths)[..., None]
    frames = place.shape[-1]
    part = lengths / frames if compat == "fixed" else -(-lengths // frames)
    position = np.minimum(((np.arange(frames) + place) * part).astype(np.int64), lengths - 1)
    return np.asarray(position, np.int64)


def dense_clips(length: int, frames: int) -> Int[np.ndarray, "clips t"]:
    """Positions of all frames of a tracklet, T consecutive ones in each clip; the last clip repeats some.

    >>> dense_clips(5, 3).tolist()
    [[0, 1, 2], [3, 3, 4]]
    """
    begins = np.arange(0, length, frames)
    sizes = np.minimum(frames, length - begins)
    return np.asarray(begins[:, None] + clip_positions(sizes, np.zeros(frames)), np.int64)
