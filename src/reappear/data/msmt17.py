"""MSMT17 (Wei et al. 2018), first and second version (faces masked): images in folders, splits in four lists.

`PPPP/PPPP_III_CC_MMDDperiod_FFFF_N.jpg`: person, image, camera, day with morning, noon or afternoon, frame, detection.
A line of a list is a path and the person's number, which begins at 0 in the training and again in the test part.
"""

import re
from pathlib import Path

from reappear.core import ImageTable, InputError, Split, counted, read_text

from .files import Listing
from .layout import Counts, Layout
from .rows import Rows

_TRAIN_PEOPLE = 1_041
_LISTS: dict[str, Split] = {"list_train.txt": "train", "list_val.txt": "train", "list_query.txt": "query",
                            "list_gallery.txt": "gallery"}  # fmt: skip
_FOLDERS = {True: ("train", "mask_train_v2"), False: ("test", "mask_test_v2")}
_NAME = re.compile(r"\d+_\d+_(\d{1,18})_(\d{4})(morning|noon|afternoon)?(?:_(\d{1,18}))?.*")
_PERIODS = {"morning": 1, "noon": 2, "afternoon": 3}


def read_msmt17(root: Path) -> ImageTable:
    """The images of the lists that are there. Training and validation are both of split "train", as everybody trains.

    Identities of the test part are 1,041 and up, so that no two people share a number. The sequence is the day and its
    part: MMDD, and 1 for morning, 2 for noon, 3 for afternoon.

    Raises:
        InputError: No list is there, a line of one is no path and number, or none of the images is there.
    """
    lists = [name for name in _LISTS if (root / name).is_file()]
    if not lists:
        raise InputError(f"{root} holds none of {', '.join(_LISTS)}, the lists of MSMT17")
    rows = Rows()
    for name in lists:
        split = _LISTS[name]
        folder = next((root / f for f in _FOLDERS[split == "train"] if (root / f).is_dir()), None)
        if folder is None:
            raise InputError(f"{root} holds {name}, but neither {' nor '.join(_FOLDERS[split == 'train'])}; copy it")
        listing = Listing(folder, name)
        for number, line in enumerate(read_text(root / name).splitlines(), 1):
            path, _, person = line.strip().rpartition(" ")
            if not line.strip():
                continue
            if not path or not person.isdecimal() or len(person) > 18:
                raise InputError(
                    f"{root / name}:{number}: must be a path and a person's number, got {line.strip()[:60]!r}"
                )
            match = _NAME.fullmatch(Path(path).stem)
            rows.add_if(
                listing.problem(path.strip()),
                f"{folder}/{path.strip()}",
                identity=int(person) + (0 if split == "train" else _TRAIN_PEOPLE),
                camera=int(match[1]) if match else -1,
                sequence=int(match[2]) * 10 + _PERIODS[match[3]] if match and match[3] else -1,
                split=split,
                frame=int(match[4]) if match and match[4] else -1,
            )
    if not len(rows):
        raise InputError(
            f"{root}: none of {counted(rows.skipped, 'image')} of its lists is there; copy the image folders"
        )
    return rows.table()


def _matches(root: Path) -> bool:
    return any((root / name).is_file() for name in ("list_train.txt", "list_query.txt")) and any(
        (root / name).is_dir() for names in _FOLDERS.values() for name in names
    )


MSMT17 = Layout(
    read=read_msmt17,
    matches=_matches,
    description="MSMT17, V1 (train, test) or V2 (mask_train_v2, mask_test_v2), with list_*.txt",
    folders=("MSMT17_V1", "MSMT17_V2", "MSMT17", "msmt17", "msmt17/MSMT17_V1", "msmt17/MSMT17_V2", "msmt17/MSMT17"),
    published={
        "train": Counts(images=32_621, identities=1_041, cameras=15),
        "query": Counts(images=11_659, identities=3_060, cameras=15),
        "gallery": Counts(images=82_161, identities=3_060, cameras=15),
    },
    places={"train": "list_train.txt and list_val.txt", "query": "list_query.txt", "gallery": "list_gallery.txt"},
    people={"train": range(1_041), "query": range(1_041, 4_101), "gallery": range(1_041, 4_101)},
)
