"""Videos: people are found, followed and cut out."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from reappear.core import SILENT, InputError, Progress, distinct_names, process_pool
from reappear.pipeline.record import Outcome, Record, run_step, sha256
from reappear.pipeline.settings import to_plain
from reappear.pipeline.workspace import Workspace
from reappear.store import (
    Columns,
    ShardWriter,
    disk_errors,
    read_table,
    remove_folder,
    shard_path,
    write_table,
    write_text,
    writing,
)
from reappear.video import (
    CropSettings,
    Footage,
    choose_crops,
    cut,
    encode_jpeg,
    find_videos,
    follow,
    match_truth,
    open_footage,
    read_truth,
    sequence_images,
    truth_file,
)

from . import IngestSettings

_POSTER_WIDTH = 480


@dataclass(frozen=True)
class _Source:
    """One video that can be read, and what it is called."""

    id: int
    path: Path
    name: str
    camera: str
    sha256: str
    frames_stated: int


def ingest_videos(
    videos: Sequence[Path], work: Workspace, settings: IngestSettings, *, progress: Progress = SILENT
) -> Record:
    """Finds the people of `videos` and writes their crops to `WORK/crops`.

    A video that cannot be read is left out, with a note and a count. A finished video is not worked on again after an
    interruption.

    Raises:
        InputError: A path is not there, no video can be read, or nobody was found.
    """
    paths = find_videos(videos)
    hashes = {path: _hash_video(path) for path in paths}
    inputs = {f"video {i:05d} {path.name}": hashes[path] for i, path in enumerate(paths)}
    for i, path in enumerate(paths):
        truth = truth_file(path)
        inputs |= {f"truth {i:05d}": sha256(truth)} if truth else {}

    sources, refused = _open_all(paths, hashes, settings, progress)
    for source in sources:
        inputs |= {f"{name} {source.id:05d}": sha256(p) for name, p in settings.detector.files(source.path).items()}
    plain = to_plain(settings)
    del plain["workers"], plain["labels_are_truth"]  # the result does not depend on them
    plain["layout"] = "videos"

    def fill(aside: Path) -> Outcome:
        return _ingest_all(sources, refused, aside, settings, progress)

    return run_step(work.crops, step="ingest", settings=plain, inputs=inputs, work=fill, progress=progress)


def _open_all(
    paths: list[Path], hashes: dict[Path, str], settings: IngestSettings, progress: Progress
) -> tuple[list[_Source], list[str]]:
    """The videos that can be read, numbered, and why the others cannot."""
    stems = [path.name if path.is_dir() else path.stem for path in paths]
    names = distinct_names([path.absolute().with_name(stem) for path, stem in zip(paths, stems, strict=True)])
    sources: list[_Source] = []
    refused: list[str] = []
    for path, stem, name in zip(paths, stems, names, strict=True):
        try:
            footage = open_footage(path)
            settings.detector.files(path)
        except InputError as error:
            refused.append(str(error))
            progress.note(f"left out: {error}")
            continue
        camera = name if settings.camera == "file" else stem.rpartition("_")[0] or stem
        sources.append(_Source(len(sources), path, name, camera, hashes[path], footage.frames_stated))
    if not sources:
        more = f" (and {len(refused) - 3} more)" if len(refused) > 3 else ""
        raise InputError(f"none of {len(paths)} videos can be used: {'; '.join(refused[:3])}{more}")
    return sources, refused


def _ingest_all(
    sources: list[_Source], refused: list[str], aside: Path, settings: IngestSettings, progress: Progress
) -> Outcome:
    parts = aside / "parts"
    waiting = [source for source in sources if not _done_mark(parts, source.id).exists()]
    if waiting and len(waiting) < len(sources):
        progress.note(f"{len(sources) - len(waiting)} of {len(sources)} videos were finished before")
    known = all(source.frames_stated for source in waiting)
    total = sum(source.frames_stated for source in waiting) if known else None
    with progress.task("finding people", total) as tick, ExitStack() as stack:
        workers = min(settings.workers or len(os.sched_getaffinity(0)), len(waiting))
        if workers > 1:
            pool = stack.enter_context(process_pool(workers))
            jobs = {pool.submit(_ingest_video, source, aside, settings): source for source in waiting}
            for job in as_completed(jobs):
                job.result()
                tick(jobs[job].frames_stated)
        else:
            for source in waiting:
                _ingest_video(source, aside, settings, tick)

    told = [json.loads(_done_mark(parts, source.id).read_text(encoding="utf-8")) for source in sources]
    for source, one in zip(sources, told, strict=True):
        if one["damage"]:
            progress.note(f"truncated: {source.path}: {one['frames']} frames read; {one['damage']}")
    counts = {
        "videos": len(sources),
        "videos without people": sum(one["crops"] == 0 for one in told),
        **{name: sum(one[name] for one in told) for name in ("frames", "seconds", "detections", "tracklets", "crops")},
    }
    dropped = Counter({"videos that cannot be read": len(refused), "truncated": sum(bool(t["damage"]) for t in told)})
    for one in told:
        dropped.update(one["dropped"])
    if not counts["crops"]:
        raise InputError(
            f"nobody was found in {len(sources)} videos ({counts['detections']} boxes, none of them good enough for a "
            "crop); try another --detector, a lower score, or looser rules (--crop.height, --crop.least)"
        )
    _merge(parts, sources, told, aside)
    remove_folder(parts)
    return Outcome(counts, {reason: count for reason, count in dropped.items() if count})


def _ingest_video(
    source: _Source, aside: Path, settings: IngestSettings, tick: Callable[[int], None] = lambda frames: None
) -> None:
    """Leaves a shard, a poster, a table of crops, and last the mark that the video is finished."""
    cv2.setNumThreads(1)  # videos run in parallel; and no result may depend on the number of threads
    footage = open_footage(source.path)
    detector = settings.detector.build(footage)
    tracker = settings.tracker.build(rate=footage.clock / settings.stride)
    seen = follow(footage, detector, tracker, stride=settings.stride, tick=tick)
    tracks, rules = seen.tracks, settings.crop
    kept, dropped = choose_crops(
        tracks,
        footage.size,
        height=rules.height,
        aspect=rules.aspect,
        border=rules.border,
        overlap=rules.overlap,
        most=rules.most,
        least=rules.least,
    )
    rows = np.concatenate([*kept, np.zeros(0, np.int64)])
    truth = read_truth(source.path)
    identity = (
        match_truth(truth, tracks.frame, tracks.box) if truth is not None else np.full(len(tracks.frame), -1, np.int64)
    )
    poster = int(np.bincount(tracks.frame).argmax()) if len(tracks.frame) else 0
    offset, size = _write_pictures(footage, source.id, tracks.frame[rows], tracks.box[rows], poster, aside, rules)
    box = tracks.box[rows]
    columns = {
        "video": np.full(len(rows), source.id),
        "frame": tracks.frame[rows],
        "time": seen.time[rows],
        **{side: box[:, i] for i, side in enumerate(("left", "top", "right", "bottom"))},
        "score": tracks.score[rows],
        "tracklet": np.repeat(np.arange(len(kept)), [len(mine) for mine in kept]),
        "shard": np.full(len(rows), source.id),
        "offset": offset,
        "size": size,
        "truth": identity[rows],
    }
    write_table(_table_of(aside / "parts", source.id), columns)
    loose = seen.detections - len(tracks.frame)
    told = {
        "size": footage.size,
        "rate": footage.rate,
        "frames": seen.frames,
        "seconds": seen.seconds,
        "damage": seen.damage,
        "detections": seen.detections,
        "tracklets": len(kept),
        "crops": len(rows),
        "dropped": {**dropped, **({"boxes in no tracklet": loose} if loose else {})},
        "truth": truth is not None,
    }
    write_text(_done_mark(aside / "parts", source.id), json.dumps(told))


def _write_pictures(
    footage: Footage, video: int, frame: np.ndarray, box: np.ndarray, poster: int, aside: Path, rules: CropSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Reads the frames that are needed once more; writes the shard, in the order of the frames, and the poster.

    Returns:
        Offset and size of each row's JPEG in the shard.
    """
    places = np.zeros((len(frame), 2), np.int64)
    path = shard_path(aside, video)
    path.unlink(missing_ok=True)  # of an interrupted call: a shard that is there would be appended to
    with ShardWriter(path) as shard:
        for picture in footage.frames(only=frozenset([*frame.tolist(), poster])):
            for row in np.flatnonzero(frame == picture.number):
                crop = cut(picture.image, box[row], padding=rules.padding, tallest=rules.tallest)
                places[row] = shard.add(f"{video:05d}-{row:07d}.jpg", encode_jpeg(crop, rules.quality))
            if picture.number == poster:
                _write_poster(picture.image, aside / "posters" / f"{video:05d}.jpg", rules.quality)
    return places[:, 0], places[:, 1]


