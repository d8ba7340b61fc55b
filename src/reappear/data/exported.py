"""Sets that carry their labels with their images: COCO's JSON, Parquet with images, WebDataset's tars.

Read as `reappear export-data` writes them. Of others' files the labels `identity` and, where they are there, `camera`
and `tracklet` are needed under these names (in COCO `identity_id` or `track_id`, `camera_id`).
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from reappear.core import ImageTable, InputError, counted, read_json_object

from .files import Listing, is_image
from .layout import Layout
from .parquet import parquet_columns, read_parquet
from .rows import Rows
from .tar import read_tar


def read_coco(root: Path) -> ImageTable:
    """`annotations.json` and its images; an annotation without `identity_id` is of the person `track_id`.

    Raises:
        InputError: The file is missing, is no COCO JSON, or none of its images is there.
    """
    file = root / "annotations.json"
    if not file.exists():
        raise InputError(f"{file} is missing; it lists the images and who is on them")
    found = read_json_object(file, "images", "annotations")
    try:
        images = {image["id"]: image for image in found["images"]}
        annotations = [(dict(images[one["image_id"]]), dict(one)) for one in found["annotations"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} cannot be read as COCO's JSON: {type(error).__name__} {error}") from error
    rows, listing = Rows(), Listing(root, file.name)
    for image, one in annotations:
        identity: Any = one.get("identity_id", one.get("track_id"))
        sequence = one.get("track_id", -1)
        name, camera, frame = str(image.get("file_name")), image.get("camera_id", -1), image.get("frame_id", -1)
        if not all(type(number) is int for number in (identity, sequence, camera)):
            rows.skip(str(root / name), "an annotation without a whole number identity_id or track_id")
        else:
            labels = {"identity": identity, "camera": camera, "sequence": sequence, "frame": _frame(frame)}
            rows.add_if(listing.problem(name), str(root / name), **labels)
    if not len(rows):
        raise InputError(f"{file}: none of {counted(rows.skipped, 'image')} can be used ({rows.reason()})")
    return rows.table(cameras=_camera_names(found.get("videos"), rows.table().camera))


def _camera_names(videos: Any, camera: Int[np.ndarray, " n"]) -> list[str]:
    """The names of cameras by number, where the videos of COCO's JSON name each camera that there is."""
    try:
        names = {video["camera_id"]: video["camera"] for video in videos}
    except (KeyError, TypeError):
        return []
    wanted = range(int(camera.max(initial=-1)) + 1)
    known = all(type(names.get(number)) is str for number in wanted)
    return [names[number] for number in wanted] if known else []


def read_parquet_images(root: Path) -> ImageTable:
    """Parquet files with a column `image` of bytes and labels beside it. A path is `FILE.parquet@ROW`.

    Raises:
        InputError: There is no such file, or it lacks `identity`.
    """
    rows = Rows()
    for file in _parquets(root):
        names = parquet_columns(file)
        known = [name for name in ("identity", "camera", "tracklet", "frame", "time") if name in names]
        if "identity" not in known:
            raise InputError(f"{file} has no column identity; it has {', '.join(names)}")
        for row, labels in enumerate(read_parquet(file, known)):
            _add(rows, f"{file}@{row}", labels)
    if not len(rows):
        raise InputError(f"{root} holds no Parquet file with images")
    return rows.table()


def read_webdataset(root: Path) -> ImageTable:
    """Tars of `KEY.jpg` and `KEY.json`. A path is `FILE.tar@OFFSET+SIZE`.

    Raises:
        InputError: There is no such tar, one is damaged, or none holds an image with an identity.
    """
    rows = Rows()
    for file in sorted(root.glob("*.tar")):
        images, labels = read_tar(file, is_image)
        for key, (offset, size) in images.items():
            _add(rows, f"{file}@{offset}+{size}", labels.get(key))
    if not len(rows):
        raise InputError(f"{root}: no tar holds an image with a JSON of its identity")
    return rows.table()


def _add(rows: Rows, path: str, labels: object) -> None:
    named = labels if isinstance(labels, dict) else {}
    numbers = [named.get(name, -1) for name in ("identity", "camera", "tracklet")]
    if "identity" not in named or not all(type(number) is int for number in numbers):
        rows.skip(path, "without a whole number identity")
    else:
        rows.add(
            path,
            identity=numbers[0],
            camera=numbers[1],
            sequence=numbers[2],
            frame=_frame(named.get("frame")),
            time=_time(named.get("time")),
        )


def _frame(value: object) -> int:
    """The number of a frame; -1 where it is none."""
    return value if type(value) is int and 0 <= value < 2**63 else -1


def _time(value: object) -> float:
    """Seconds; NaN where it is no number."""
    return float(value) if type(value) in (int, float) and abs(value) < 2**63 else math.nan  # type: ignore[arg-type]


def _parquets(root: Path) -> list[Path]:
    found = []
    for file in sorted(root.glob("*.parquet")):
        try:
            if "image" in parquet_columns(file):
                found.append(file)
        except InputError:
            continue
    return found


def _has_annotations(root: Path) -> bool:
    return (root / "annotations.json").is_file()


def _has_tars(root: Path) -> bool:
    return root.is_dir() and not (root / "crops.parquet").exists() and any(root.glob("*.tar"))


def _has_parquets(root: Path) -> bool:
    return root.is_dir() and bool(_parquets(root))


COCO = Layout(
    read=read_coco, matches=_has_annotations, description="COCO's JSON: annotations.json with identity_id or track_id"
)
PARQUET = Layout(
    read=read_parquet_images,
    matches=_has_parquets,
    description="Parquet files with columns image, identity, camera, tracklet",
)
WEBDATASET = Layout(read=read_webdataset, matches=_has_tars, description="WebDataset's tars of KEY.jpg and KEY.json")
