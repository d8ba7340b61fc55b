"""Crops → embeddings."""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
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
    counted,
    device_memory_errors,
    lengths_to_offsets,
    read_json_object,
    settings,
)
from reappear.data import UNREADABLE, decode_image
from reappear.models.extractors import ColorSettings, Extractor, ExtractorSettings, tracklet_extractor
from reappear.store import (
    TRACKLETS,
    CropStore,
    atomic_write,
    read_embeddings,
    read_npy,
    remove_scratch,
    write_embedding_blocks,
    write_npy,
    write_text,
    write_tracklet_vectors,
)

from .clips import embed_tracklets
from .contents import hash_files
from .engines import EngineSettings, LocalSettings, open_engine
from .record import Changed, Outcome, Record, Update, fingerprint, key_of, read_record, require_made_of, run_step
from .settings import resolve
from .workspace import Workspace

CENTER = "center.npy"  # the means of embeddings side by side, which new images need too
_PARTS = "parts.json"  # which rows are of which part of the crops
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


def embed(
    work: Workspace, name: str, settings: EmbedSettings, *, replace: bool = False, progress: Progress = SILENT
) -> Record:
    """Embeds the crops of a workspace and writes unit vectors to `WORK/embeddings/NAME`.

    A model for clips also writes a vector of each tracklet, by which `correlate` links them; not with `beside`.

    A crop that cannot be read, or whose vector is not finite or zero, gets a row of zeros and is counted. Work goes on
    where an interrupted call left off. Embeddings of an earlier state of the crops, by the same settings, are replaced:
    rows of videos that are still there are taken over.

    Args:
        work: A workspace with crops.
        name: Name of the folder of embeddings.
        settings: See `EmbedSettings`.
        replace: Embeddings of this name by another model, or beside others, are replaced too.
        progress: Progress listener.

    Raises:
        InputError: No crop has a vector. There are no crops yet, the extractor's file does not fit, or there are no
            embeddings of these crops to put them beside.
        DeviceError: A GPU has too little memory for the batch.
    """
    crops = work.open_crops()
    crops.require_images()
    files = {f"extractor.{key}": path for key, path in settings.extractor.files.items()}
    hashed = hash_files(files, work.hashes)
    inputs: dict[str, Path | str] = {"crops": work.crops, **hashed}
    beside = None
    if settings.beside is not None:
        beside = inputs["beside"] = require_embeddings(work, settings.beside)

    read = dataclasses.replace(settings, extractor=as_recorded(settings.extractor, work))
    source = key_of("embed", read, hashed | ({} if beside is None else {"beside": _source_of(beside)}))

    def fill(staging: Path) -> Outcome:
        advice = f"lower batch, which is {settings.batch}, or free the GPU of other programs"
        with device_memory_errors(advice), open_engine(settings.engine, _SHARED) as engine:
            plan = _Plan(crops, source, staging / f"rows-{source}", beside, work.embeddings(name))
            if beside is None and not (staging / TRACKLETS).exists():
                _embed_tracklets(crops, settings, staging, progress)
            return _embed_all(
                plan, _Embedder(settings.extractor, settings.flip), staging, settings.batch, engine, progress
            )

    def decide(record: Record) -> Changed:
        return "replace" if replace or work.is_of_earlier_crops(record) else "refuse"

    def discard(staging: Path) -> None:
        (staging / TRACKLETS).unlink(missing_ok=True)  # finished blocks are of a part of the crops, and stay right

    return run_step(
        work.embeddings(name),
        step="embed",
        settings=read,
        inputs=inputs,
        work=fill,
        update=Update(decide, discard),
        progress=progress,
    )


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


@dataclass(frozen=True)
class _Block:
    """Some rows of one part of the crops, and the file that keeps their vectors until all are there."""

    part: str
    first: int
    last: int
    file: Path

    @property
    def failures(self) -> Path:
        """Counts of crops without a vector, by reason; missing where there are none."""
        return self.file.with_suffix(".json")

    def rows(self, width: int) -> Float[np.ndarray, "_b width"]:
        """The vectors."""
        return np.fromfile(self.file, np.float16).reshape(self.last - self.first, width)


