"""Reads the folder that ingest writes: crops, tracklets and videos."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int

from reappear.core import InputError, TrackletSet, Video, lengths_to_offsets, offsets_to_owner

from .shards import ShardReader
from .tables import Columns, read_table, write_table


@dataclass(frozen=True)
class CropStore:
    """Crops, tracklets and videos of one workspace.

    Crop `i` is row `i` of `crops.parquet`; rows of a tracklet are consecutive and sorted by frame; tracklets of a
    video are consecutive.

    `crops.parquet`: video, frame, time (s), left, top, right, bottom (px), score, tracklet, shard, offset, size
    (bytes), truth (the person's true id where footage comes with it, -1 = no person, or unknown), and of sets that came
    with labels: label (row of `labels.parquet`, -1 = none). Frame -1, time NaN: unknown; shard -1: no image.
    `tracklets.parquet`: video, start, end (s), crops (count).
    `videos.parquet`: name, path, camera, width, height, rate, frames, seconds, sha256, truth (whether it is known), and
    where the crops of each video are a part: part (its folder in `parts/`), content (the fingerprint of that).
    `earlier.parquet`: the parts of each earlier state, see `write_earlier`.
    """

    folder: Path

    @cached_property
    def crops(self) -> Columns:
        """Columns of `crops.parquet`."""
        return read_table(self.folder / "crops.parquet")

    @cached_property
    def tracklets(self) -> Columns:
        """Columns of `tracklets.parquet`."""
        return read_table(self.folder / "tracklets.parquet")

    @cached_property
    def videos(self) -> list[Video]:
        """The videos, by number."""
        rows = read_table(self.folder / "videos.parquet")
        return [
            Video(
                i,
                Path(rows["path"][i]),
                (int(rows["width"][i]), int(rows["height"][i])),
                float(rows["rate"][i]),
                int(rows["frames"][i]),
                str(rows["camera"][i]),
            )
            for i in range(len(rows["path"]))
        ]

    @cached_property
    def video_names(self) -> list[str]:
        """Unique short names of the videos, by number."""
        return [str(name) for name in read_table(self.folder / "videos.parquet", "name")["name"]]

    @cached_property
    def parts(self) -> list[str]:
        """The part of each video; "" where its crops lie in this folder."""
        rows = read_table(self.folder / "videos.parquet")
        return [str(part) for part in rows["part"]] if "part" in rows else [""] * len(next(iter(rows.values())))

    @property
    def part_contents(self) -> list[str]:
        """The fingerprint of each video's part with its data; none where the crops lie in this folder."""
        if not any(self.parts):
            return []
        return [str(content) for content in read_table(self.folder / "videos.parquet", "content")["content"]]

    @cached_property
    def has_truth(self) -> bool:
        """Whether true identities are known for every video."""
        return bool(np.all(read_table(self.folder / "videos.parquet", "truth")["truth"]))

    @cached_property
    def has_images(self) -> bool:
        """Whether there are images; a workspace made of embeddings has none."""
        return bool(np.all(np.asarray(self.crops["shard"]) >= 0))

    def require_images(self) -> None:
        """Raises InputError for a workspace made of embeddings."""
        if not self.has_images:
            raise InputError(f"{self.folder} has embeddings but no images, which this step needs; ingest the images")

    @cached_property
    def camera(self) -> Int[np.ndarray, " n"]:
        """The number of each crop's camera."""
        names = np.array([video.camera for video in self.videos])
        numbers = np.unique(names, return_inverse=True)[1] if len(names) else np.zeros(0, np.int64)
        return np.asarray(numbers[self.crops["video"]], np.int64)

    @cached_property
    def offsets(self) -> Int[np.ndarray, " _"]:
        """Rows of tracklet `t` are `offsets[t]:offsets[t+1]`."""
        return lengths_to_offsets(self.tracklets["crops"])

    @cached_property
    def origin(self) -> Int[np.ndarray, " n"]:
        """The tracklet that each crop was made in."""
        return offsets_to_owner(self.offsets)

    @cached_property
    def reader(self) -> ShardReader:
        """Where the images are."""
        return ShardReader(self.folder, self.parts if any(self.parts) else ())

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def image(self, crop: int) -> bytes:
        """The encoded image of one crop: JPEG, or the format of its set."""
        rows = self.crops
        return self.reader.read(int(rows["shard"][crop]), int(rows["offset"][crop]), int(rows["size"][crop]))

    def images(self) -> Iterator[bytes]:
        """All images in order."""
        return (self.image(crop) for crop in range(len(self)))

    def tracklet_set(self, embeddings: np.ndarray) -> TrackletSet:
        """The crops' embeddings as denoising reads them."""
        rows = self.tracklets
        return TrackletSet(embeddings, rows["video"], rows["start"], rows["end"], self.offsets)

    def part_sizes(self) -> Columns:
        """Columns part, tracklets, crops (counts): one row for each video, in their order."""
        video, count = self.tracklets["video"], len(self.parts)
        return {
            "part": np.array(self.parts, np.str_),
            "tracklets": np.bincount(video, minlength=count),
            "crops": np.bincount(video, weights=self.tracklets["crops"], minlength=count).astype(np.int64),
        }

    def earlier(self) -> Columns:
        """Columns of `earlier.parquet`; no rows where these crops are the first."""
        path = self.folder / "earlier.parquet"
        names = ("footage", "content", "part", "tracklets", "crops")
        return read_table(path, *names) if path.exists() else {name: np.zeros(0, np.int64) for name in names}

    def renumbering(self, footage: str) -> "Renumbering | None":
        """What the numbers of an earlier state of these crops are now; None for crops that never lay here.

        Args:
            footage: The fingerprint of the crops at that time.
        """
        rows = self.earlier()
        mine = np.flatnonzero(rows["footage"] == footage)
        if not len(mine):
            return None
        old = {name: rows[name][mine] for name in ("part", "tracklets", "crops")}
        now = self.part_sizes()
        return Renumbering(*(_renumbered(old, now, name) for name in ("tracklets", "crops")))


@dataclass(frozen=True)
class Renumbering:
    """The present number of each tracklet and crop of an earlier state; -1 = its video is not there."""

    tracklet: Int[np.ndarray, " t"]
    crop: Int[np.ndarray, " n"]

    @classmethod
    def none(cls) -> "Renumbering":
        """Of a state of which nothing is there."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))


def _renumbered(old: Columns, now: Columns, name: str) -> Int[np.ndarray, " _"]:
    starts = dict(zip(now["part"].tolist(), lengths_to_offsets(now[name])[:-1].tolist(), strict=True))
    pieces = [
        np.arange(count) + starts[part] if part in starts else np.full(count, -1)
        for part, count in zip(old["part"].tolist(), old[name].tolist(), strict=True)
    ]
    return np.concatenate([*pieces, np.zeros(0, np.int64)]).astype(np.int64)


def write_earlier(folder: Path, earlier: Path, *, footage: str, content: str) -> None:
    """Writes the parts of all earlier states of crops: those that the last state lists, and those of itself.

    Args:
        folder: The new crops.
        earlier: The last state.
        footage: Its fingerprint in its record, which review decisions name.
        content: Its fingerprint with its outputs, which later steps name.
    """
    store = CropStore(earlier)
    rows, last = store.earlier(), store.part_sizes()
    known = rows["footage"] != footage  # the last state may have been there before
    mine = {"footage": np.full(len(last["part"]), footage), "content": np.full(len(last["part"]), content), **last}
    columns = {name: np.concatenate([rows[name][known].astype(mine[name].dtype), mine[name]]) for name in mine}
    write_table(folder / "earlier.parquet", columns)
