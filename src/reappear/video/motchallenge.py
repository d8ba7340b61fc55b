"""The text files of MOTChallenge: one box a line, `frame,id,left,top,width,height,confidence,class,visibility`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from reappear.core import InputError, counted
from reappear.core.files import read_text

from .sequence import ImageSequence

_MAX_PIXELS = 1e6  # of a box's place and size
_MAX_NUMBER = 2**53  # of frames and ids: whole numbers up to it are exact as floats


@dataclass(frozen=True)
class Boxes:
    """Boxes of one video, sorted by frame.

    Attributes:
        frame: Frame number from 0.
        identity: As written; -1 = none.
        box: Left, top, right, bottom in pixels.
        score: Confidence as written; 1 where the file has no such column.
        first: The number that the file gives to frame 0.
    """

    frame: Int[np.ndarray, " n"]
    identity: Int[np.ndarray, " n"]
    box: Float[np.ndarray, "n 4"]
    score: Float[np.ndarray, " n"]
    first: int = 1

    def at(self, frame: int) -> slice:
        """The rows of one frame."""
        return slice(int(np.searchsorted(self.frame, frame)), int(np.searchsorted(self.frame, frame, side="right")))

    def where(self, mine: Bool[np.ndarray, " n"]) -> "Boxes":
        """The rows where `mine` is true."""
        return Boxes(self.frame[mine], self.identity[mine], self.box[mine], self.score[mine], self.first)


def read_boxes(path: Path, *, people_only: bool, images: ImageSequence | None = None) -> Boxes:
    """Reads a file of boxes.

    MOTChallenge counts frames from 1. A file with a frame 0 counts from 0. Where the images are numbered from 0, the
    numbers of the boxes are those of the images, unless they go one beyond the last image: then they count from 1.

    Args:
        path: The file.
        people_only: For ground truth: leaves out lines whose confidence is 0 ("not considered") and, in files with a
            class column (nine columns, MOT16 and later), classes other than 1, pedestrian.
        images: The images of the boxes, where the video is a folder of images.

    Raises:
        InputError: A line is invalid; the message has its number.
    """
    lines = [(n, line) for n, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    rows = np.full((len(lines), 8), 1.0)
    for i, (number, line) in enumerate(lines):
        values = line.replace(",", " ").split()
        try:
            if len(values) < 6:
                raise ValueError(counted(len(values), "value"))
            rows[i, :6] = [float(value) for value in values[:6]]
            rows[i, 6] = float(values[6]) if len(values) > 6 else 1.0
            rows[i, 7] = float(values[7]) if len(values) == 9 else 1.0
            _check(rows[i])
        except ValueError as error:
            raise InputError(
                f"{path}, line {number}: not `frame,id,left,top,width,height,...` as MOTChallenge writes it ({error})"
            ) from error
    first = _first(rows[:, 0], images)
    if people_only:
        rows = rows[(rows[:, 6] != 0) & (rows[:, 7] == 1)]
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    left, top, width, height = rows[:, 2:6].T
    return Boxes(
        frame=rows[:, 0].astype(np.int64) - first,
        identity=rows[:, 1].astype(np.int64),
        box=np.stack([left, top, left + width, top + height], axis=1).astype(np.float32),
        score=rows[:, 6].astype(np.float32),
        first=first,
    )


def _check(row: Float[np.ndarray, "8"]) -> None:
    """Raises ValueError for an invalid box."""
    frame, identity = row[:2]
    if not np.isfinite(row).all():
        raise ValueError("a value is not finite")
    if not (0 <= frame <= _MAX_NUMBER and frame % 1 == 0):
        raise ValueError(f"frame {frame:g}")
    if not (abs(identity) <= _MAX_NUMBER and identity % 1 == 0):
        raise ValueError(f"id {identity:g}")
    if abs(row[6]) > _MAX_NUMBER:
        raise ValueError(f"confidence {row[6]:g}")
    if (row[4:6] < 0).any() or (np.abs(row[2:6]) > _MAX_PIXELS).any():
        raise ValueError(f"a box of {row[4]:g} x {row[5]:g} pixels at {row[2]:g}, {row[3]:g}")


def _first(frame: Float[np.ndarray, " n"], images: ImageSequence | None) -> int:
    """The number of frame 0 in a file of boxes with these frame numbers."""
    if frame.min(initial=1) == 0:
        return 0
    from_zero = images is not None and images.first == 0
    return 0 if from_zero and frame.max(initial=0) <= max(images.images if images else (0,)) else 1
