"""CUHK03 under the new protocol (Zhong et al. 2017): 767 people to train on, 700 to test, two cameras.

`detected/` and `labeled/` each hold a set in Market-1501's layout: boxes of a detector, and boxes drawn by hand.
"""

from functools import partial
from pathlib import Path

from reappear.core import ImageTable, InputError

from .layout import Counts, Layout
from .market1501 import SPLIT_OF, matches_market1501, read_market1501


def read_cuhk03_np(root: Path, *, boxes: str = "detected") -> ImageTable:
    """Reads `root/detected` or `root/labeled`, or `root` itself where it holds the splits.

    Args:
        root: The set, or one of its two halves.
        boxes: "detected" or "labeled".

    Raises:
        InputError: There is no such half, or it is not in Market-1501's layout.
    """
    if (root / boxes).is_dir():
        return read_market1501(root / boxes)
    other = [half for half in ("detected", "labeled") if (root / half).is_dir()]
    if other:
        raise InputError(f"{root / boxes} is not there, only {root / other[0]}; read that half, or copy this one")
    return read_market1501(root)


def _matches(root: Path, boxes: str) -> bool:
    return matches_market1501(root / boxes)


def _layout(boxes: str, boxes_text: str, train: int, gallery: int) -> Layout:
    return Layout(
        read=partial(read_cuhk03_np, boxes=boxes),
        matches=partial(_matches, boxes=boxes),
        description=f"CUHK03, new protocol, {boxes_text}",
        folders=("cuhk03-np", "cuhk03_np", "CUHK03-NP", "CUHK03_NP", "cuhk03"),
        published={
            "train": Counts(images=train, identities=767, cameras=2),
            "query": Counts(images=1_400, identities=700, cameras=2),
            "gallery": Counts(images=gallery, identities=700, cameras=2),
        },
        places={split: folder for folder, split in SPLIT_OF.items()},
    )


CUHK03_NP = _layout("detected", "boxes of a detector (detected/)", 7_365, 5_332)
CUHK03_NP_LABELED = _layout("labeled", "boxes drawn by hand (labeled/)", 7_368, 5_328)
