"""Market-1501's layout, which CUHK03-NP, DukeMTMC and many private sets share.

`bounding_box_train`, `query` and `bounding_box_test` hold `PPPP_cCsS_FFFFFF_NN.jpg`: person (-1 = junk, 0000 =
distractor), camera, sequence, frame, detection (Zheng et al. 2015).
"""

import re
from pathlib import Path

from reappear.core import ImageTable, InputError, Split, counted

from .files import is_image, list_files
from .layout import Counts, Layout
from .rows import Rows

SPLIT_OF: dict[str, Split] = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
NAME = re.compile(r"(-1|\d+)(?:_c(\d+)(?:s(\d+))?(?:_f?(\d{1,18}))?)?(?:[_.].*)?")  # f: as in DukeMTMC


def read_market1501(root: Path) -> ImageTable:
    """Images of all splits that are there, sorted by name within each.

    Person, camera, sequence and frame are as the name says; all but the person are -1 where it does not. Files that are
    no images, or whose name does not begin with a person, are skipped and counted.

    Raises:
        InputError: None of the three folders is there, or none of them holds a usable image.
    """
    folders = [root / name for name in SPLIT_OF if (root / name).is_dir()]
    if not folders:
        below = sorted(child.name for child in root.iterdir() if any((child / name).is_dir() for name in SPLIT_OF))
        hint = f"; did you mean {root / below[0]}?" if below else ""
        raise InputError(f"{root} holds none of {', '.join(SPLIT_OF)}, the folders of Market-1501's layout{hint}")
    rows = Rows()
    for folder in folders:
        add_named(rows, folder, SPLIT_OF[folder.name])
    if not len(rows):
        raise InputError(f"{root} holds no image named as in Market-1501 ({counted(rows.skipped, 'file')} skipped)")
    return rows.table()


def add_named(rows: Rows, folder: Path, split: Split) -> None:
    """Adds the images of one folder whose names are Market-1501's."""
    for path in list_files(folder):
        name = NAME.fullmatch(path.stem)
        if not is_image(path):
            rows.skip(str(path), "not an image file")
        elif name is None:
            rows.skip(str(path), "the name does not begin with a person's number, as in 0002_c1s1_000451_03.jpg")
        else:
            identity, camera, sequence, frame = (int(part) if part else -1 for part in name.groups())
            rows.add(str(path), identity=identity, camera=camera, sequence=sequence, split=split, frame=frame)


def matches_market1501(root: Path) -> bool:
    """Whether the training images, or queries and gallery, are there."""
    there = [(root / name).is_dir() for name in SPLIT_OF]
    return there[0] or (there[1] and there[2])


MARKET1501 = Layout(
    read=read_market1501,
    matches=matches_market1501,
    description="Market-1501, and sets named like it: "
    "PPPP_cCsS_FFFFFF_NN.jpg in bounding_box_train, query, bounding_box_test",
    folders=("Market-1501-v15.09.15", "market1501", "market1501/Market-1501-v15.09.15", "Market-1501", "Market1501"),
    # Junk and distractors are parts of the gallery's 19,732 files; 2,798 distractors are how the set is described.
    published={
        "train": Counts(images=12_936, identities=751, cameras=6),
        "query": Counts(images=3_368, identities=750, cameras=6),
        "gallery": Counts(images=19_732, identities=750, cameras=6, junk=3_819, distractors=2_798),
    },
    places={split: folder for folder, split in SPLIT_OF.items()},
    distractor=0,
)
