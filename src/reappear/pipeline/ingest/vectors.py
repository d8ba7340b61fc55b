"""Ingest of labelled embeddings: a `.npy` file and a table with one line per vector."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from reappear.core import InputError, Progress, counted
from reappear.data import TABLE_ENDINGS, Codes, column_names, read_labels
from reappear.pipeline.contents import hash_files
from reappear.pipeline.record import Outcome, Record, run_step
from reappear.pipeline.workspace import Workspace
from reappear.store import read_npy, read_table, write_embedding_blocks

from . import IngestSettings
from .external import NO_TIMES, ExternalCrops, ExternalVideos, write_external

_BLOCK = 65_536
NAME = "round0"


def ingest_vectors(sources: Sequence[Path], work: Workspace, settings: IngestSettings, *, progress: Progress) -> Record:
    """Writes `X.npy` and `X.csv` (or `X.parquet`) as a workspace without images: crops and embeddings `round0`.

    The table has one line per vector, with `identity` (or `label`) or `tracklet` (or `sequence`), and optionally
    `camera`, `video`, `time` in seconds, `truth` and `path`. Rows of one video, tracklet and identity are one tracklet;
    without `video`, a camera is a video. A vector that is zero or not finite becomes a row of zeros and is counted.

    Raises:
        InputError: The files do not match each other or are invalid.
    """
    vectors_path, table_path = _pair(sources)
    vectors = _open(vectors_path)
    hashes = hash_files({"vectors": vectors_path, "labels": table_path}, work.hashes)
    hashes["names"] = f"{vectors_path.name} {table_path.name}"  # they become the names of extractor and video
    plain = {"layout": "vectors", "labels_are_truth": settings.labels_are_truth}

    def write_crops(staging: Path) -> Outcome:
        return _write_crops(vectors, vectors_path, table_path, settings, staging, progress)

    def write_vectors(staging: Path) -> Outcome:
        row = read_table(work.crops / "sources.parquet", "row")["row"].astype(np.int64)
        return _write_vectors(vectors, row, vectors_path.name, staging, progress)

    record = run_step(work.crops, step="ingest", settings=plain, inputs=hashes, work=write_crops, progress=progress)
    embedded = run_step(
        work.embeddings(NAME),
        step="embed",
        settings={"extractor": {"kind": "given"}},
        inputs={"crops": work.crops, "vectors": hashes["vectors"], "names": hashes["names"]},
        work=write_vectors,
        progress=progress,
    )
    return replace(record, dropped=record.dropped | embedded.dropped)


def _pair(sources: Sequence[Path]) -> tuple[Path, Path]:
    vectors = [path for path in sources if path.suffix.lower() == ".npy"]
    tables = [path for path in sources if path.suffix.lower() in TABLE_ENDINGS]
    if len(vectors) != 1 or len(tables) > 1 or len(vectors) + len(tables) != len(sources):
        raise InputError(
            f"embeddings are one .npy and one {' or '.join(TABLE_ENDINGS)} with its labels, "
            f"got {', '.join(path.name for path in sources)}"
        )
    if not tables:
        tables = [path for ending in TABLE_ENDINGS if (path := vectors[0].with_suffix(ending)).exists()]
    if not tables:
        raise InputError(
            f"{vectors[0]} needs a table of labels: {vectors[0].with_suffix('.csv').name} beside it, or give its path"
        )
    return vectors[0], tables[0]


def _open(path: Path) -> np.ndarray:
    vectors = read_npy(path)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise InputError(
            f"{path} must be a 2-D array of numbers, one vector a row; got {vectors.dtype} {vectors.shape}"
        )
    if not vectors.size:
        raise InputError(f"{path} has no vectors; its shape is {vectors.shape}")
    return vectors


def _write_crops(
    vectors: np.ndarray, vectors_path: Path, path: Path, settings: IngestSettings, staging: Path, progress: Progress
) -> Outcome:
    with progress.task(f"reading {path.name}", None, "vector") as tick:
        columns = read_labels(path, labels=("identity", "camera", "video", "tracklet", "truth"), times=("time",))
        tick(len(vectors))
    if not columns.keys() & {"identity", "tracklet"}:
        raise InputError(f"{path} has neither a column identity nor a column tracklet; it has {column_names(path)}")
    length = len(next(iter(columns.values())))
    if length != len(vectors):
        raise InputError(
            f"{path} has {counted(length, 'line')} for {counted(len(vectors), 'vector')} in {vectors_path}; "
            "the numbers must be equal"
        )
    rows, videos, labels = _arrange(columns, path, settings)
    known = rows.label >= 0 if "tracklet" not in columns else np.ones(len(rows), bool)
    order = rows.order()
    order = order[known[order]]
    if not len(order):
        raise InputError(f"{path} has no usable label: all are empty or -1")
    rows = rows[order]
    if np.isnan(rows.time).all():
        progress.note(NO_TIMES)
    nowhere = np.full(len(order), -1)
    places = dict.fromkeys(("shard", "offset", "size"), nowhere) | dict.fromkeys(("width", "height"), 0 * nowhere)
    source: dict[str, np.ndarray] = {"row": order}
    if "path" in columns:
        source["path"] = np.asarray(columns["path"])[order]
    has_truth = settings.labels_are_truth or "truth" in columns
    tracklets = write_external(staging, rows, videos, labels=labels, places=places, source=source, has_truth=has_truth)
    counts: dict[str, int | float] = {
        "videos": len(videos.names),
        "labels": len(labels),
        "tracklets": tracklets,
        "crops": len(order),
    }
    left_out = {"unlabelled": int((~known).sum())} if not known.all() else {}
    return Outcome(counts, left_out, made=len(order))


def _arrange(
    columns: dict[str, Codes | np.ndarray], path: Path, settings: IngestSettings
) -> tuple[ExternalCrops, ExternalVideos, list[str]]:
    length = len(next(iter(columns.values())))
    none = np.full(length, -1, np.int64)
    codes = {name: column for name, column in columns.items() if isinstance(column, Codes)}
    numbers = {name: column.number for name, column in codes.items()}
    label, labels = none, list[str]()
    if "identity" in codes:
        values, place = np.unique(numbers["identity"], return_inverse=True)
        label = np.asarray(place - (1 if values[0] < 0 else 0), np.int64)
        labels = [codes["identity"].name(value) for value in values.tolist() if value >= 0]
    kind = "video" if "video" in codes else "camera"
    video = np.zeros(length, np.int64)
    names = [path.stem]
    if kind in codes:
        values, video = np.unique(numbers[kind], return_inverse=True)
        names = [codes[kind].name(value) if value >= 0 else "unknown" for value in values.tolist()]
    cameras = names
    if kind == "video" and "camera" in codes:
        cameras = _cameras(video, names, codes["camera"], path)
    truth = numbers.get("truth", label if settings.labels_are_truth else none)
    time = columns.get("time")
    rows = ExternalCrops(
        video=video.astype(np.int64),
        tracklet=numbers.get("tracklet", none),
        label=label,
        time=np.asarray(time, np.float64) if isinstance(time, np.ndarray) else np.full(length, np.nan),
        truth=truth,
    )
    return rows, ExternalVideos(names, cameras, path.parent), labels


def _cameras(video: Int[np.ndarray, " n"], names: list[str], camera: Codes, path: Path) -> list[str]:
    pairs = np.unique(np.stack([video, camera.number]), axis=1)
    twice = np.flatnonzero(np.diff(pairs[0]) == 0)
    if len(twice):
        raise InputError(
            f"{path}: video {names[pairs[0][twice[0]]]} has more than one camera; give each camera its own video"
        )
    return [camera.name(number) if number >= 0 else "unknown" for number in pairs[1].tolist()]


def _write_vectors(
    vectors: np.ndarray, row: Int[np.ndarray, " n"], name: str, staging: Path, progress: Progress
) -> Outcome:
    empty = 0
    in_order = bool(np.all(np.diff(row) == 1))

    def blocks() -> Iterator[Float[np.ndarray, "b d"]]:
        nonlocal empty
        with progress.task(f"copying {name}", len(row), "vector") as tick:
            for begin in range(0, len(row), _BLOCK):
                mine = row[begin : begin + _BLOCK]
                some = vectors[mine[0] : mine[-1] + 1] if in_order else vectors[mine]
                unit = _unit(np.asarray(some, np.float32))
                empty += int(np.count_nonzero(~unit.any(1)))
                yield unit
                tick(len(mine))

    meta = {"extractor": f"given ({name})", "normalised": True}
    write_embedding_blocks(staging, blocks(), rows=len(row), width=vectors.shape[1], meta=meta)
    if empty == len(row):
        raise InputError(f"{name}: all vectors are zero or not finite; embed again")
    dropped = {"vectors that are zero or not finite": empty} if empty else {}
    return Outcome({"crops": len(row), "width": vectors.shape[1]}, dropped, made=len(row) - empty)


def _unit(rows: Float[np.ndarray, "b d"]) -> Float[np.ndarray, "b d"]:
    """Unit rows; zeros where a row is zero or not finite."""
    # A row of large numbers overflows in its squares, not in itself.
    with np.errstate(invalid="ignore", over="ignore"):
        largest = np.abs(rows).max(axis=1, keepdims=True)
        good = np.isfinite(largest) & (largest > 0)
        scaled = np.divide(rows, largest, out=np.zeros_like(rows), where=good)
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.asarray(np.divide(scaled, norms, out=scaled, where=good))
