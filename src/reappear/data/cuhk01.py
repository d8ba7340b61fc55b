"""CUHK01 (Li et al. 2012): 971 people, two images from each of two cameras.

`campus/PPPPIII.png`: person from 1, image 1 to 4; images 1 and 2 are of one camera, 3 and 4 of the other. Copies
without `campus`, and those named as in Market-1501 (`0001_c1s1_000001_00.png`), are read as well.
"""

import re
from pathlib import Path

from reappear.core import ImageTable, InputError, counted

from .files import is_image, list_files
from .layout import Counts, Layout
from .market1501 import NAME as MARKET_NAME
from .rows import Rows

_NAME = re.compile(r"(\d{4})(\d{3})")


def read_cuhk01(root: Path) -> ImageTable:
    """All images, as split "train": the set has no split of its own, and protocols draw one.

    Raises:
        InputError: No image has such a name.
    """
    rows = Rows()
    folder = root / "campus" if (root / "campus").is_dir() else root
    for path in list_files(folder):
        own, market = _NAME.fullmatch(path.stem), MARKET_NAME.fullmatch(path.stem)
        if not is_image(path):
            rows.skip(str(path), "not an image file")
        elif own and 1 <= int(own[2]) <= 4:
            rows.add(str(path), identity=int(own[1]), camera=1 + (int(own[2]) - 1) // 2)
        elif market and market[2]:
            rows.add(str(path), identity=int(market[1]), camera=int(market[2]))
        else:
            rows.skip(str(path), "not named as in CUHK01, 0001001.png: person 1, image 1")
    if not len(rows):
        raise InputError(
            f"{folder} holds no image named as in CUHK01, 0001001.png ({counted(rows.skipped, 'file')} skipped)"
        )
    return rows.table()


def _matches(root: Path) -> bool:
    if (root / "campus").is_dir():
        return any(_NAME.fullmatch(path.stem) for path in list_files(root / "campus")[:9])
    some = list_files(root)[:9] if root.is_dir() else []
    return bool(some) and all(_is_alone_ours(path) for path in some)


def _is_alone_ours(path: Path) -> bool:
    """Without a folder that says so: a name that neither a numbered frame nor another set has."""
    own, market = _NAME.fullmatch(path.stem), MARKET_NAME.fullmatch(path.stem)
    named = int(own[1]) >= 1 and 1 <= int(own[2]) <= 4 if own else market and market[2] in ("1", "2") and market[3]
    return path.suffix == ".png" and bool(named)


CUHK01 = Layout(
    read=read_cuhk01,
    matches=_matches,
    description="CUHK01: campus/PPPPIII.png, four images each of 971 people",
    folders=("cuhk01", "CUHK01"),
    published={"train": Counts(images=3_884, identities=971, cameras=2)},
    places={"train": "campus"},
    people={"train": range(1, 972)},
)
