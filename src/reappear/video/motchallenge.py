"""The text files of MOTChallenge: one box a line, `frame,id,left,top,width,height,confidence,class,visibility`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from reappear.core import InputError


@dataclass(frozen=True)
class Boxes:
    """Boxes of one video, sorted by frame.

    Attributes:
        frame: Frame number from 0 (the files count from 1).
        identity: As written; -1 = none.
        box: Left, top, right, bottom in pixels.
        score: Confidence as written; 1 where the file has no such column.
    """

    frame: Int[np.ndarray, " n"]
    identity: Int[np.ndarray, " n"]
    box: Float[np.ndarray, "n 4"]
    score: Float[np.ndarray, " n"]

    def at(self, frame: int) -> slice:
        """The rows of one frame."""
        return slice(int(np.searchsorted(self.frame, frame)), int(np.searchsorted(self.frame, frame, side="right")))

    def where(self, mine: Bool[np.ndarray, " n"]) -> "Boxes":
        """Some of the rows."""
        return Boxes(self.frame[mine], self.identity[mine], self.box[mine], self.score[mine])


def read_boxes(path: Path, *, people_only: bool) -> Boxes:
    """Reads a file of boxes.

    Args:
        path: The file.
        people_only: For ground truth: leaves out lines whose confidence is 0 ("not considered") and, in files with a
            class column (nine columns, MOT16 and later), classes other than 1, pedestrian.

    Raises:
        InputError: A line is not such a line; the message names it.
    """
    lines = _lines(path)
    rows = np.full((len(lines), 8), 1.0)
    for i, (number, line) in enumerate(lines):
        values = line.replace(",", " ").split()
        try:
            if len(values) < 6:
                raise ValueError(f"{len(values)} values")
            rows[i, :6] = [float(value) for value in values[:6]]
            rows[i, 6] = float(values[6]) if len(values) > 6 else 1.0
            rows[i, 7] = float(values[7]) if len(values) == 9 else 1.0
        except ValueError as error:
            raise InputError(
                f"{path}, line {number}: not `frame,id,left,top,width,height,...` as MOTChallenge writes it ({error})"
            ) from error
    if people_only:
        rows = rows[(rows[:, 6] != 0) & (rows[:, 7] == 1)]
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    left, top, width, height = rows[:, 2:6].T
    return Boxes(
        frame=rows[:, 0].astype(np.int64) - 1,
        identity=rows[:, 1].astype(np.int64),
        box=np.stack([left, top, left + width, top + height], axis=1).astype(np.float32),
        score=rows[:, 6].astype(np.float32),
    )


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file of MOTChallenge boxes") from error
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
