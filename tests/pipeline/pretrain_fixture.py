"""A small workspace with crops of coloured people, made without filming anything."""

import json
from pathlib import Path

import cv2
import numpy as np

from reappear.core import Assignment, generator
from reappear.pipeline.record import Record
from reappear.pipeline.workspace import Workspace
from reappear.store import Identities, ShardWriter, shard_path, write_identities, write_table, write_text


def paint(person: int, *, camera: int, shot: int) -> np.ndarray:
    """A person in two colours before a gray wall."""
    colours = generator(0, "person", person).integers(0, 256, (2, 3))
    random = generator(0, "shot", person, camera, shot)
    image = np.full((48, 24, 3), 90 + 30 * camera, np.uint8)
    left = int(random.integers(4, 8))
    image[8:26, left : left + 12] = colours[0]
    image[26:44, left : left + 12] = colours[1]
    return np.clip(image + random.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray) -> bytes:
    """As stored."""
    return bytes(cv2.imencode(".jpg", image[..., ::-1])[1])


def make_workspace(root: Path, *, people: int = 8, cameras: int = 2, crops: int = 3) -> Workspace:
    """`people` x `cameras` tracklets of `crops` crops; the last crop has no identity. `found` are true."""
    work = Workspace(root)
    rows: dict[str, list[int]] = {name: [] for name in ("video", "tracklet", "shard", "offset", "size", "truth")}
    with ShardWriter(shard_path(work.crops, 0)) as shard:
        for camera in range(cameras):
            for person in range(people):
                for shot in range(crops):
                    data = jpeg(paint(person, camera=camera, shot=shot))
                    offset, size = shard.add(f"{len(rows['size'])}.jpg", data)
                    unlabelled = (camera, person, shot) == (cameras - 1, people - 1, crops - 1)
                    tracklet = camera * people + person
                    for name, value in zip(
                        rows, (camera, tracklet, 0, offset, size, -1 if unlabelled else person), strict=True
                    ):
                        rows[name].append(value)
    columns = {name: np.array(values) for name, values in rows.items()}
    total = len(columns["size"])
    unknown = {name: np.zeros(total) for name in ("left", "top", "right", "bottom", "score")}
    order = {"frame": np.arange(total), "time": np.full(total, np.nan)}
    write_table(work.crops / "crops.parquet", columns | unknown | order)
    names = [f"camera {number}" for number in range(cameras)]
    numbers = {name: np.zeros(cameras) for name in ("width", "height", "rate", "frames", "seconds")}
    write_table(work.crops / "videos.parquet", {"name": names, "path": names, "camera": names} | numbers)
    write_table(work.crops / "tracklets.parquet", {"crops": np.bincount(columns["tracklet"])})
    _finish(work.crops, "ingest")
    found = Identities(
        Assignment(columns["tracklet"], np.tile(np.arange(people), cameras)),
        {"stage": np.zeros(0, "U1"), "first": np.zeros(0, int)},
        {"stage": np.zeros(0, "U1"), "crop": np.zeros(0, int)},
        {},
    )
    write_identities(work.identities("found"), found)
    _finish(work.identities("found"), "correlate")
    return work


def make_validation_set(root: Path, *, people: int = 6) -> Path:
    """People 100 and up, seen by two cameras, in Market-1501 layout."""
    for person in range(people):
        for camera in range(2):
            for shot in range(2):
                folder = root / ("query" if shot == 0 else "bounding_box_test")
                folder.mkdir(parents=True, exist_ok=True)
                name = f"{person + 1:04d}_c{camera + 1}s1_{shot:06d}_00.jpg"
                (folder / name).write_bytes(jpeg(paint(100 + person, camera=camera, shot=shot)))
    return root


def _finish(folder: Path, step: str) -> None:
    record = Record(step, f"{step}-of-a-test", {}, {}, {}, {}, 0.0, 0.0, {})
    write_text(folder / "record.json", record.to_json())
    assert json.loads((folder / "record.json").read_text())["step"] == step
