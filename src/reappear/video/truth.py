"""Ground truth identities of the people in videos, where annotated. Used for scoring only."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from .motchallenge import Boxes, read_boxes
from .overlap import iou
from .sequence import is_image_sequence, read_sequence


def truth_file(video: Path) -> Path | None:
    """`X.gt.txt` beside the video `X.mp4`, or `gt/gt.txt` in a MOTChallenge folder."""
    path = video / "gt" / "gt.txt" if video.is_dir() else video.with_suffix(".gt.txt")
    return path if os.path.isfile(path) else None  # noqa: PTH113 (a name may be too long for `Path.is_file`)


def read_truth(video: Path) -> Boxes | None:
    """The annotated boxes of a video; None where there are none."""
    path = truth_file(video)
    images = read_sequence(video) if is_image_sequence(video) else None
    return read_boxes(path, people_only=True, images=images) if path else None


def match_truth(
    truth: Boxes, frame: Int[np.ndarray, " n"], box: Float[np.ndarray, "n 4"], *, minimum_iou: float = 0.5
) -> Int[np.ndarray, " n"]:
    """The true identity of each box; -1 = no match.

    Frame by frame, boxes and true boxes are matched one to one so that their summed IoU is largest; a match below
    `minimum_iou` is none (the matching of the MOTChallenge and KITTI tracking benchmarks).
    """
    from scipy.optimize import linear_sum_assignment  # most of a second to import, and needed only with truth

    found = np.full(len(frame), -1, np.int64)
    order = np.argsort(frame, kind="stable")
    for mine in np.split(order, np.flatnonzero(np.diff(frame[order])) + 1):
        if not len(mine):
            continue
        there = truth.at(int(frame[mine[0]]))
        overlaps = iou(np.asarray(box[mine]), truth.box[there])
        # An invalid pair must not displace a valid one.
        rows, columns = linear_sum_assignment(np.where(overlaps >= minimum_iou, overlaps, 0), maximize=True)
        good = overlaps[rows, columns] >= minimum_iou
        found[mine[rows[good]]] = truth.identity[there][columns[good]]
    return found
