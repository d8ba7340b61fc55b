"""What training and evaluation read."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Int

from .columns import require_equal_length
from .errors import InputError

Split = Literal["train", "query", "gallery"]
SPLITS = ("train", "query", "gallery")


@dataclass(frozen=True)
class ImageTable:
    """Images of people with their labels, one row each.

    Attributes:
        path: Where the images are, as text: files, or members of a tar (`reappear.data.read_image` reads both).
        identity: -1 = junk (ignored by every protocol), 0 or more = a person; distractors match no query.
        camera: Camera of each image.
        sequence: Recording of each image, or in sets of videos its tracklet, by a number of its own in the set;
            -1 = unknown.
        split: "train", "query" or "gallery".
        skipped: Files that were left out, with the reason.
        names: What the set calls each identity, by its number; empty where it numbers them itself.
        cameras: What it calls each camera, by its number; empty where it numbers them.
    """

    path: np.ndarray
    identity: Int[np.ndarray, " n"]
    camera: Int[np.ndarray, " n"]
    sequence: Int[np.ndarray, " n"]
    split: np.ndarray
    skipped: dict[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_equal_length(self, "path", "identity", "camera", "sequence", "split")
        for name in ("identity", "camera", "sequence"):
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
        mine = self.split == split
        return ImageTable(
            self.path[mine],
            self.identity[mine],
            self.camera[mine],
            self.sequence[mine],
            self.split[mine],
            names=self.names,
            cameras=self.cameras,
        )