@dataclass(frozen=True)
class _Plan:
    """Which crops are embedded, and which rows are taken from an earlier result.

    Attributes:
        crops: All crops.
        source: What vectors depend on besides their crop.
        folder: Where blocks are kept.
        beside: Embeddings to put the new ones beside.
        earlier: Embeddings of the same name, of an earlier state of the crops; may be missing.
    """

    crops: CropStore
    source: str
    folder: Path
    beside: Path | None
    earlier: Path

    @cached_property
    def parts(self) -> dict[str, tuple[int, int]]:
        """Content of a part → its first row and the one after its last; of crops that have no parts one for all."""
        contents = self.crops.part_contents
        if not contents:
            return {fingerprint(self.crops.folder): (0, len(self.crops))}
        bounds = lengths_to_offsets(self.crops.part_sizes()["crops"]).tolist()
        return dict(zip(contents, pairwise(bounds), strict=True))

    @cached_property
    def taken(self) -> dict[str, tuple[int, int, dict[str, int]]]:
        """Part → its rows in the earlier result, and its counts of crops without a vector."""
        if not (self.earlier / _PARTS).exists() or _source_of(self.earlier) != self.source:
            return {}
        out, first = {}, 0
        for row in read_json_object(self.earlier / _PARTS, "parts")["parts"]:
            out[row["part"]] = (first, first + row["rows"], row["dropped"])
            first += row["rows"]
        return {part: found for part, found in out.items() if part in self.parts}

    @cached_property
    def blocks(self) -> list[_Block]:
        """All blocks that are not taken over. None reaches over the end of a part."""
        return [
            _Block(part, begin, min(begin + _BLOCK, last), self.folder / f"{part}-{begin - first:09d}.f16")
            for part, (first, last) in self.parts.items()
            if part not in self.taken
            for begin in range(first, last, _BLOCK)
        ]

    def batches(self, blocks: Sequence[_Block], batch: int) -> Iterator[list[bytes]]:
        """Images of the crops of blocks. No batch reaches over the end of a block."""
        for block in blocks:
            for begin in range(block.first, block.last, batch):
                yield [self.crops.image(crop) for crop in range(begin, min(begin + batch, block.last))]


def _embed_all(
    plan: _Plan, embedder: _Embedder, staging: Path, batch: int, engine: Engine, progress: Progress
) -> Outcome:
    crops, extractor = plan.crops, embedder.extractor
    plan.folder.mkdir(parents=True, exist_ok=True)
    waiting = [block for block in plan.blocks if not block.file.exists()]
    with progress.task(f"embedding with {extractor.name}", len(crops), "crop") as tick:
        tick(len(crops) - sum(block.last - block.first for block in waiting))
        results = engine.map(_embed_batch, embedder, plan.batches(waiting, batch))
        for block in waiting:
            vectors, failed = list[np.ndarray](), Counter[str]()
            for _ in range(block.first, block.last, batch):
                some, reasons = next(results)
                vectors.append(some)
                failed.update(reasons)
                tick(len(some))
            if failed:
                write_text(block.failures, json.dumps(failed))
            with atomic_write(block.file) as file:
                np.concatenate(vectors).tofile(file)
    own = extractor.width
    meta: dict[str, Any] = {"extractor": extractor.name, "flip": embedder.flip, "normalised": True}
    dropped = {part: Counter(found[2]) for part, found in plan.taken.items()}
    for block in plan.blocks:
        counts = read_json_object(block.failures) if block.failures.exists() else {}
        dropped.setdefault(block.part, Counter()).update(counts)
    new: Iterator[np.ndarray]
    if plan.beside is None:
        width, new = own, (block.rows(own) for block in plan.blocks)
    else:
        beside, its = read_embeddings(plan.beside)
        width = own + beside.shape[1]
        meta |= {"extractor": f"{its.get('extractor', plan.beside.name)} beside {extractor.name}"}
        for block in plan.blocks:
            lost = block.rows(own).any(axis=1) & ~beside[block.first : block.last].any(axis=1)
            dropped[block.part] += Counter({f"crops without a vector in {plan.beside.name}": int(lost.sum())})
        pairs = _Pairs(plan.blocks, beside, own)
        center = np.asarray(read_npy(plan.earlier / CENTER)) if plan.taken else np.concatenate(_mean_rows(pairs))
        write_npy(staging / CENTER, center)
        new = _side_by_side(pairs, np.split(center, [beside.shape[1]]))
    write_embedding_blocks(staging, _in_order(plan, new), rows=len(crops), width=width, meta=meta)
    rows = [
        {"part": part, "rows": last - first, "dropped": +dropped.get(part, Counter())}
        for part, (first, last) in plan.parts.items()
    ]
    write_text(staging / _PARTS, json.dumps({"source": plan.source, "parts": rows}, indent=2) + "\n")
    for folder in staging.glob("rows-*"):
        remove_scratch(folder, "*.f16", "*.json")
    totals = sum(dropped.values(), Counter[str]())
    for reason, count in totals.items():
        progress.note(f"{count} of {counted(len(crops), 'crop')} left out: {reason}")
    return Outcome({"crops": len(crops), "width": width}, dict(totals), made=len(crops) - totals.total())


