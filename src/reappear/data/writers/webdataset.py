import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

from reappear.data.images import ending

from .writer import Crop, Entries, Entry


class WebDatasetWriter:
    """WebDataset's tars: `images-00000.tar`, ..., in each for every crop `KEY.jpg` and `KEY.json` with its labels."""

    def block(self, folder: Path, number: int, crops: Sequence[Crop]) -> list[Entry]:
        """See `Writer`."""
        with tarfile.open(folder / f"images-{number:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for crop in crops:
                key = f"{crop.place:08d}"
                _add(tar, key + ending(crop.image), crop.image)
                names = ("identity", "camera", "video", "tracklet", "frame", "time", "score")
                _add(tar, key + ".json", json.dumps({name: getattr(crop, name) for name in names}).encode())
        return []

    def finish(self, folder: Path, entries: Entries) -> None:
        """Nothing: each tar says it all."""


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
