"""Splits a data set into query and gallery, by its own split or by a rule."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from reappear.core import ImageTable, InputError, SettingsError
from reappear.metrics import RankingProtocol
from reappear.pipeline.sets import find_set, people_at

Split = Literal["own", "cross-camera", "first-image"]

_OR_ELSE = ", or two .npz files of embeddings"


@dataclass(frozen=True)
class EvalSplit:
    """Images with the splits "query" and "gallery" alone.

    Attributes:
        name: What the set is called, with the options of its layout that were given.
        table: The images; queries first.
        dropped: Reason → files that were left out.
        root: Folder of the set.
    """

    name: str
    table: ImageTable
    dropped: dict[str, int]
    root: Path


def read_split(data: str | Path, *, split: Split, identities: str | None, query_camera: int | None) -> EvalSplit:
    """Reads a data set and splits it into query and gallery.

    Args:
        data: A folder, LAYOUT:FOLDER, or a layout whose set `REAPPEAR_DATASETS` leads to; a layout may be followed by
            its options: `ilids_vid,split=3,test=last:FOLDER`.
        split: "own": the set's query and gallery. "cross-camera": images of one camera are the queries. "first-image":
            the first image of each person is the query. Rules divide the set's query and gallery images, or
            its training images where it has no others.
        identities: "A-B": only people at these positions among all, sorted by number, from 1.
        query_camera: Camera of the queries under "cross-camera"; the lowest if None.

    Raises:
        InputError: The set cannot be read, or the query or gallery split is empty.
        SettingsError: A rule is invalid for this data set.
    """
    found = find_set(data, or_else=_OR_ELSE)
    table, layout, root = found.read(), found.layout, found.root
    dropped = dict(Counter(table.skipped.values()))
    for_test = table.split != "train"
    if split != "own":
        table = _rows(table, for_test if for_test.any() else ~for_test)
        table = _rows(table, table.identity >= 0)
    if identities is not None:
        table = _rows(table, people_at(table, identities))
    if split == "cross-camera":
        table = _divided(table, table.camera == _query_camera(table, query_camera, root))
    elif split == "first-image":
        table = _divided(table, _first_of_each(table.identity))
    elif not for_test.any():
        raise InputError(
            f"{root} has training images only; make queries of them by a rule: --split cross-camera (queries from one "
            f"camera) or --split first-image"
        )
    table = _rows(table, np.flatnonzero(table.split == "query"), np.flatnonzero(table.split == "gallery"))
    for part, folder in (("query", "query"), ("gallery", "bounding_box_test")):
        if not (table.split == part).any():
            where = f"{root / folder} is missing or holds no images" if layout == "market1501" and split == "own" else (
                f"{root}: no image is left for the {part}"
            )  # fmt: skip
            raise InputError(f"{where}; an evaluation needs queries and a gallery")
    return EvalSplit(found.name, table, dropped, root if root.is_dir() else root.parent)


def check_cameras(split: EvalSplit, protocol: RankingProtocol) -> None:
    """Raises `InputError` if cameras or sequences that the protocol needs are missing."""
    table = split.table
    if protocol == "no-camera":
        return
    unknown = np.flatnonzero(table.camera < 0)
    if len(unknown):
        raise InputError(
            f"{table.path[unknown[0]]}: the file name has no camera (as in 0002_c1s1_000451_03.jpg), which the "
            f"protocol {protocol} needs; rename the files, or give --protocol no-camera"
        )
    if len(np.unique(table.camera)) == 1:
        raise InputError(
            f"{split.name}: all images are of camera {table.camera[0]}, and the protocol {protocol} looks for people "
            f"in other cameras; give --protocol no-camera"
        )
    if protocol == "video" and (table.sequence < 0).any():
        raise InputError(
            f"{table.path[np.flatnonzero(table.sequence < 0)[0]]}: the file name has no sequence, and the protocol "
            f"video ranks tracklets; give --protocol market"
        )


def set_name(data: str | Path) -> str:
    """What a set is called: the name of its folder, and the options of its layout."""
    return find_set(data, or_else=_OR_ELSE).name


def _rows(table: ImageTable, *rows: np.ndarray) -> ImageTable:
    index = np.concatenate([np.flatnonzero(some) if some.dtype == bool else some for some in rows])
    return replace(table.select(index), names=(), cameras=())  # an evaluation is the same whatever they are called


def _query_camera(table: ImageTable, query_camera: int | None, root: Path) -> int:
    cameras = np.unique(table.camera)
    if (cameras < 0).any() or len(cameras) < 2:
        raise InputError(
            f"{root}: --split cross-camera needs images of two cameras or more, got "
            f"{len(cameras[cameras >= 0])}; name cameras as in 0002_c1s1_000451_03.jpg, or use --split first-image"
        )
    if query_camera is None:
        return int(cameras[0])
    if query_camera not in cameras:
        raise SettingsError(f"query_camera: must be one of {', '.join(map(str, cameras))}, got {query_camera}")
    return query_camera


def _first_of_each(identity: np.ndarray) -> np.ndarray:
    is_query = np.zeros(len(identity), bool)
    _, first, counts = np.unique(identity, return_index=True, return_counts=True)
    is_query[first[counts > 1]] = True
    return is_query


def _divided(table: ImageTable, is_query: np.ndarray) -> ImageTable:
    return replace(table, split=np.where(is_query, "query", "gallery"))
