"""Ingest of labelled image sets: files are copied unchanged, in resumable blocks."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from reappear.core import ImageTable, InputError, Progress, counted, process_pool, read_json_object
from reappear.data import READERS, ending, image_size, locate, read, read_image
from reappear.pipeline.contents import hash_images, hash_value
from reappear.pipeline.record import Outcome, Record, run_step
from reappear.pipeline.workspace import Workspace
from reappear.store import ShardWriter, read_table, remove_scratch, shard_path, write_table, write_text

from . import IngestSettings
from .external import NO_TIMES, ExternalCrops, ExternalVideos, write_external

_BLOCK = 8192  # images in a shard; at most so many are copied again after an interruption


def ingest_images(source: Path, name: str, work: Workspace, settings: IngestSettings, *, progress: Progress) -> Record:
    """Writes a set of images in the layout `name` as a workspace.

    Images of one camera, sequence and identity are a tracklet; a camera is a video, and without cameras the whole set
    is one. Files are copied byte by byte. Junk, distractors, and images that cannot be read to their end are
    left out, counted, and listed in `crops/skipped.parquet`.

    Raises:
        InputError: The set does not exist, has another layout, or has no readable image.
    """
    layout, root = READERS[name], locate(name, source)
    with progress.task(f"reading {root.name} as {name}", None, "image") as tick:
        table = read(name, root, **layout.full_options)
        tick(len(table))
    plan = _arrange(table, root, name, settings)
    inputs = {
        "images": hash_images(table, work.hashes, progress=progress),
        "labels": hash_value([table, plan.videos.names], root=plan.root),
    }

    def fill(staging: Path) -> Outcome:
        return _copy_all(plan, staging, settings, progress)

    return run_step(
        work.crops,
        step="ingest",
        settings={"layout": name, "labels_are_truth": settings.labels_are_truth},
        inputs=inputs,
        work=fill,
        progress=progress,
    )


@dataclass(frozen=True)
class _Plan:
    """The images to copy: `rows[i]` is the image `table.path[order[i]]`."""

    table: ImageTable
    order: Int[np.ndarray, " n"]
    rows: ExternalCrops
    videos: ExternalVideos
    labels: list[str]
    root: Path
    has_truth: bool
    left_out: dict[str, int]

    def blocks(self) -> Iterator[tuple[int, Int[np.ndarray, " b"]]]:
        """Number and rows of each block."""
        for number, begin in enumerate(range(0, len(self.order), _BLOCK)):
            yield number, self.order[begin : begin + _BLOCK]


def _arrange(table: ImageTable, root: Path, name: str, settings: IngestSettings) -> _Plan:
    junk = table.identity < 0
    distractor = np.zeros(len(table), bool)
    if READERS[name].distractor is not None:
        distractor = (table.identity == READERS[name].distractor) & (table.split == "gallery")
    people, label = np.unique(table.identity, return_inverse=True)
    cameras, video = np.unique(table.camera, return_inverse=True)
    names = [_camera_name(table, camera) if camera >= 0 else root.stem for camera in cameras.tolist()]
    label = label.astype(np.int64) - int(np.searchsorted(people, 0))
    rows = ExternalCrops(
        video=video.astype(np.int64),
        tracklet=table.sequence,
        label=label,
        time=np.full(len(table), np.nan),
        truth=label if settings.labels_are_truth else np.full(len(table), -1, np.int64),
    )
    order = rows.order()
    order = order[~(junk | distractor)[order]]
    if not len(order):
        raise InputError(f"{root}: no usable image: all {len(table)} are junk (-1) or distractors")
    left_out = {"junk (identity -1)": int(junk.sum()), "distractors": int(distractor.sum())}
    return _Plan(
        table=table,
        order=order,
        rows=rows[order],
        videos=ExternalVideos(names, names, root),
        labels=[table.names[p] if table.names else str(p) for p in people.tolist() if p >= 0],
        root=root if root.is_dir() else root.parent,
        has_truth=settings.labels_are_truth,
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def _camera_name(table: ImageTable, camera: int) -> str:
    return table.cameras[camera] if table.cameras else f"camera {camera}"


def _below(path: str, root: Path) -> str:
    return path.removeprefix(f"{root}{os.sep}")


def _copy_all(plan: _Plan, staging: Path, settings: IngestSettings, progress: Progress) -> Outcome:
    parts = staging / "parts"
    blocks = list(plan.blocks())
    waiting = [(number, rows) for number, rows in blocks if not _mark(parts, number).exists()]
    done = len(plan.order) - sum(len(rows) for _, rows in waiting)
    if done:
        progress.note(f"ingest: already copied: {done:,} of {counted(len(plan.order), 'image')}")
    workers = min(settings.workers or len(os.sched_getaffinity(0)), len(waiting))
    with progress.task("copying", len(plan.order), "image") as tick:
        tick(done)
        if workers <= 1:
            for number, rows in waiting:
                tick(_copy(number, plan.table.path[rows], staging))
        else:
            with process_pool(workers) as pool:
                jobs: set[Future[int]] = set()
                for number, rows in waiting:
                    jobs.add(pool.submit(_copy, number, plan.table.path[rows], staging))
                    if len(jobs) > 2 * workers:  # waiting jobs keep their paths in memory
                        finished, jobs = wait(jobs, return_when=FIRST_COMPLETED)
                        tick(sum(job.result() for job in finished))
                tick(sum(job.result() for job in wait(jobs).done))
    outcome = _merge(plan, [number for number, _ in blocks], staging, progress)
    remove_scratch(parts, "[0-9]*.json", "[0-9]*.parquet")
    return outcome


def _copy(number: int, paths: np.ndarray, staging: Path) -> int:
    """Writes a shard, its table of offsets, and last the completion file, which lists damaged images."""
    kept, damaged = [], {}
    path = shard_path(staging, number)
    path.unlink(missing_ok=True)  # of an interrupted call: a shard that is there would be appended to
    with ShardWriter(path) as shard:
        for row, source in enumerate(paths.tolist()):
            try:
                data = read_image(source)
                width, height = image_size(data)
            except InputError as error:
                damaged[row] = str(error).removeprefix(f"{source} ")
                continue
            kept.append((row, *shard.add(f"{number:05d}-{row:07d}{ending(data)}", data), width, height))
    columns = np.array(kept, np.int64).reshape(-1, 5).T
    write_table(
        staging / "parts" / f"{number:05d}.parquet",
        dict(zip(("row", "offset", "size", "width", "height"), columns, strict=True)),
    )
    write_text(_mark(staging / "parts", number), json.dumps(damaged))
    return len(paths)


def _merge(plan: _Plan, blocks: list[int], staging: Path, progress: Progress) -> Outcome:
    tables = [read_table(staging / "parts" / f"{number:05d}.parquet") for number in blocks]
    row = np.concatenate([table["row"] + number * _BLOCK for number, table in zip(blocks, tables, strict=True)])
    reasons = dict(plan.table.skipped)
    damaged = 0
    for number in blocks:
        unreadable = read_json_object(_mark(staging / "parts", number))
        damaged += len(unreadable)
        reasons |= {str(plan.table.path[plan.order[number * _BLOCK + int(i)]]): why for i, why in unreadable.items()}
    if not len(row):
        raise InputError(
            f"{plan.root}: none of {counted(len(plan.order), 'image')} can be read ({next(iter(reasons.values()))})"
        )
    for path, why in list(reasons.items())[:5]:
        progress.note(f"left out: {path}: {why}")
    if len(reasons) > 5:
        progress.note(f"left out: {counted(len(reasons) - 5, 'more file')}; crops/skipped.parquet lists them all")
    progress.note(NO_TIMES)
    places = {name: np.concatenate([table[name] for table in tables]) for name in ("offset", "size", "width", "height")}
    places["shard"] = np.repeat(blocks, [len(table["row"]) for table in tables])
    source = {"path": np.array([_below(path, plan.root) for path in plan.table.path[plan.order[row]].tolist()])}
    rows = plan.rows[row]
    tracklets = write_external(
        staging, rows, plan.videos, labels=plan.labels, places=places, source=source, has_truth=plan.has_truth
    )
    write_table(
        staging / "skipped.parquet",
        {"path": [_below(path, plan.root) for path in reasons], "reason": list(reasons.values())},
    )
    counts: dict[str, int | float] = {
        "videos": len(plan.videos.names),
        "labels": len(np.unique(rows.label)),
        "tracklets": tracklets,
        "crops": len(rows),
    }
    return Outcome(counts, dict(Counter(reasons.values())) | plan.left_out, made=len(rows))


def _mark(parts: Path, number: int) -> Path:
    return parts / f"{number:05d}.json"
