"""The input and output of denoising."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .columns import offsets_to_owner, require_equal_length, require_offsets
from .errors import InputError
from .names import counted


@dataclass(frozen=True)
class TrackletSet:
    """Crops as embeddings, grouped into tracklets.

    Attributes:
        embeddings: Unit rows, float16 or float32; may be a memory map. Never copied by denoising.
        video: The video of each tracklet; tracklets of one video are consecutive.
        start: Start of each tracklet in seconds of its video; NaN = unknown.
        end: End of each tracklet.
        offsets: Rows of tracklet `t` are `offsets[t]:offsets[t+1]`.
    """

    embeddings: Float[np.ndarray, "n d"]
    video: Int[np.ndarray, " t"]
    start: Float[np.ndarray, " t"]
    end: Float[np.ndarray, " t"]
    offsets: Int[np.ndarray, " t+1"]

    def __post_init__(self) -> None:
        require_equal_length(self, "video", "start", "end")
        require_offsets(self.offsets, len(self.embeddings), "TrackletSet.offsets")
        if len(self.offsets) != len(self.video) + 1:
            raise InputError(
                f"TrackletSet: got {counted(len(self.offsets), 'offset')} for {counted(len(self.video), 'tracklet')}; "
                f"give {len(self.video) + 1}"
            )
        starts_anew = np.flatnonzero(np.diff(self.video) != 0) + 1
        runs = self.video[np.concatenate([[0], starts_anew])] if len(self.video) else self.video
        if len(np.unique(runs)) != len(runs):
            raise InputError("TrackletSet.video: tracklets of one video must be consecutive; sort them by video")

    def __len__(self) -> int:
        return len(self.video)

    @property
    def origin(self) -> Int[np.ndarray, " n"]:
        """The original tracklet of each crop."""
        return offsets_to_owner(self.offsets)


@dataclass(frozen=True)
class Assignment:
    """Which tracklet each crop belongs to, and which identity each tracklet; -1 = discarded.

    Attributes:
        tracklet: Per crop.
        identity: Per tracklet. Identities are numbered from 0 without gaps.
    """

    tracklet: Int[np.ndarray, " n"]
    identity: Int[np.ndarray, " t"]

    def __post_init__(self) -> None:
        if len(self.tracklet) and (self.tracklet.min() < -1 or self.tracklet.max() >= len(self.identity)):
            raise InputError(f"Assignment.tracklet: must lie in -1..{len(self.identity) - 1}")

    @classmethod
    def untouched(cls, tracklets: TrackletSet) -> "Assignment":
        """The baseline: each tracklet is an identity."""
        return cls(tracklet=tracklets.origin, identity=np.arange(len(tracklets)))

    @property
    def crop_identity(self) -> Int[np.ndarray, " n"]:
        """The identity of each crop; -1 = discarded."""
        kept = self.tracklet >= 0
        out = np.full(len(self.tracklet), -1, np.int64)
        out[kept] = self.identity[self.tracklet[kept]]
        return out

    @property
    def identities(self) -> int:
        """Number of identities with at least one crop."""
        mine = self.crop_identity
        return len(np.unique(mine[mine >= 0]))
