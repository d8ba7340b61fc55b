"""Crops → embeddings."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, UInt8

from reappear.core import (
    OPERATIONAL,
    SILENT,
    BatchSize,
    Engine,
    InputError,
    Progress,
    device_memory_errors,
    read_json_object,
    settings,
)
from reappear.data import decode_image
from reappear.models.extractors import ColorSettings, Extractor, ExtractorSettings, tracklet_extractor
from reappear.store import (
    CropStore,
    disk_errors,
    read_embeddings,
    read_npy,
    write_embedding_blocks,
    write_embeddings,
    write_npy,
    write_text,
    write_tracklet_vectors,
)

from .clips import embed_tracklets
from .contents import hash_files
from .engines import EngineSettings, LocalSettings, open_engine
from .record import Outcome, Record, read_record, require_made_of, run_step
from .settings import resolve
from .workspace import Workspace

CENTER = "center.npy"  # the means of embeddings side by side, which new images need too
_BLOCK = 4096
_SHARED = 512 << 20  # bytes for images on their way to workers


@settings
class EmbedSettings:
    """Settings of embedding."""

    extractor: Annotated[ExtractorSettings, "feature extractor"] = field(default_factory=ColorSettings)
    batch: Annotated[
        BatchSize, "crops at a time; vectors of a network may differ by it in the last bit", OPERATIONAL
    ] = 64
    flip: Annotated[bool, "add the vector of the mirrored crop"] = False
    beside: Annotated[
        str | None,
        "name of embeddings to put the new ones beside: each vector is then both, less their means; none if not given",
    ] = None
    engine: Annotated[EngineSettings, "where crops are embedded. The result is the same", OPERATIONAL] = field(
        default_factory=LocalSettings
    )


def embed(work: Workspace, name: str, settings: EmbedSettings, *, progress: Progress = SILENT) -> Record:
    """Embeds the crops of a workspace and writes unit vectors to `WORK/embeddings/NAME`.

    A model for clips also writes a vector of each tracklet, by which `correlate` links them; not with `beside`.

    A crop that cannot be read, or whose vector is not finite or zero, gets a row of zeros and is counted. Work goes on
    where an interrupted call left off.

    Raises:
        InputError: No crop has a vector. There are no crops yet, the extractor's file does not fit, or there are no
            embeddings of these crops to put them beside.
        DeviceError: A GPU has too little memory for the batch.
    """
    crops = work.open_crops()
    crops.require_images()
    files = {f"extractor.{key}": path for key, path in settings.extractor.files.items()}
    inputs: dict[str, Path | str] = {"crops": work.crops, **hash_files(files, work.hashes)}
    if settings.beside is not None:
        inputs["beside"] = require_embeddings(work, settings.beside)

    inside = f"{work.root}{os.sep}"  # the result does not depend on where the workspace lies
    texts = {name: text for name, text in vars(settings.extractor).items() if isinstance(text, str | Path)}
    moved: dict[str, Any] = {name: type(text)(str(text).removeprefix(inside)) for name, text in texts.items()}
    read = replace(settings, extractor=replace(settings.extractor, **moved))

    def fill(staging: Path) -> Outcome:
        advice = f"lower batch, which is {settings.batch}, or free the GPU of other programs"
        with device_memory_errors(advice), open_engine(settings.engine, _SHARED) as engine:
            beside = None if settings.beside is None else work.embeddings(settings.beside)
            if beside is None and not (staging / "tracklets.npy").exists():
                _embed_tracklets(crops, settings, staging, progress)
            return _embed_all(
                crops, _Embedder(settings.extractor, settings.flip), staging, settings.batch, beside, engine, progress
            )

    return run_step(work.embeddings(name), step="embed", settings=read, inputs=inputs, work=fill, progress=progress)


def _embed_tracklets(crops: CropStore, settings: EmbedSettings, staging: Path, progress: Progress) -> None:
    """By an extractor that sees the crops of a tracklet together; by others, nothing."""
    extractor = tracklet_extractor(settings.extractor)
    if extractor is not None:
        write_tracklet_vectors(staging, embed_tracklets(crops, extractor, flip=settings.flip, progress=progress))


def require_embeddings(work: Workspace, name: str) -> Path:
    """Folder of embeddings of this name.

    Raises:
        InputError: There are none.
        WorkspaceError: They are of other crops than the workspace holds now.
    """
    folder = work.embeddings(name)
    if not (folder / "record.json").exists():
        there = ", ".join(sorted(path.parent.name for path in folder.parent.glob("*/record.json"))) or "none"
        raise InputError(
            f"{work.root} holds no embeddings {name!r} (there: {there}); run `reappear embed`, or give other ones"
        )
    require_made_of(folder, crops=work.crops)
    return folder


class _Embedder:
    """Embeds batches. Loads the extractor on first use, once per process."""

    def __init__(self, settings: ExtractorSettings, flip: bool) -> None:
        self.settings = settings
        self.flip = flip

    @cached_property
    def extractor(self) -> Extractor:
        """The extractor itself."""
        return self.settings.build()

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings, "flip": self.flip}


def _embed_batch(embedder: _Embedder, jpegs: list[bytes]) -> tuple[Float[np.ndarray, "n d"], Counter[str]]:
    vectors, failed = embed_images(jpegs, embedder.extractor, flip=embedder.flip)
    return vectors.astype(np.float16), failed


def _batches(crops: CropStore, done: int, batch: int) -> Iterator[list[bytes]]:
    """Images of the crops from `done`; no batch reaches over the end of a block."""
    for first in range(done, len(crops), _BLOCK):
        last = min(first + _BLOCK, len(crops))
        for start in range(first, last, batch):
            yield [crops.image(i) for i in range(start, min(start + batch, last))]


def _embed_all(
    crops: CropStore,
    embedder: _Embedder,
    staging: Path,
    batch: int,
    beside: Path | None,
    engine: Engine,
    progress: Progress,
) -> Outcome:
    extractor = embedder.extractor
    rows, checkpoint_file = staging / "rows.f16", staging / "rows.json"
    checkpoint: dict[str, Any] = {"done": 0, "dropped": {}}
    if checkpoint_file.exists():
        checkpoint = read_json_object(checkpoint_file, "done", "dropped")
    done, dropped = int(checkpoint["done"]), Counter[str](checkpoint["dropped"])
    with disk_errors(rows), rows.open("r+b" if done else "w+b") as file:
        # Bytes beyond the checkpoint belong to an interrupted block.
        file.truncate(done * extractor.width * 2)
        file.seek(0, os.SEEK_END)
        with progress.task(f"embedding with {extractor.name}", len(crops)) as tick:
            tick(done)
            for vectors, failed in engine.map(_embed_batch, embedder, _batches(crops, done, batch)):
                file.write(vectors.tobytes())
                done += len(vectors)
                dropped.update(failed)
                tick(len(vectors))
                if done % _BLOCK == 0:
                    file.flush()
                    os.fsync(file.fileno())
                    write_text(checkpoint_file, json.dumps({"done": done, "dropped": dropped}))
    stored = np.memmap(rows, np.float16, "r", shape=(len(crops), extractor.width))
    meta = {"extractor": extractor.name, "flip": embedder.flip, "normalised": True}
    width = extractor.width
    if beside is None:
        write_embeddings(staging, stored, meta)
    else:
        earlier, its = read_embeddings(beside)
        width += earlier.shape[1]
        meta |= {"extractor": f"{its.get('extractor', beside.name)} beside {extractor.name}"}
        lost = int(np.count_nonzero(stored.any(axis=1) & ~earlier.any(axis=1)))
        dropped.update({f"crops without a vector in {beside.name}": lost} if lost else {})
        centers = _mean_rows((earlier, stored))
        write_npy(staging / CENTER, np.concatenate(centers))
        blocks = _side_by_side((earlier, stored), centers)
        write_embedding_blocks(staging, blocks, rows=len(crops), width=width, meta=meta)
    del stored
    rows.unlink()
    checkpoint_file.unlink(missing_ok=True)
    for reason, count in dropped.items():
        progress.note(f"{count} of {len(crops)} crops left out: {reason}")
    made = len(crops) - dropped.total()
    return Outcome({"crops": len(crops), "width": width}, dict(dropped), made=made)


def _mean_rows(parts: Sequence[np.ndarray]) -> list[Float[np.ndarray, " d"]]:
    """The mean of each of several embeddings over the rows that are zero in none."""
    totals: list[Any] = [0.0] * len(parts)
    there = 0
    for blocks, known in _known_blocks(parts):
        there += int(known.sum())
        totals = [total + block[known].sum(axis=0) for total, block in zip(totals, blocks, strict=True)]
    return [total / max(1, there) for total in totals]


def _side_by_side(
    parts: Sequence[np.ndarray], centers: Sequence[Float[np.ndarray, " _"]]
) -> Iterator[Float[np.ndarray, "_b _d"]]:
    """Unit rows of several embeddings, each less its center and of unit length again, in blocks.

    Their cosine is the mean of the parts' cosines. A row is zero where it is in any part.
    """
    for blocks, known in _known_blocks(parts):
        centred = [_unit(block - center) for block, center in zip(blocks, centers, strict=True)]
        yield np.where(known[:, None], np.concatenate(centred, axis=1) / np.sqrt(len(parts)), 0.0)


def _known_blocks(parts: Sequence[np.ndarray]) -> Iterator[tuple[list[Float[np.ndarray, "_b _"]], np.ndarray]]:
    """Blocks of several embeddings in float64, and which of their rows are zero in none."""
    for start in range(0, len(parts[0]), _BLOCK):
        blocks = [np.asarray(part[start : start + _BLOCK], np.float64) for part in parts]
        yield blocks, np.all([block.any(axis=1) for block in blocks], axis=0)


def embed_like(work: Workspace, name: str, images: Sequence[bytes]) -> Float[np.ndarray, "n d"]:
    """Unit rows of other images, made as the embeddings NAME of a workspace; zeros where one has no vector.

    Raises:
        InputError: The embeddings came with the crops, an older version wrote them, or a file of their extractor is
            missing or has another content than when they were made.
    """
    folder = require_embeddings(work, name)
    record = read_record(folder)
    if record.settings.get("extractor", {}).get("kind") == "given":
        raise InputError(f"{folder} was not made by an extractor of reappear; search by crop:N or identity:N")
    made = resolve(EmbedSettings, record.settings)
    extractor = _in_workspace(made.extractor, work)
    for key, path in extractor.files.items():
        if work.hashes.sha256(path) != record.inputs.get(f"extractor.{key}"):
            raise InputError(f"{path} has another content than when {folder} was made; embed anew under another name")
    vectors, _ = embed_images(images, extractor.build(), flip=made.flip)
    own = vectors.astype(np.float16)
    if made.beside is None:
        return own.astype(np.float32)
    if not (folder / CENTER).exists():
        raise InputError(f"{folder / CENTER} is missing: an older version wrote {folder}; embed anew")
    center = np.asarray(read_npy(folder / CENTER))
    earlier = embed_like(work, made.beside, images)
    (row,) = _side_by_side((earlier, own), np.split(center, [earlier.shape[1]]))
    return np.asarray(row, np.float32)


def _in_workspace(extractor: ExtractorSettings, work: Workspace) -> ExtractorSettings:
    """The extractor with the paths that its record has relative to the workspace."""
    moved = {
        name: type(value)(str(work.root / value))
        for name, value in vars(extractor).items()
        if isinstance(value, str | Path) and name in ("name", "weights") and (work.root / value).exists()
    }
    return replace(extractor, **moved)  # type: ignore[arg-type]


def embed_images(
    jpegs: Sequence[bytes], extractor: Extractor, *, flip: bool
) -> tuple[Float[np.ndarray, "n d"], Counter[str]]:
    """Unit rows of images in files' bytes, zeros where one has no vector, and counts of these by reason."""
    decoded = [_decoded(jpeg) for jpeg in jpegs]
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


def _decoded(jpeg: bytes) -> UInt8[np.ndarray, "h w 3"] | None:
    try:
        return decode_image(jpeg)
    except InputError:
        return None


def _unit(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Unit rows; zeros where a row is zero or not finite."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    good = np.isfinite(norms) & (norms > 0)
    return np.asarray(np.divide(vectors, norms, out=np.zeros_like(vectors), where=good))