def _write_poster(image: np.ndarray, path: Path, quality: int) -> None:
    if image.shape[1] > _POSTER_WIDTH:
        height = round(image.shape[0] * _POSTER_WIDTH / image.shape[1])
        image = np.asarray(cv2.resize(image, (_POSTER_WIDTH, height), interpolation=cv2.INTER_AREA))
    with writing(path) as file:
        file.write_bytes(encode_jpeg(image, quality))


def _merge(parts: Path, sources: list[_Source], told: list[dict[str, object]], aside: Path) -> None:
    tables = [read_table(_table_of(parts, source.id)) for source in sources]
    first = 0
    for table, one in zip(tables, told, strict=True):
        table["tracklet"] = table["tracklet"] + first
        first += int(str(one["tracklets"]))
    crops: Columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    begins = np.flatnonzero(np.diff(crops["tracklet"], prepend=-1))
    ends = np.append(begins[1:], len(crops["tracklet"])) - 1
    write_table(aside / "crops.parquet", crops)
    write_table(
        aside / "tracklets.parquet",
        {
            "video": crops["video"][begins],
            "start": crops["time"][begins],
            "end": crops["time"][ends],
            "crops": ends - begins + 1,
        },
    )
    sizes = np.array([one["size"] for one in told], np.int64)
    write_table(
        aside / "videos.parquet",
        {
            "name": [source.name for source in sources],
            "path": [str(source.path) for source in sources],
            "camera": [source.camera for source in sources],
            "width": sizes[:, 0],
            "height": sizes[:, 1],
            **{name: np.array([one[name] for one in told]) for name in ("rate", "frames", "seconds")},
            "sha256": [source.sha256 for source in sources],
            "truth": np.array([one["truth"] for one in told], bool),
        },
    )


def _hash_video(path: Path) -> str:
    if not path.is_dir():
        return sha256(path)
    digest = hashlib.sha256()
    with disk_errors(path):
        for file in [path / "seqinfo.ini", *sequence_images(path)]:
            digest.update(f"{file.name} {sha256(file)}\n".encode())
    return digest.hexdigest()


def _done_mark(parts: Path, video: int) -> Path:
    return parts / f"{video:05d}.json"


def _table_of(parts: Path, video: int) -> Path:
    return parts / f"{video:05d}.parquet"
