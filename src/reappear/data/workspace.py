"""A workspace of our own, as a set of images: its crops, and who is on them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from reappear.core import ImageTable, InputError, check_name

from .layout import Layout
from .parquet import open_parquet

_OWN = {"tracklet": "tracklet", "given": "label", "true": "truth"}


def read_workspace(root: Path, *, identities: str = "round0") -> ImageTable:
    """The crops of a workspace, all of split "train"; -1 = discarded or unlabelled.

    A path names the bytes of an image in a shard, `shard-00000.tar@OFFSET+SIZE`: `read_image` reads it.

    Args:
        root: The workspace.
        identities: Name of identities that `correlate` wrote, or "tracklet", "given" (labels of the set it was made
            of), "true".

    Raises:
        InputError: There are no crops, no images of them, or no such identities.
    """
    check_name(identities, "identities")
    crops = _columns(root / "crops" / "crops.parquet", "video", "tracklet", "shard", "offset", "size")
    if (crops["shard"] < 0).any():
        raise InputError(f"{root} has embeddings but no images; ingest the images")
    if identities in _OWN:
        identity = _columns(root / "crops" / "crops.parquet", _OWN[identities])[_OWN[identities]]
    else:
        identity = _columns(root / "identities" / identities / "identities.parquet", "identity")["identity"]
    if len(identity) != len(crops["video"]):
        raise InputError(f"{root}: identities {identities!r} are of other crops; correlate again")
    with open_parquet(root / "crops" / "videos.parquet") as file:
        cameras = [str(camera) for camera in file.read(columns=["camera"]).column("camera").to_pylist()]
    names, number = np.unique(np.array(cameras), return_inverse=True)
    path = [
        f"{root}/crops/shard-{shard:05d}.tar@{offset}+{size}"
        for shard, offset, size in zip(*(crops[name].tolist() for name in ("shard", "offset", "size")), strict=True)
    ]
    return ImageTable(
        np.array(path, np.str_),
        identity,
        number.astype(np.int64)[crops["video"]],
        crops["tracklet"],
        np.full(len(path), "train"),
        cameras=tuple(names.tolist()),
    )


def _columns(path: Path, *names: str) -> dict[str, Int[np.ndarray, " n"]]:
    if not path.exists():
        raise InputError(f"{path} is missing; run the step that writes it")
    with open_parquet(path) as file:
        lacking = [name for name in names if name not in file.schema_arrow.names]
        if lacking:
            raise InputError(f"{path} has no {lacking[0]}; labels came with sets that have them")
        table = file.read(columns=list(names)).cast(pa.schema([(name, pa.int64()) for name in names]))
        return {name: table.column(name).to_numpy() for name in names}


def _matches(root: Path) -> bool:
    return (root / "crops" / "crops.parquet").is_file()


WORKSPACE = Layout(
    read=read_workspace,
    matches=_matches,
    description="a workspace of reappear",
    video=True,
    full_options={"identities": "tracklet"},
)
