"""Crops → embeddings."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from reappear.core import SILENT, Progress, SettingsError, settings
from reappear.models.extractors import ColorSettings, Extractor, ExtractorSettings
from reappear.store import CropStore, disk_errors, write_embeddings, write_text

from .record import Outcome, Record, run_step
from .workspace import Workspace

_BLOCK = 4096


@settings
class EmbedSettings:
    """Who turns crops into vectors, and how."""

    extractor: Annotated[ExtractorSettings, "who turns a crop into a vector"] = field(default_factory=ColorSettings)
    batch: Annotated[int, "crops at a time"] = 64
    flip: Annotated[bool, "add the vector of the mirrored crop"] = False


def embed(work: Workspace, name: str, settings: EmbedSettings, *, progress: Progress = SILENT) -> Record:
    """Embeds the crops of a workspace and writes unit vectors to `WORK/embeddings/NAME`.

    A crop that cannot be read, or whose vector is not finite or zero, gets a row of zeros and is counted. Work goes on
    where an interrupted call left off.

    Raises:
        InputError: There are no crops yet, or the extractor's file does not fit.
    """
    if settings.batch < 1:
        raise SettingsError(f"batch: must be 1 or more, got {settings.batch}")
    crops = work.open_crops()
    crops.require_images()
    inputs = {"crops": work.crops, **{f"extractor.{key}": path for key, path in settings.extractor.files.items()}}

    def fill(aside: Path) -> Outcome:
        return _embed_all(crops, settings.extractor.build(), aside, settings, progress)

    return run_step(work.embeddings(name), step="embed", settings=settings, inputs=inputs, work=fill, progress=progress)


def _embed_all(
    crops: CropStore, extractor: Extractor, aside: Path, settings: EmbedSettings, progress: Progress
) -> Outcome:
    rows, mark = aside / "rows.f16", aside / "rows.json"
    told: dict[str, Any] = {"done": 0, "dropped": {}}
    if mark.exists():
        told = json.loads(mark.read_text(encoding="utf-8"))
    dropped: Counter[str] = Counter(told["dropped"])
    with disk_errors(rows), rows.open("r+b" if told["done"] else "w+b") as file:
        # Bytes beyond the mark are of a block that was interrupted.
        file.truncate(told["done"] * extractor.width * 2)
        file.seek(0, os.SEEK_END)
        with progress.task(f"embedding with {extractor.name}", len(crops)) as tick:
            tick(told["done"])
            for first in range(told["done"], len(crops), _BLOCK):
                last = min(first + _BLOCK, len(crops))
                for start in range(first, last, settings.batch):
                    batch = range(start, min(start + settings.batch, last))
                    vectors, failed = embed_images([crops.image(i) for i in batch], extractor, flip=settings.flip)
                    file.write(vectors.astype(np.float16).tobytes())
                    dropped.update(failed)
                    tick(len(batch))
                file.flush()
                os.fsync(file.fileno())
                write_text(mark, json.dumps({"done": last, "dropped": dropped}))
    vectors = np.memmap(rows, np.float16, "r", shape=(len(crops), extractor.width))
    write_embeddings(aside, vectors, {"extractor": extractor.name, "flip": settings.flip, "normalised": True})
    del vectors
    rows.unlink()
    mark.unlink(missing_ok=True)
    for reason, count in dropped.items():
        progress.note(f"{count} of {len(crops)} crops left out: {reason}")
    return Outcome({"crops": len(crops), "width": extractor.width}, dict(dropped))


def embed_images(
    jpegs: Sequence[bytes], extractor: Extractor, *, flip: bool
) -> tuple[Float[np.ndarray, "n d"], Counter[str]]:
    """Unit rows of images in files' bytes, zeros where there is none, and why there is none: reason → count."""
    decoded = [_decode(jpeg) for jpeg in jpegs]
    readable = [i for i, image in enumerate(decoded) if image is not None]
    images = [image for image in decoded if image is not None]
    out = np.zeros((len(jpegs), extractor.width), np.float32)
    if readable:
        vectors = _unit(extractor(images))
        if flip:
            vectors = _unit(vectors + _unit(extractor([np.ascontiguousarray(image[:, ::-1]) for image in images])))
        out[readable] = vectors
    failed = Counter({"images that cannot be decoded": len(jpegs) - len(readable)})
    failed["vectors that are zero or not finite"] = len(readable) - int(np.any(out, axis=1).sum())
    return out, +failed


def _decode(jpeg: bytes) -> UInt8[np.ndarray, "h w 3"] | None:
    # OpenCV raises on no bytes at all, and gives None for anything else that it cannot read.
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB) if jpeg else None
    return None if image is None else np.asarray(image, np.uint8)


def _unit(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Unit rows; zeros where a row is zero or not finite."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    good = np.isfinite(norms) & (norms > 0)
    return np.asarray(np.divide(vectors, norms, out=np.zeros_like(vectors), where=good))
