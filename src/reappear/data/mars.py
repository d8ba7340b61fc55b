"""MARS (Zheng et al. 2016): tracklets of people in six cameras, listed by MATLAB files.

`bbox_train` and `bbox_test` hold `PPPP/PPPPCcTttttFfff.jpg`. In `info`, lists of names; matrices of tracklets with
their first and last line (from 1), person (-1 = junk, 0 = distractor) and camera; and which are queries.
"""

from pathlib import Path

import numpy as np

from reappear.core import ImageTable, InputError, Split, counted, read_text

from .files import Listing
from .layout import Counts, Layout
from .mat import read_mat
from .rows import Rows


def read_mars(root: Path) -> ImageTable:
    """Each image of each tracklet; the gallery is what is no query, junk (-1) included.

    The sequence is the tracklet's number: training tracklets from 0 in the order of their matrix, then those of the
    test part.

    Raises:
        InputError: There is no `info`, a file of it is missing or damaged, or none of the images is there.
    """
    info = root / "info"
    parts = [part for part in ("train", "test") if (info / f"{part}_name.txt").is_file()]
    if not parts:
        raise InputError(f"{root} holds neither info/train_name.txt nor info/test_name.txt; MARS needs its info folder")
    rows, first = Rows(), 0
    for part in parts:
        listing = Listing(root / f"bbox_{part}", f"{part}_name.txt")
        names = read_text(info / f"{part}_name.txt").split()
        tracks = read_mat(info / f"tracks_{part}_info.mat", f"track_{part}_info", columns=4)
        query = np.zeros(0, np.int64)
        if part == "test":
            query = read_mat(info / "query_IDX.mat", "query_IDX").ravel() - 1
            if len(query) and not 0 <= query.min() <= query.max() < len(tracks):
                raise InputError(f"{info / 'query_IDX.mat'} names tracklets beyond the {len(tracks)} of the test part")
        asked = set(query.tolist())
        for number, (begin, end, person, camera) in enumerate(tracks.tolist()):
            if not 1 <= begin <= end <= len(names):
                raise InputError(
                    f"{info / f'tracks_{part}_info.mat'}: tracklet {number + 1} is lines {begin} to {end}, "
                    f"and {part}_name.txt has {len(names)}"
                )
            split: Split = "train" if part == "train" else "query" if number in asked else "gallery"
            for frame, name in enumerate(names[begin - 1 : end]):
                path = f"{name[:4]}/{name}"
                rows.add_if(
                    listing.problem(path),
                    f"{root}/bbox_{part}/{path}",
                    identity=person,
                    camera=camera,
                    sequence=first + number,
                    split=split,
                    frame=frame,
                )
        first += len(tracks)
    if not len(rows):
        raise InputError(
            f"{root}: none of {counted(rows.skipped, 'image')} that info names is there; copy bbox_train, bbox_test"
        )
    return rows.table()


def _matches(root: Path) -> bool:
    return (root / "info").is_dir() and any((root / name).is_dir() for name in ("bbox_train", "bbox_test"))


MARS = Layout(
    read=read_mars,
    matches=_matches,
    description="MARS: bbox_train, bbox_test, and info with the lists of tracklets",
    folders=("mars", "MARS", "MARS-v160809", "mars/MARS-v160809"),
    published={
        "train": Counts(images=509_914, identities=625, cameras=6, tracklets=8_298),
        "query": Counts(cameras=6, tracklets=1_980),
        "gallery": Counts(cameras=6, tracklets=10_200, junk=870),
        "query+gallery": Counts(images=681_089, identities=636, cameras=6, tracklets=12_180),
    },
    places={
        "train": "info/train_name.txt",
        "query": "info/query_IDX.mat",
        "gallery": "info/test_name.txt",
        "query+gallery": "info/test_name.txt",
    },
    distractor=0,
    video=True,
)