def _in_order(plan: _Plan, new: Iterator[np.ndarray]) -> Iterator[Float[np.ndarray, "_b _d"]]:
    """All rows in the order of the crops: those of the earlier result, and blocks of new ones."""
    earlier = read_embeddings(plan.earlier)[0] if plan.taken else np.zeros((0, 0), np.float16)
    for part, (first, last) in plan.parts.items():
        if part in plan.taken:
            begin, end, _ = plan.taken[part]
            yield from (earlier[row : min(row + _BLOCK, end)] for row in range(begin, end, _BLOCK))
        else:
            yield from (next(new) for _ in range(first, last, _BLOCK))


def _source_of(folder: Path) -> str:
    """What the vectors of finished embeddings depend on besides their crops."""
    if (folder / _PARTS).exists():
        return str(read_json_object(folder / _PARTS, "source")["source"])
    return fingerprint(folder)


Pairs = Iterable[Sequence[np.ndarray]]


@dataclass(frozen=True)
class _Pairs:
    """The rows of earlier embeddings and the new ones, block by block."""

    blocks: Sequence[_Block]
    beside: np.ndarray
    width: int

    def __iter__(self) -> Iterator[Sequence[np.ndarray]]:
        return ((self.beside[block.first : block.last], block.rows(self.width)) for block in self.blocks)


def _mean_rows(pairs: Pairs) -> list[Float[np.ndarray, " _"]]:
    """The mean of each of several embeddings over the rows that are zero in none."""
    totals: Any = None
    there = 0
    for blocks, known in _known(pairs):
        there += int(known.sum())
        sums = [block[known].sum(axis=0) for block in blocks]
        totals = sums if totals is None else [total + more for total, more in zip(totals, sums, strict=True)]
    return [total / max(1, there) for total in totals]


def _side_by_side(pairs: Pairs, centers: Sequence[Float[np.ndarray, " _"]]) -> Iterator[Float[np.ndarray, "_b _d"]]:
    """Unit rows of several embeddings, each less its center and of unit length again, in blocks.

    Their cosine is the mean of the parts' cosines. A row is zero where it is in any part.
    """
    for blocks, known in _known(pairs):
        centred = [_unit(block - center) for block, center in zip(blocks, centers, strict=True)]
        yield np.where(known[:, None], np.concatenate(centred, axis=1) / np.sqrt(len(centers)), 0.0)


def _known(pairs: Pairs) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """Blocks of several embeddings in float64, and which of their rows are zero in none."""
    for pair in pairs:
        blocks = [np.asarray(part, np.float64) for part in pair]
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
    (row,) = _side_by_side([(earlier, own)], np.split(center, [earlier.shape[1]]))
    return np.asarray(row, np.float32)


def as_recorded(extractor: ExtractorSettings, work: Workspace) -> ExtractorSettings:
    """The extractor with paths relative to the workspace: results do not depend on where it lies."""
    inside = f"{work.root}{os.sep}"
    texts = {name: text for name, text in vars(extractor).items() if isinstance(text, str | Path)}
    moved: dict[str, Any] = {name: type(text)(str(text).removeprefix(inside)) for name, text in texts.items()}
    return dataclasses.replace(extractor, **moved)


def _in_workspace(extractor: ExtractorSettings, work: Workspace) -> ExtractorSettings:
    """The extractor with the paths that its record has relative to the workspace."""
    moved = {
        name: type(value)(str(work.root / value))
        for name, value in vars(extractor).items()
        if isinstance(value, str | Path) and name in ("name", "weights") and (work.root / value).exists()
    }
    return dataclasses.replace(extractor, **moved)  # type: ignore[arg-type]


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
    failed = Counter({UNREADABLE: len(jpegs) - len(readable)})
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
