"""Reads the folder that ingest writes: crops, tracklets and videos."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int

from reappear.core import InputError, TrackletSet, Video, lengths_to_offsets, offsets_to_owner

from .shards import ShardReader
from .tables import Columns, read_table


@dataclass(frozen=True)
class CropStore:
    """Crops, tracklets and videos of one workspace.

    Crop `i` is row `i` of `crops.parquet`; rows of a tracklet are consecutive and sorted by frame; tracklets of a
    video are consecutive.

    `crops.parquet`: video, frame, time (s), left, top, right, bottom (px), score, tracklet, shard, offset, size
    (bytes), truth (the person's true id where footage comes with it, -1 = no person, or unknown), and of sets that came
    with labels: label (row of `labels.parquet`, -1 = none). Frame -1, time NaN: unknown; shard -1: no image.
    `tracklets.parquet`: video, start, end (s), crops (count).
    `videos.parquet`: name, path, camera, width, height, rate, frames, seconds, sha256, truth (whether it is known).
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
        return ShardReader(self.folder)

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
