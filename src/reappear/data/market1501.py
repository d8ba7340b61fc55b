"""Market-1501's layout, which CUHK03-NP, DukeMTMC and many private sets share.

`bounding_box_train`, `query` and `bounding_box_test` hold `PPPP_cCsS_FFFFFF_NN.jpg`: person (-1 = junk, 0000 = somebody
nobody asks for), camera, sequence, frame, detection (Zheng et al. 2015).
"""

import re
from pathlib import Path

import numpy as np

from reappear.core import ImageTable, InputError

from .files import IMAGE_ENDINGS, list_files

_SPLITS = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
_NAME = re.compile(r"(-1|\d+)(?:_c(\d+)(?:s(\d+))?)?(?:[_.].*)?")


def read_market1501(root: Path) -> ImageTable:
    """Images of all splits that are there, sorted by name within each.

    Person, camera and sequence are as the name says; camera and sequence are -1 where it does not. Files that are no
    images, or whose name does not begin with a person, are skipped and told.

    Raises:
        InputError: None of the three folders is there, or none of them holds a usable image.
    """
    folders = [root / name for name in _SPLITS if (root / name).is_dir()]
    if not folders:
        below = sorted(child.name for child in root.iterdir() if any((child / name).is_dir() for name in _SPLITS))
        hint = f"; did you mean {root / below[0]}?" if below else ""
        raise InputError(f"{root} holds none of {', '.join(_SPLITS)}, the folders of Market-1501's layout{hint}")
    rows: list[tuple[str, int, int, int, str]] = []
    skipped: dict[str, str] = {}
    for folder in folders:
        for path in list_files(folder):
            name = _NAME.fullmatch(path.stem)
            if path.suffix.lower() not in IMAGE_ENDINGS:
                skipped[str(path)] = "not an image file"
            elif name is None:
                skipped[str(path)] = "the name does not begin with a person's number, as in 0002_c1s1_000451_03.jpg"
            else:
                person, camera, sequence = (int(part) if part else -1 for part in name.groups())
                rows.append((str(path), person, camera, sequence, _SPLITS[folder.name]))
    if not rows:
        raise InputError(f"{root} holds no image named as in Market-1501 ({len(skipped)} files skipped)")
    path_column, identity, camera_column, sequence_column, split = zip(*rows, strict=True)
    return ImageTable(
        np.array(path_column),
        np.array(identity, np.int64),
        np.array(camera_column, np.int64),
        np.array(sequence_column, np.int64),
        np.array(split),
        skipped,
    )
