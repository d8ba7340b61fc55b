"""LUPerson-NL (Fu et al. 2022): people followed by a tracker in videos of city streets, with the tracker's labels.

`COUNTRY/CITY/VIDEO/PPPPPP_FFFFFFF_DD.jpg`: person, frame, detection; or `VVVVV_PPPPPP_F_D.jpg`, named by the keys of
its LMDB, with the video in front. A person's number counts within one video. An LMDB itself is not read.
"""

import os
import re
from pathlib import Path

from reappear.core import ImageTable, InputError, counted

from .files import is_image
from .layout import Counts, Layout
from .rows import Rows

_NAME = re.compile(r"(\d{6})_(\d{7})_(\d{2,})")
_KEY = re.compile(r"(\d{5})_(\d{6})_(\d{1,18})_(\d+)")


def read_lupersonnl(root: Path) -> ImageTable:
    """All images below `root`, as split "train".

    A camera is a video, numbered from 0 in the order of their folders; an identity, and its sequence, is a person of
    one video, numbered likewise.

    Raises:
        InputError: No image has such a name.
    """
    rows = Rows()
    videos: dict[str, int] = {}
    people: dict[tuple[int, str], int] = {}
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = f"{folder}/{name}"
            stem = name.partition(".")[0]
            own, key = _NAME.fullmatch(stem), _KEY.fullmatch(stem)
            if not is_image(Path(name)):
                rows.skip(path, "not an image file")
            elif own or key:
                video = videos.setdefault(f"{folder}/{key[1] if key else ''}", len(videos))
                person = people.setdefault((video, key[2] if key else own[1] if own else ""), len(people))
                frame = key[3] if key else own[2] if own else ""
                rows.add(path, identity=person, camera=video, sequence=person, frame=int(frame))
            else:
                rows.skip(path, "not named as in LUPerson-NL, 000012_0000345_01.jpg: person, frame, detection")
    if not len(rows):
        hint = "; unpack the LMDB into files first" if any(root.rglob("data.mdb")) else ""
        raise InputError(
            f"{root} holds no image named as in LUPerson-NL ({counted(rows.skipped, 'file')} skipped){hint}"
        )
    return rows.table()


def _matches(root: Path) -> bool:
    # The first image met tells; there may be ten million.
    for folder, below, names in os.walk(root):
        below.sort()
        image = next((name for name in sorted(names) if is_image(Path(name))), None)
        if image is not None:
            stem = image.partition(".")[0]
            deep = len(Path(folder).relative_to(root).parts)
            return (bool(_NAME.fullmatch(stem)) and deep == 3) or (bool(_KEY.fullmatch(stem)) and deep < 2)
    return False


LUPERSONNL = Layout(
    read=read_lupersonnl,
    matches=_matches,
    description="LUPerson-NL: COUNTRY/CITY/VIDEO/PPPPPP_FFFFFFF_DD.jpg, each video with people of its own",
    folders=("lupersonnl", "LUPersonNL", "LUPerson-NL", "luperson-nl"),
    published={"train": Counts(images=10_683_716, identities=433_997, cameras=21_697)},
    places={"train": "."},
)
