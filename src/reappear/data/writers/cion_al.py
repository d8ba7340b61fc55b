import io
from collections.abc import Sequence
from pathlib import Path

from reappear.data.images import ending, open_image

from .writer import Crop, Entries, Entry, write_array

_IN_A_SECTION = 30_000  # CION-AL has 3.9 million images in sec0 to sec129


class CionAlWriter:
    """CION-AL's layout: `cional_annos.json`, an array of `file_path` and `id` sorted by id, and images in `sec0`, ...

    Ids are 1 to the number of people without a gap, for the public loader takes the last for their number. It opens
    images without converting them, so that those that are not RGB are encoded anew.
    """

    def block(self, folder: Path, number: int, crops: Sequence[Crop]) -> list[Entry]:
        """See `Writer`."""
        entries = []
        for crop in crops:
            image = _rgb(crop.image)
            path = Path(f"sec{crop.place // _IN_A_SECTION}") / f"{crop.person + 1:06d}_{crop.place:08d}{ending(image)}"
            (folder / path.parent).mkdir(exist_ok=True)
            (folder / path).write_bytes(image)
            entries.append({"file_path": str(path), "id": crop.person + 1})
        return entries

    def finish(self, folder: Path, entries: Entries) -> None:
        """See `Writer`."""
        with (folder / "cional_annos.json").open("w", encoding="utf-8") as file:
            write_array(file, entries)


def _rgb(data: bytes) -> bytes:
    with open_image(data) as image:
        if image.mode == "RGB":
            return data
        out = io.BytesIO()
        image.convert("RGB").save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()
