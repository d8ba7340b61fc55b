import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from reappear.core import InputError, read_json_object

from .arrays import read_npy
from .atomic import atomic_write, write_text

TRACKLETS = "tracklets.npy"


def write_embeddings(folder: Path, vectors: Float[np.ndarray, "n d"], meta: dict[str, Any]) -> None:
    """Writes `vectors.npy` (float16 unit rows; zeros = an image that could not be embedded) and `meta.json`."""
    with atomic_write(folder / "vectors.npy") as staging, staging.open("wb") as file:
        np.save(file, np.asarray(vectors, np.float16))
    _write_meta(folder, meta, len(vectors), vectors.shape[1])


def write_embedding_blocks(
    folder: Path, blocks: Iterable[Float[np.ndarray, "_b d"]], *, rows: int, width: int, meta: Mapping[str, Any]
) -> None:
    """Writes `rows` unit rows that come in blocks as `write_embeddings` does, with one block in memory at a time."""
    with atomic_write(folder / "vectors.npy") as staging, staging.open("wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": (rows, width)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            np.asarray(block, "<f2").tofile(file)
    _write_meta(folder, meta, rows, width)


def read_embeddings(folder: Path) -> tuple[Float[np.ndarray, "n d"], dict[str, Any]]:
    """The vectors as a float16 memory map, and what is known of them."""
    for name in ("vectors.npy", "meta.json"):
        if not (folder / name).exists():
            raise InputError(f"{folder / name} is missing; run `reappear embed` first")
    vectors = read_npy(folder / "vectors.npy")
    if vectors.ndim != 2 or vectors.dtype != np.float16:
        raise InputError(
            f"{folder}: not readable as embeddings ({vectors.dtype} {vectors.shape}); run `reappear embed` again"
        )
    return vectors, read_json_object(folder / "meta.json")


def write_tracklet_vectors(folder: Path, vectors: Float[np.ndarray, "t d"]) -> None:
    """Writes `tracklets.npy`, float16: a vector of each tracklet, beside those of its crops; zeros = it has none."""
    with atomic_write(folder / TRACKLETS) as staging, staging.open("wb") as file:
        np.save(file, np.asarray(vectors, np.float16))


def read_tracklet_vectors(folder: Path) -> Float[np.ndarray, "t d"] | None:
    """What `write_tracklet_vectors` wrote, as a memory map; None if it did not."""
    return read_npy(folder / TRACKLETS) if (folder / TRACKLETS).exists() else None


def _write_meta(folder: Path, meta: Mapping[str, Any], rows: int, width: int) -> None:
    write_text(folder / "meta.json", json.dumps({**meta, "rows": rows, "width": width}, indent=2) + "\n")
