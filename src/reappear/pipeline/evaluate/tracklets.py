"""Vectors of tracklets by a model for clips: embedded once for each model and set."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from reappear.core import ImageTable, InputError, Progress, device_memory_errors
from reappear.data import Images
from reappear.models.extractors import tracklet_extractor
from reappear.pipeline.clips import AT_ONCE, Frames, tracklet_vectors
from reappear.pipeline.contents import hash_files, hash_value
from reappear.pipeline.embed import as_recorded
from reappear.pipeline.record import Outcome, read_record, run_step
from reappear.pipeline.settings import result_settings
from reappear.pipeline.workspace import Workspace
from reappear.train.samplers import Tracklets

from .splits import EvalSplit
from .vectors import LabelledEmbeddings, VectorSettings, read_vectors, save_vectors

_UNREADABLE = "tracklets with an image that cannot be decoded"


def embed_tracklets(
    work: Workspace, name: str, split: EvalSplit, given: VectorSettings, *, images: str, progress: Progress
) -> tuple[Path, dict[str, int]]:
    """As `embed_split`, a row for each tracklet of the queries, then of the gallery; `given.tracklet` says how."""
    files = {f"extractor.{key}": path for key, path in given.extractor.files.items()}
    table = split.table
    order = hash_value([table.identity, table.camera, table.sequence, table.frame], root=split.root)
    inputs = {"images": images, "tracklets": order, **hash_files(files, work.hashes)}
    folder = work.vectors(f"{name}-{hash_value([result_settings(given), inputs], root=work.root)[:8]}")

    def fill(staging: Path) -> Outcome:
        extractor = tracklet_extractor(given.extractor)
        if extractor is None:
            raise InputError(f"{given.extractor.kind} makes no vectors of tracklets; give --tracklet images")
        read = Images(table)
        frames = [
            Frames(read.__getitem__, part[found.rows(number)].tolist())
            for part, found in _parts(table)
            for number in range(len(found))
        ]
        vectors = np.zeros((len(frames), extractor.width), np.float32)
        with (
            device_memory_errors("free the GPU of other programs"),
            progress.task(
                f"embedding tracklets of {split.name} with {extractor.name}", len(frames), "tracklet"
            ) as tick,
        ):
            for begin in range(0, len(frames), AT_ONCE):
                some = frames[begin : begin + AT_ONCE]
                vectors[begin : begin + len(some)] = tracklet_vectors(
                    extractor, some, dense=given.tracklet == "dense", flip=given.flip
                )
                tick(len(some))
        save_vectors(staging, vectors, extractor.name)
        dropped = Counter({_UNREADABLE: int(np.count_nonzero(~vectors.any(axis=1)))})
        counts: dict[str, int | float] = {"tracklets": len(frames), "width": extractor.width}
        return Outcome(counts, dict(+dropped), made=len(frames) - dropped.total())

    recorded = replace(given, extractor=as_recorded(given.extractor, work))
    run_step(folder, step="vectors", settings=recorded, inputs=inputs, work=fill, progress=progress)
    return folder, read_record(folder).dropped


def read_tracklets(folder: Path, split: EvalSplit) -> tuple[LabelledEmbeddings, LabelledEmbeddings, str]:
    """Query, gallery, and the extractor's name; without tracklets that could not be embedded."""
    table = split.table
    parts = _parts(table)
    vectors, extractor = read_vectors(folder, sum(len(found) for _, found in parts), "tracklets")
    made, begin = [], 0
    for name, (part, found) in zip(("query", "gallery"), parts, strict=True):
        mine = vectors[begin : begin + len(found)]
        begin += len(found)
        good = np.any(mine, axis=1)
        if not good.any():
            raise InputError(f"no tracklet of the {name} can be read, first {table.path[part[0]]}; check the files")
        rows = part[found.first[good]]
        made.append(
            LabelledEmbeddings(
                np.asarray(mine[good]),
                table.identity[rows],
                table.camera[rows],
                table.path[rows],
                np.full(len(rows), -1),
            )
        )
    return made[0], made[1], extractor


def _parts(table: ImageTable) -> list[tuple[np.ndarray, Tracklets]]:
    """Rows of the queries and of the gallery, and the tracklets among them."""
    rows = [np.flatnonzero(table.split == part) for part in ("query", "gallery")]
    return [(some, Tracklets(table.select(some))) for some in rows]
