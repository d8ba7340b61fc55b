"""What an exporter is."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

Entry = dict[str, Any]


@dataclass(frozen=True)
class Crop:
    """One crop that is exported.

    Attributes:
        place: Its place among those exported, from 0. They come sorted by identity.
        person: The place of its identity among those exported, from 0.
        identity: The number of its identity.
        camera: From 0.
        camera_name: What the workspace calls it.
        video: Number of its video, from 0.
        video_name: What the workspace calls it.
        tracklet: Number of its tracklet, from 0.
        frame: In its video; where that is unknown, its place in its tracklet.
        time: Seconds in its video; None = unknown.
        score: Of the detector.
        box: Left, top, right, bottom in the video's picture, px; of a set that came as crops, the crop itself.
        image: The image's file.
    """

    place: int
    person: int
    identity: int
    camera: int
    camera_name: str
    video: int
    video_name: str
    tracklet: int
    frame: int
    time: float | None
    score: float
    box: tuple[float, float, float, float]
    image: bytes


@runtime_checkable
class Writer(Protocol):
    """Writes crops in blocks. A block that was interrupted is written again, and ends the same."""

    def block(self, folder: Path, number: int, crops: Sequence[Crop]) -> list[Entry]:
        """Writes one block.

        Returns:
            What to note of each crop, as plain data; handed to `finish`.
        """
        ...

    def finish(self, folder: Path, entries: "Entries") -> None:
        """Writes what stands for the whole."""
        ...


@runtime_checkable
class Entries(Protocol):
    """The notes of all blocks in order; may be gone through any number of times."""

    def __iter__(self) -> Iterator[Entry]:
        """From the first."""
        ...


def write_array(file: Any, entries: Iterable[Entry]) -> None:
    """Writes a JSON array of objects, one a line, with one of them in memory at a time."""
    file.write("[")
    for i, entry in enumerate(entries):
        file.write((",\n" if i else "\n") + json.dumps(entry))
    file.write("\n]")
