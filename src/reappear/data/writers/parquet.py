import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from reappear.data.images import ROWS_TOGETHER

from .writer import Crop, Entries, Entry

_NUMBERS = ("identity", "camera", "video", "tracklet", "frame")
# With this note, `datasets` of Hugging Face shows the column as images.
_FEATURES = {
    "image": {"_type": "Image"},
    **{name: {"dtype": "int64", "_type": "Value"} for name in _NUMBERS},
    **{name: {"dtype": "float64", "_type": "Value"} for name in ("time", "score")},
}
_SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        *((name, pa.int64()) for name in _NUMBERS),
        ("time", pa.float64()),
        ("score", pa.float64()),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


class ParquetWriter:
    """Parquet files that hold images and labels: `images-00000.parquet`, ..."""

    def block(self, folder: Path, number: int, crops: Sequence[Crop]) -> list[Entry]:
        """See `Writer`."""
        rows = [
            {
                "image": {"bytes": crop.image, "path": None},
                **{name: getattr(crop, name) for name in _NUMBERS},
                "time": crop.time,
                "score": crop.score,
            }
            for crop in crops
        ]
        table = pa.Table.from_pylist(rows, schema=_SCHEMA)
        pq.write_table(table, folder / f"images-{number:05d}.parquet", row_group_size=ROWS_TOGETHER, compression="none")
        return []

    def finish(self, folder: Path, entries: Entries) -> None:
        """Nothing: each file says it all."""
