from collections.abc import Sequence
from pathlib import Path

from reappear.data.images import ending

from .writer import Crop, Entries, Entry


class Market1501Writer:
    """Market-1501's layout: `bounding_box_train/PPPP_cCsS_FFFFFF_00.jpg`.

    People, cameras and sequences count from 1 there, and 0000 is a distractor: P is the identity's number + 1, C the
    camera's, and S the tracklet's, so that tracklets outlast the way out and in again.
    """

    def block(self, folder: Path, number: int, crops: Sequence[Crop]) -> list[Entry]:
        """See `Writer`."""
        train = folder / "bounding_box_train"
        train.mkdir(exist_ok=True)
        for crop in crops:
            name = f"{crop.identity + 1:04d}_c{crop.camera + 1}s{crop.tracklet + 1}_{crop.frame:06d}_00"
            (train / f"{name}{ending(crop.image)}").write_bytes(crop.image)
        return []

    def finish(self, folder: Path, entries: Entries) -> None:
        """Nothing: the names say it all."""
