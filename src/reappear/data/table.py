"""A CSV or Parquet file with a line for each image: `path,identity,camera,split`."""

from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Int

from reappear.core import SPLITS, ImageTable, InputError, Split, counted

from .files import Listing
from .labels import TABLE_ENDINGS, Codes, column_names, read_labels
from .layout import Layout
from .rows import Rows


def read_image_table(root: Path) -> ImageTable:
    """Reads the columns path and identity (or label), and if there camera, sequence (or tracklet), frame, split.

    Paths are relative to the file's folder. Labels may be text: then `names` holds them, and identities are their
    places in it. An empty identity or -1 is junk; without a column split all is "train".

    Args:
        root: The file, or a folder with one such file in it.

    Raises:
        InputError: The file or a column is missing, a path stands twice, a split is none, or no image is there.
    """
    file = _file(root)
    columns = read_labels(file, labels=("identity", "camera", "tracklet", "frame", "split"))
    lacking = [name for name in ("path", "identity") if name not in columns]
    if lacking:
        raise InputError(f"{file} has no column {' and no column '.join(lacking)}; it has {column_names(file)}")
    paths, identity = np.asarray(columns["path"]), cast(Codes, columns["identity"])
    first, times = np.unique(paths, return_counts=True)
    if (times > 1).any():
        raise InputError(
            f"{file}: {first[times > 1][0]} stands in {counted(times.max(), 'line')}; one image has one line"
        )
    camera, sequence, frame = (_numbers(columns.get(name), len(paths)) for name in ("camera", "tracklet", "frame"))
    splits = _splits(columns.get("split"), len(paths), file)
    rows, listing = Rows(), Listing(file.parent, file.name)
    values = (paths.tolist(), identity.number.tolist(), camera.tolist(), sequence.tolist(), frame.tolist(), splits)
    for path, person, cam, seq, number, split in zip(*values, strict=True):
        labels = {"identity": person, "camera": cam, "sequence": seq, "frame": number, "split": split}
        rows.add_if(listing.problem(path), str(file.parent / path), **labels)
    if not len(rows):
        raise InputError(
            f"{file}: none of {counted(len(paths), 'image')} is there ({rows.reason()}); "
            f"paths are relative to {file.parent} and stay inside"
        )
    return rows.table(identity.names)


def _file(root: Path) -> Path:
    if root.suffix.lower() in TABLE_ENDINGS:
        return root
    found = sorted(path for path in root.iterdir() if path.suffix.lower() in TABLE_ENDINGS)
    if len(found) != 1:
        there = ", ".join(path.name for path in found) or "none"
        raise InputError(f"{root} must hold one {' or '.join(TABLE_ENDINGS)}, got {there}; name the file")
    return found[0]


def _numbers(column: Codes | np.ndarray | None, length: int) -> Int[np.ndarray, " n"]:
    return column.number if isinstance(column, Codes) else np.full(length, -1, np.int64)


def _splits(column: Codes | np.ndarray | None, length: int, file: Path) -> list[Split]:
    if not isinstance(column, Codes):
        return ["train"] * length
    strange = [name for name in column.names if name not in SPLITS]
    if strange or not column.names or (column.number < 0).any():
        raise InputError(f"{file}: a split must be one of {', '.join(SPLITS)}, got {strange[:1] or 'none'}")
    return [cast(Split, column.names[number]) for number in column.number.tolist()]


def _matches(root: Path) -> bool:
    return root.suffix.lower() in TABLE_ENDINGS


TABLE = Layout(
    read=read_image_table,
    matches=_matches,
    description="a CSV or Parquet file with path,identity and camera,sequence,frame,split",
)
