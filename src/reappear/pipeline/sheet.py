"""Writes a contact sheet of an identity, one row per tracklet."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from reappear.core import InputError
from reappear.data import decode_image
from reappear.store import CropStore, atomic_write, read_identities

from .explain import Explanation
from .workspace import Workspace

_MOST, _ROWS = 12, 60  # crops of a tracklet, and tracklets
_HEIGHT, _WIDTH, _MARGIN, _LABEL = 128, 64, 4, 80


def draw_sheet(work: Workspace, why: Explanation, path: Path) -> Path:
    """Writes evenly sampled crops of each tracklet, in order of time, after the number of the tracklet.

    Args:
        work: A workspace with images.
        why: The identity.
        path: A .jpg or .png file.

    Raises:
        InputError: The workspace has no images, the file exists, or its suffix is unknown.
    """
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise InputError(f"{path}: must be a .jpg or .png file")
    if path.exists() or path.is_symlink():
        raise InputError(f"{path} exists; give another file, or remove it")
    store = work.open_crops()
    store.require_images()
    owner = read_identities(work.finished_identities(why.identities)).assignment.tracklet
    rows = [_row(store, row["tracklet"], np.flatnonzero(owner == row["tracklet"])) for row in why.tracklets[:_ROWS]]
    _, data = cv2.imencode(path.suffix, np.concatenate(rows))
    with atomic_write(path) as staging:
        staging.write_bytes(data.tobytes())
    return path


def _row(store: CropStore, tracklet: int, crops: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    out = np.full((_HEIGHT + 2 * _MARGIN, _LABEL + _MOST * (_WIDTH + _MARGIN), 3), 255, np.uint8)
    cv2.putText(out, str(tracklet), (8, _HEIGHT // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    shown = crops[np.linspace(0, len(crops) - 1, min(_MOST, len(crops))).round().astype(int)]
    for place, crop in enumerate(shown.tolist()):
        try:
            image = decode_image(store.image(crop))
        except InputError:
            continue
        left = _LABEL + place * (_WIDTH + _MARGIN)
        small = cv2.resize(image, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)
        out[_MARGIN : _MARGIN + _HEIGHT, left : left + _WIDTH] = small[..., ::-1]  # written as BGR
    return out
