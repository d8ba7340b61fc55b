"""The images that are trained on, validated on, evaluated or exported, with their labels."""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from .columns import require_equal_length
from .errors import InputError

Split = Literal["train", "query", "gallery"]
SPLITS = ("train", "query", "gallery")
_COLUMNS = ("path", "identity", "camera", "sequence", "split", "frame", "time")


@dataclass(frozen=True)
class ImageTable:
    """Images of people with their labels, one row each.

    Attributes:
        path: References of the images: text that `reappear.data.read_image` reads (files, members of a tar, rows of a
            Parquet file), or the numbers of crops in a crop store. `reappear.data.Images` decodes either.
        identity: -1 = junk (ignored by every protocol), 0 or more = a person; distractors match no query.
        camera: Camera of each image.
        sequence: Recording of each image, or in sets of videos its tracklet, by a number of its own in the set;
            -1 = unknown.
        split: "train", "query" or "gallery".
        skipped: Files that were left out, with the reason.
        names: What the set calls each identity, by its number; empty where it numbers them itself.
        cameras: What it calls each camera, by its number; empty where it numbers them.
        frame: Order within the sequence, such as the number of the frame in its video; -1 = unknown, as if not given.
        time: Seconds since the beginning of the recording; NaN = unknown, as if not given.
    """

    path: np.ndarray
    identity: Int[np.ndarray, " n"]
    camera: Int[np.ndarray, " n"]
    sequence: Int[np.ndarray, " n"]
    split: np.ndarray
    skipped: dict[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    frame: Int[np.ndarray, " n"] = None  # type: ignore[assignment]
    time: Float[np.ndarray, " n"] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name, unknown in (("frame", -1), ("time", np.nan)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.full(len(self.path), unknown))
        require_equal_length(self, *_COLUMNS)
        for name in ("identity", "camera", "sequence", "frame"):
            negative = np.flatnonzero(getattr(self, name) < -1)
            if len(negative):
                raise InputError(
                    f"{self.path[negative[0]]}: {name} must be 0 or more, or -1 for none, "
                    f"got {getattr(self, name)[negative[0]]}; renumber it"
                )
        strange = set(np.unique(self.split).tolist()) - set(SPLITS)
        if strange:
            raise InputError(f"ImageTable.split: must be one of {', '.join(SPLITS)}, got {sorted(strange)}")

    def __len__(self) -> int:
        return len(self.path)

    def where(self, split: Split) -> "ImageTable":
        """The rows of one split."""
        return self.select(self.split == split)

    def select(self, rows: Int[np.ndarray, " m"] | Bool[np.ndarray, " n"]) -> "ImageTable":
        """Rows by number, in this order, or by a mask; without `skipped`."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _COLUMNS}, skipped={})
