"""Precomputed detections: MOTChallenge text files beside the videos."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import UInt8

from reappear.core import Fraction, InputError, counted, settings
from reappear.video.decode import Footage
from reappear.video.motchallenge import Boxes, read_boxes
from reappear.video.sequence import read_sequence

from .detector import FrameDetections

_BESIDE_FILE = ("{stem}.det.txt", "{stem}.gt.txt")
_IN_FOLDER = ("det/det.txt", "gt/gt.txt")


@settings
class MotSettings:
    """Precomputed boxes from a text file in MOTChallenge format."""

    kind: Literal["mot"] = "mot"
    boxes: Annotated[
        str,
        "path of the boxes, relative to the video (or inside a MOT folder); {stem} stands for the video's name without "
        "its ending; empty = {stem}.det.txt, else {stem}.gt.txt; in a MOT folder det/det.txt, else gt/gt.txt",
    ] = ""
    ids: Annotated[
        Literal["none", "video", "global"],
        "use of the ids in the file: none = ignored, boxes are tracked; video = an id is a tracklet of its video; "
        "global = also one person across videos: labels `given`, and in the ground truth too (as --truth-ids global)",
    ] = "none"
    score: Annotated[Fraction, "boxes below this confidence are left out"] = 0.0

    def files(self, video: Path) -> dict[str, Path]:
        """What the result depends on besides the video."""
        return {"boxes": boxes_file(video, self.boxes)}

    def build(self, footage: Footage) -> "MotBoxes":
        """The boxes of one video."""
        path = boxes_file(footage.path, self.boxes)
        images = read_sequence(footage.path) if footage.path.is_dir() else None
        boxes = read_boxes(path, people_only=path.name.endswith("gt.txt"), images=images)
        if boxes.first == 0 and (images is None or images.first == 1):
            footage.note(f"{path.name} counts frames from 0, not from 1; its frame 0 is used as the first")
        if images is not None:
            lost = int(np.sum(~np.isin(boxes.frame + images.first, [*images.images])))
            if lost:
                footage.note(
                    f"in frames that have no image: {lost:,} of {counted(len(boxes.frame), 'box')} of {path.name}"
                )
        if self.ids != "none" and np.any(boxes.identity < 0):
            raise InputError(f"{path} has boxes without an id (-1); give --detector.ids none to track them")
        return MotBoxes(boxes, ids=self.ids != "none", score=self.score)


def boxes_file(video: Path, template: str = "") -> Path:
    """The file with the boxes of a video.

    Raises:
        InputError: No candidate file exists.
    """
    folder, names = (video, _IN_FOLDER) if video.is_dir() else (video.parent, _BESIDE_FILE)
    places = [folder / name.replace("{stem}", video.stem) for name in ((template,) if template else names)]
    for place in places:
        if place.is_file():
            return place
    raise InputError(f"{video} has no boxes: searched {' and '.join(map(str, places))}; give --detector.boxes")


class MotBoxes:
    """A detector that returns boxes read from a file.

    Args:
        boxes: All boxes of one video.
        ids: Whether their ids are tracklets.
        score: Boxes below it are left out.
    """

    def __init__(self, boxes: Boxes, *, ids: bool = False, score: float = 0.0) -> None:
        self._boxes = boxes.where(boxes.score >= score)
        self._ids = ids

    def detect(self, image: UInt8[np.ndarray, "h w 3"], number: int) -> FrameDetections:
        """See `Detector.detect`."""
        rows = self._boxes.at(number)
        return FrameDetections(
            self._boxes.box[rows],
            np.clip(self._boxes.score[rows], 0, 1),
            self._boxes.identity[rows] if self._ids else None,
        )
