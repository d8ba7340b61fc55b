"""What a model for clips attends to: correlation maps over the frames of tracklets."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from reappear.core import InputError, read_json_object
from reappear.data import decode_image

from .gather import Run
from .pictures import Picture, Strip, Thumbnails, data_uri

_SHADE = 0.75  # how far places of the least correlation are darkened


def correlation_strips(run: Run, thumbnails: Thumbnails, *, tracklets: int, frames: int) -> tuple[str, list[Strip]]:
    """The newest model for clips with a correlation map, and frames of tracklets under its maps; none if there is none.

    Args:
        run: The workspace.
        thumbnails: Of it.
        tracklets: How many, sampled evenly from the longest ones.
        frames: Of each, at equal distances.
    """
    folders = [folder for name in run.training if _has_maps(folder := run.work.model(name))]
    if not folders or not tracklets or not run.store.has_images:
        return "", []
    from reappear.models import Embedder

    embedder, lengths = Embedder.load(folders[-1]), np.diff(run.store.offsets)
    longest = np.argsort(-lengths, kind="stable")[: 4 * tracklets]
    strips = []
    for tracklet in np.sort(longest[:: max(1, len(longest) // tracklets)][:tracklets]).tolist():
        rows = thumbnails.rows(tracklet)
        crops = rows[np.unique(np.linspace(0, len(rows) - 1, frames).astype(int))].tolist()
        try:
            images = [decode_image(run.store.image(crop)) for crop in crops]
        except InputError:
            continue
        maps = embedder.correlations(images)
        low, high = np.percentile(maps, (5, 95))
        pictures = []
        for image, map_, crop in zip(images, maps, crops, strict=True):
            share = np.clip((map_ - low) / max(high - low, 1e-6), 0, 1)
            encoded = cv2.imencode(".png", _shaded(image, share)[..., ::-1])[1]
            plain = thumbnails.crop(crop)
            alt, caption = f"{plain.alt}, shaded by correlation", f"{map_.mean():.2f}"
            pictures += [plain, Picture(data_uri(encoded.tobytes(), thumbnails.height), alt, caption=caption)]
        strips.append(Strip(thumbnails.title(tracklet), pictures))
    return folders[-1].name, strips


def _has_maps(folder: Path) -> bool:
    if not (folder / "config.json").is_file():
        return False
    config = read_json_object(folder / "config.json", "architecture", "arguments")
    return bool(config["architecture"] == "grl" and config["arguments"].get("pooling", "grl") == "grl")


def _shaded(image: UInt8[np.ndarray, "h w 3"], share: Float[np.ndarray, "rows columns"]) -> UInt8[np.ndarray, "h w 3"]:
    """The image, dark where the share is low."""
    height, width = image.shape[:2]
    light = cv2.resize(share.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(image * (1 - _SHADE + _SHADE * light)[..., None], np.uint8)
