"""Contact sheets: one row for each tracklet, of an identity or among the results of a search."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Int, UInt8

from reappear.core import InputError
from reappear.data import decode_image
from reappear.store import CropStore, atomic_write, read_identities

from .explain import Explanation
from .search import SearchResult
from .workspace import Workspace

_MOST, _ROWS = 12, 60  # crops of a tracklet, and tracklets
_HEIGHT, _WIDTH, _MARGIN, _LABEL = 128, 64, 4, 80


def draw_sheet(work: Workspace, why: Explanation, path: Path) -> Path:
    """Writes evenly sampled crops of each tracklet of an identity, in order of time, after the number of the tracklet.

    Args:
        work: A workspace with images.
        why: The identity.
        path: A .jpg or .png file.

    Raises:
        InputError: The workspace has no images, the file exists, or its suffix is unknown.
    """
    store = _store(work, path)
    owner = read_identities(work.finished_identities(why.identities)).assignment.tracklet
    tracklets = [row["tracklet"] for row in why.tracklets[:_ROWS]]
    return _write(path, [_row(str(t), _images(store, np.flatnonzero(owner == t))) for t in tracklets])


def draw_search_sheet(work: Workspace, found: SearchResult, path: Path) -> Path:
    """Writes the query, and below it evenly sampled crops of each sighting after its rank.

    Args:
        work: A workspace with images.
        found: The result of a search.
        path: A .jpg or .png file.

    Raises:
        InputError: The workspace has no images, the file exists, or its suffix is unknown.
    """
    store = _store(work, path)
    rows = [_row("query", _images(store, found.crops) if found.image is None else [found.image])]
    for one in found.sightings[:_ROWS]:
        crops = np.arange(store.offsets[one.tracklet], store.offsets[one.tracklet + 1])
        rows.append(_row(f"{one.rank}.", _images(store, crops)))
    return _write(path, rows)


def require_new_picture(path: Path) -> None:
    """Raises InputError for a path that exists, or has another suffix than .jpg, .jpeg or .png."""
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise InputError(f"{path}: must be a .jpg or .png file")
    if path.exists() or path.is_symlink():
        raise InputError(f"{path} exists; give another file, or remove it")


def _store(work: Workspace, path: Path) -> CropStore:
    require_new_picture(path)
    store = work.open_crops()
    store.require_images()
    return store


def _write(path: Path, rows: Sequence[UInt8[np.ndarray, "_h w 3"]]) -> Path:
    _, data = cv2.imencode(path.suffix, np.concatenate(rows))
    with atomic_write(path) as staging:
        staging.write_bytes(data.tobytes())
    return path


def _images(store: CropStore, crops: Int[np.ndarray, " n"]) -> list[bytes]:
    shown = crops[np.linspace(0, len(crops) - 1, min(_MOST, len(crops))).round().astype(int)]
    return [store.image(crop) for crop in shown.tolist()]


def _row(label: str, images: Sequence[bytes]) -> UInt8[np.ndarray, "h w 3"]:
    out = np.full((_HEIGHT + 2 * _MARGIN, _LABEL + _MOST * (_WIDTH + _MARGIN), 3), 255, np.uint8)
    cv2.putText(out, label, (8, _HEIGHT // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    for place, data in enumerate(images):
        try:
            image = decode_image(data)
        except InputError:
            continue
        left = _LABEL + place * (_WIDTH + _MARGIN)
        small = cv2.resize(image, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)
        out[_MARGIN : _MARGIN + _HEIGHT, left : left + _WIDTH] = small[..., ::-1]  # written as BGR
    return out
