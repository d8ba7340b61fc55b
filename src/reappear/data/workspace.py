"""A workspace of reappear as a set of images: its crops, and who is on them by the labels of a name."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from reappear.core import ImageTable, InputError, check_name

from .layout import Layout
from .parquet import open_parquet

# Labels that a workspace has without `correlate`, and their columns in crops.parquet.
OWN_LABELS = {"instance": None, "tracklet": "tracklet", "given": "label", "true": "truth"}


def read_crops(root: Path, labels: str) -> ImageTable:
    """All crops of a workspace by number, of split "train"; identity -1 = discarded or unlabelled.

    The sequence is the tracklet; an unknown frame is the place in it.

    Args:
        root: The workspace.
        labels: "instance" (each crop its own identity), "tracklet", "given" (labels of the set that it was made of),
            "true" (ground truth of the footage), or the name of identities that `correlate` wrote.

    Raises:
        InputError: There are no crops, or no such labels.
    """
    check_name(labels, "labels")
    file = root / "crops" / "crops.parquet"
    crops = _columns(file, {"video": pa.int64(), "tracklet": pa.int64(), "frame": pa.int64(), "time": pa.float64()})
    column = OWN_LABELS.get(labels)
    if labels == "instance":
        identity = np.arange(len(crops["video"]))
    elif column is not None:
        identity = _columns(file, {column: pa.int64()})[column]
    else:
        found = root / "identities" / labels / "identities.parquet"
        identity = _columns(found, {"identity": pa.int64()})["identity"]
    if len(identity) != len(crops["video"]):
        raise InputError(f"{root}: identities {labels!r} are of other crops; correlate again")
    with open_parquet(root / "crops" / "videos.parquet") as videos:
        cameras = [str(camera) for camera in videos.read(columns=["camera"]).column("camera").to_pylist()]
    names, number = np.unique(np.array(cameras, np.str_), return_inverse=True)
    changes = np.flatnonzero(np.diff(crops["tracklet"], prepend=-1))  # rows of a tracklet are consecutive
    position = np.arange(len(identity)) - np.repeat(changes, np.diff(changes, append=len(identity)))
    return ImageTable(
        np.arange(len(identity)),
        identity,
        number.astype(np.int64)[crops["video"]],
        crops["tracklet"],
        np.full(len(identity), "train"),
        cameras=tuple(names.tolist()),
        frame=np.where(crops["frame"] >= 0, crops["frame"], position),
        time=crops["time"],
    )


def read_workspace(root: Path, *, identities: str = "round0") -> ImageTable:
    """The crops of a workspace as `read_crops` labels them, each by the path of its bytes.

    That is their place in a tar, `crops.tar@OFFSET+SIZE`: `read_image` reads it.

    Args:
        root: The workspace.
        identities: The labels.

    Raises:
        InputError: There are no crops, no images of them, or no such labels.
    """
    table = read_crops(root, identities)
    columns = dict.fromkeys(("shard", "offset", "size"), pa.int64())
    places = _columns(root / "crops" / "crops.parquet", columns)
    if (places["shard"] < 0).any():
        raise InputError(f"{root} has embeddings but no images; ingest the images")
    with open_parquet(root / "crops" / "videos.parquet") as videos:
        named = "part" in videos.schema_arrow.names
        parts = videos.read(columns=["part"]).column("part").to_pylist() if named else []
    path = [
        f"{root}/parts/{parts[shard]}/crops.tar@{offset}+{size}"
        if parts
        else f"{root}/crops/shard-{shard:05d}.tar@{offset}+{size}"
        for shard, offset, size in zip(*(places[name].tolist() for name in columns), strict=True)
    ]
    return replace(table, path=np.array(path, np.str_))


def _columns(path: Path, types: Mapping[str, pa.DataType]) -> dict[str, np.ndarray]:
    if not path.exists():
        raise InputError(f"{path} is missing; run the step that writes it")
    with open_parquet(path) as file:
        lacking = [name for name in types if name not in file.schema_arrow.names]
        if lacking:
            raise InputError(f"{path} has no column {lacking[0]}; choose labels that the workspace has")
        table = file.read(columns=list(types)).cast(pa.schema(list(types.items())))
        return {name: table.column(name).to_numpy() for name in types}


def _matches(root: Path) -> bool:
    return (root / "crops" / "crops.parquet").is_file()


WORKSPACE = Layout(
    read=read_workspace,
    matches=_matches,
    description="a workspace of reappear",
    video=True,
    full_options={"identities": "tracklet"},
)
