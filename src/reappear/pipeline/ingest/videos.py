"""Ingest of videos: people are detected, tracked and cropped."""

import errno
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from reappear.core import (
    SILENT,
    InputError,
    Progress,
    ReappearError,
    WorkspaceError,
    counted,
    distinct_names,
    offsets_to_owner,
    process_pool,
    read_json_object,
)
from reappear.core.files import printable, require_regular_file
from reappear.pipeline.contents import hash_value
from reappear.pipeline.doubts import examine_detection
from reappear.pipeline.record import Changed, Outcome, Record, Update, fingerprint, key_of, read_record, run_step
from reappear.pipeline.workspace import Workspace
from reappear.store import (
    PART_TAR,
    Columns,
    CropStore,
    FileHashes,
    ShardWriter,
    atomic_write,
    read_table,
    remove_scratch,
    stamp_decisions,
    write_earlier,
    write_table,
    write_text,
)
from reappear.video import (
    LEAST_INTERVALS,
    CropSettings,
    DetectorSettings,
    Footage,
    TrackedVideo,
    YoloxSettings,
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
from .detector import choose_detector

_STEP = "ingest-video"
_POSTER_WIDTH = 480
_ENDS_CALL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True)
class _Source:
    """One readable video: its name, and the hashes of all that its part is made of."""

    id: int
    path: Path
    name: str
    camera: str
    inputs: dict[str, str]
    part: Path
    frames_stated: int

    @property
    def is_done(self) -> bool:
        """Whether the part is finished."""
        return (self.part / "record.json").exists()


def ingest_videos(
    videos: Sequence[Path], work: Workspace, settings: IngestSettings, *, progress: Progress = SILENT
) -> Record:
    """Detects and tracks the people of `videos`; writes their crops to `WORK/parts`, and all tables to `WORK/crops`.

    A video that cannot be read, or has the same content as another, is skipped, with a note and a count. A video whose
    part is finished is not processed again. Where there are crops of other videos, some of which are among those given,
    the tables are replaced by those of the videos given.

    Raises:
        InputError: A path does not exist, no video can be read, or no person was found.
        StorageError: Writing failed. Like every error that would affect the next video too, it ends the call.
        WorkspaceError: There are crops of other settings, or of other videos alone.
    """
    paths = find_videos(videos, note=progress.note)
    settings = replace(settings, detector=choose_detector(settings.detector, work, progress))
    read = replace(settings, layout="videos", labels_are_truth=False)  # videos have no labels
    sources, left_out, inputs = _open_all(paths, read, work, progress)

    def fill(staging: Path) -> Outcome:
        made = _ingest_all(sources, left_out, staging, work.crops, read, progress)
        if (work.crops / "record.json").exists():
            footage = read_record(work.crops).fingerprint
            write_earlier(staging, work.crops, footage=footage, content=fingerprint(work.crops))
            stamp_decisions(work.review, footage=footage)
        return made

    def decide(record: Record) -> Changed:
        if not {source.inputs["video"] for source in sources} & {*record.inputs.values()}:
            raise WorkspaceError(
                f"{work.crops} is of other videos, none of which is given now; give all videos, earlier ones too, or "
                f"name another output"
            )
        return "replace" if {source.part.name for source in sources} & {*CropStore(work.crops).parts} else "refuse"

    def discard(staging: Path) -> None:
        remove_scratch(staging, "*.parquet", "[0-9]*.jpg")

    record = run_step(
        work.crops,
        step="ingest",
        settings=read,
        inputs=inputs,
        work=fill,
        update=Update(decide, discard),
        progress=progress,
    )
    found = examine_detection(work.open_crops(), record)
    if found is not None and found.signs:
        progress.note(f"ingest: {found.warning()}")
    return record


def _part_settings(settings: IngestSettings) -> IngestSettings:
    """The settings that the part of one video depends on."""
    return replace(settings, camera="file", truth_ids="video")


def _open_all(
    paths: list[Path], settings: IngestSettings, work: Workspace, progress: Progress
) -> tuple[list[_Source], "Counter[str]", dict[str, str]]:
    """The readable videos, numbered; the number skipped by reason; the hash of every file read."""
    hashes = work.hashes
    stems = [path.name if os.path.isdir(path) else path.stem for path in paths]  # noqa: PTH112 (raises no error)
    names = distinct_names([path.absolute().with_name(stem) for path, stem in zip(paths, stems, strict=True)])
    sources: list[_Source] = []
    inputs = (
        {} if names == stems else {"names": hash_value(names, root=Path())}
    )  # equal names get their folders as a prefix
    first_of: dict[str, Path] = {}
    reasons: list[str] = []
    left_out: Counter[str] = Counter()
    for i, (path, stem, name) in enumerate(zip(paths, stems, names, strict=True)):
        inputs[f"video {i:05d} {printable(path.name)}"] = "unreadable"
        source: _Source | None = None
        content = ""
        with _this_video_only(path) as problem:
            if str(path) != printable(path):
                raise InputError(f"{printable(path)}: the name has characters that are not text; rename it")
            mine = {}
            mine["video"], content = _hash_video(path, hashes)
            inputs[f"video {i:05d} {path.name}"] = mine["video"]
            if truth := truth_file(path):
                mine["truth"] = inputs[f"truth {i:05d}"] = hashes.sha256(truth)
            camera = name if settings.camera == "file" else stem.rpartition("_")[0] or stem
            mine |= _hash_detector_files(path, settings, hashes)
            part = work.parts / key_of(_STEP, _part_settings(settings), mine)
            found = _Source(len(sources), path, name, camera, mine, part, 0)
            if not found.is_done:
                read_truth(path)
                found = replace(found, frames_stated=open_footage(path).frames_stated)
            inputs |= {f"{what} {i:05d}": one for what, one in mine.items() if what not in ("video", "truth")}
            source = found
        if source is None or problem:
            reasons += problem
            left_out["videos that cannot be read"] += 1
            progress.note(f"left out: {'; '.join(problem)}")
        elif (first := first_of.setdefault(content, path)) is not path:
            left_out["videos of the same content as another"] += 1
            progress.note(f"left out: {path} has the same content as {first}")
        else:
            sources.append(source)
    if not sources:
        raise _unusable(len(paths), reasons)
    return sources, left_out, inputs


def _hash_detector_files(path: Path, settings: IngestSettings, hashes: FileHashes) -> dict[str, str]:
    try:
        return {what: hashes.sha256(file) for what, file in settings.detector.files(path).items()}
    except InputError:
        open_footage(path)  # what is wrong with the video itself is named first
        raise


def _unusable(count: int, reasons: Sequence[str]) -> InputError:
    reasons = list(dict.fromkeys(reasons))
    more = f" (and {len(reasons) - 3} more)" if len(reasons) > 3 else ""
    return InputError(f"none of {counted(count, 'video')} can be used: {'; '.join(reasons[:3])}{more}")


@contextmanager
def _this_video_only(path: Path) -> Iterator[list[str]]:
    """Catches errors of one video and adds them to the yielded list, one line each.

    Errors that would affect the next video too are raised: disk, memory, settings, missing packages.
    """
    problem: list[str] = []
    try:
        yield problem
    except InputError as error:
        problem.append(printable(error if printable(path) in printable(error) else f"{path}: {error}"))
    except (ReappearError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _ENDS_CALL:
            raise
        problem.append(printable(f"{path}: {type(error).__name__}: {error}"))


def _ingest_all(
    sources: list[_Source],
    left_out: "Counter[str]",
    staging: Path,
    earlier: Path,
    settings: IngestSettings,
    progress: Progress,
) -> Outcome:
    waiting = [source for source in sources if not source.is_done]
    if waiting and len(waiting) < len(sources):
        progress.note(f"already done: {len(sources) - len(waiting):,} of {counted(len(sources), 'video')}")
    known = all(source.frames_stated for source in waiting)
    total = sum(source.frames_stated for source in waiting) if known else None
    failed: dict[int, list[str]] = {}
    if isinstance(settings.detector, YoloxSettings) and waiting:
        settings.detector.build_network()  # a wrong file is refused here, not once for each video
    with progress.task("detecting people", total, "frame") as tick, ExitStack() as stack:
        processors = len(os.sched_getaffinity(0))
        workers = min(settings.workers or processors, len(waiting))
        detector = settings.detector
        if isinstance(detector, YoloxSettings) and not detector.threads and waiting:
            detector = replace(detector, threads=max(1, processors // workers))
        if workers > 1:
            pool = stack.enter_context(process_pool(workers))
            jobs = {pool.submit(_try_video, source, settings, detector): source for source in waiting}
            for job in as_completed(jobs):
                failed[jobs[job].id] = job.result()
                tick(_frames_read(jobs[job]))
        else:
            for source in waiting:
                failed[source.id] = _try_video(source, settings, detector, tick)

    reasons = [reason for number in sorted(failed) for reason in failed[number]]
    for reason in reasons:
        progress.note(f"left out: {reason}")
    count, sources = len(sources), [source for source in sources if not failed.get(source.id)]
    if not sources:
        raise _unusable(count, reasons)
    summaries = [read_json_object(source.part / "summary.json") for source in sources]
    _note_left_out(CropStore(earlier), sources, progress)
    for source, one in zip(sources, summaries, strict=True):
        if one["damage"]:
            progress.note(f"truncated: {source.path}: {counted(one['frames'], 'frame')} read; {one['damage']}")
        for note in one["notes"]:
            progress.note(f"{source.path}: {note}")
    counts = {
        "videos": len(sources),
        "videos without people": sum(one["crops"] == 0 for one in summaries),
        **{
            name: sum(one[name] for one in summaries)
            for name in ("frames", "seconds", "detections", "tracklets", "crops")
        },
    }
    dropped = left_out + Counter(
        {"videos that cannot be read": len(reasons), "truncated": sum(bool(t["damage"]) for t in summaries)}
    )
    for one in summaries:
        dropped.update(one["dropped"])
    if not counts["crops"]:
        raise InputError(
            f"no person was found in {counted(len(sources), 'video')} (boxes: {counts['detections']:,}, none passes "
            "the rules for crops); try another --detector, a lower --detector.score, or looser rules (--crop.height, "
            "--crop.min-crops)"
        )
    everywhere = settings.truth_ids == "global" or _has_global_ids(settings)
    if _merge(sources, summaries, staging, same_people=everywhere):
        progress.note(
            "ground truth: equal ids in different videos count as different people; if they are the same person, "
            "give --truth-ids global"
        )
    return Outcome(counts, {reason: count for reason, count in dropped.items() if count}, made=int(counts["crops"]))


def _frames_read(source: _Source) -> int:
    return int(read_json_object(source.part / "summary.json")["frames"]) if source.is_done else source.frames_stated


def _has_global_ids(settings: IngestSettings) -> bool:
    """Whether an id of the detector's boxes is one person in all videos."""
    return getattr(settings.detector, "ids", "") == "global"


def _note_left_out(earlier: CropStore, sources: list[_Source], progress: Progress) -> None:
    """Notes the videos that were there, and are not among those given now."""
    if not (earlier.folder / "record.json").exists():
        return
    now = {source.part.name for source in sources}
    for name, part in zip(earlier.video_names, earlier.parts, strict=True):
        if part and part not in now:
            progress.note(
                f"left out: {name} is not among the videos any more, or has changed; its crops stay in parts/{part} "
                f"until you remove that folder"
            )


def _try_video(
    source: _Source,
    settings: IngestSettings,
    detector: DetectorSettings,
    tick: Callable[[int], None] = lambda frames: None,
) -> list[str]:
    """Makes the part of one video. Returns the reasons why it is skipped; empty if it is not.

    `detector` is that of the settings, with as many threads as there are processors for it.
    """

    def fill(staging: Path) -> Outcome:
        try:
            return _ingest_video(source, staging, replace(settings, detector=detector), tick)
        except Exception:
            remove_scratch(staging, "crops.tar", "poster.jpg", "*.parquet", "summary.json")
            raise

    with _this_video_only(source.path) as problem:
        run_step(source.part, step=_STEP, settings=_part_settings(settings), inputs=source.inputs, work=fill)
    return problem


def _ingest_video(source: _Source, staging: Path, settings: IngestSettings, tick: Callable[[int], None]) -> Outcome:
    """Writes the crops of a video, a poster, and the tables of its crops and of all boxes of their tracklets."""
    cv2.setNumThreads(1)  # videos run in parallel, and results must not depend on the number of threads
    footage = open_footage(source.path)
    detector = settings.detector.build(footage)
    tracker = settings.tracker.build(rate=footage.clock / settings.stride)
    seen = follow(footage, detector, tracker, stride=settings.stride, tick=tick)
    tracks, rules = seen.tracks, settings.crop
    kept, dropped = choose_crops(tracks, seen.size, rules)
    rows = np.concatenate([*kept, np.zeros(0, np.int64)])
    truth = read_truth(source.path)
    identity = (
        match_truth(truth, tracks.frame, tracks.box) if truth is not None else np.full(len(tracks.frame), -1, np.int64)
    )
    if truth is not None and truth.first == 0:
        footage.note("the ground truth counts frames from 0, not from 1; its frame 0 is used as the first")
    _note_tracking(footage, seen, settings)
    there, counts = np.unique(tracks.frame, return_counts=True)
    poster = int(there[counts.argmax()]) if len(there) else 0
    offset, size = _write_images(footage, tracks.frame[rows], tracks.box[rows], poster, staging, rules)
    columns = _box_columns(seen, rows) | {
        "tracklet": np.repeat(np.arange(len(kept)), [len(mine) for mine in kept]),
        "offset": offset,
        "size": size,
        "truth": identity[rows],
    }
    owner = offsets_to_owner(tracks.offsets)
    if _has_global_ids(settings):
        columns["given"] = seen.ids[owner[rows]]
    write_table(staging / "crops.parquet", columns)
    number = np.full(len(tracks), -1)  # of tracklets that are not kept
    number[[owner[mine[0]] for mine in kept]] = np.arange(len(kept))
    write_table(staging / "boxes.parquet", {"tracklet": number[owner], **_box_columns(seen, np.arange(len(owner)))})
    loose = seen.detections - len(tracks.frame)
    summary: dict[str, Any] = {
        "size": footage.size,
        "rate": footage.rate,
        "frames": seen.frames,
        "seconds": seen.seconds,
        "damage": seen.damage,
        "notes": footage.notes,
        "detections": seen.detections,
        "tracklets": len(kept),
        "crops": len(rows),
        "dropped": {**dropped, **({"boxes in no tracklet": loose} if loose else {})},
        "truth": truth is not None,
    }
    write_text(staging / "summary.json", json.dumps(summary))
    amounts = {name: summary[name] for name in ("frames", "seconds", "detections", "tracklets", "crops")}
    return Outcome(amounts, made=summary["frames"])  # a video without people is a result, too


def _box_columns(seen: TrackedVideo, rows: np.ndarray) -> Columns:
    box = seen.tracks.box[rows]
    return {
        "frame": seen.tracks.frame[rows],
        "time": seen.time[rows],
        **{side: box[:, i] for i, side in enumerate(("left", "top", "right", "bottom"))},
        "score": seen.tracks.score[rows],
    }


def _note_tracking(footage: Footage, seen: TrackedVideo, settings: IngestSettings) -> None:
    """Adds notes where the frame interval is too long for the settings of the tracker."""
    if getattr(settings.detector, "ids", "none") != "none" or not seen.detections:
        return
    interval = f"frames are {seen.interval:.3g} s apart" + (
        f" (--stride {settings.stride})" if settings.stride > 1 else ""
    )
    waited = LEAST_INTERVALS * seen.interval
    if waited > settings.tracker.lost_seconds:
        footage.note(
            f"{interval}; lost tracklets are kept for {waited:.3g} s, "
            f"not the --tracker.lost-seconds of {settings.tracker.lost_seconds:g} s"
        )
    if np.diff(seen.tracks.offsets).max(initial=0) < 2:
        footage.note(
            f"{counted(seen.detections, 'box')}, but no tracklet of two or more: {interval}, in which people may "
            f"move further than --tracker.minimum-iou {settings.tracker.minimum_iou:g} allows; try a lower one, "
            "a lower --tracker.minimum-frames or --stride, or a higher frame rate"
        )


def _write_images(
    footage: Footage, frame: np.ndarray, box: np.ndarray, poster: int, staging: Path, rules: CropSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Reads the needed frames a second time; writes the shard, in frame order, and the poster.

    Returns:
        Offset and size of each row's JPEG in the shard.

    Raises:
        InputError: A frame could not be read the second time.
    """
    places = np.zeros((len(frame), 2), np.int64)
    path = staging / PART_TAR
    path.unlink(missing_ok=True)  # of an interrupted call: a shard that is there would be appended to
    with ShardWriter(path) as shard:
        for picture in footage.frames(only=frozenset([*frame.tolist(), poster])):
            for row in np.flatnonzero(frame == picture.number):
                crop = cut(picture.image, box[row], padding=rules.padding, max_height=rules.max_height)
                places[row] = shard.add(f"{row:07d}.jpg", encode_jpeg(crop, rules.quality))
            if picture.number == poster:
                _write_poster(picture.image, staging / "poster.jpg", rules.quality)
        if lacking := int(np.sum(places[:, 1] == 0)):
            raise InputError(
                f"{footage.path}: {lacking:,} of {counted(len(frame), 'crop')}: the frame could not be read a "
                "second time; copy the video to a reliable disk"
            )
    return places[:, 0], places[:, 1]


def _write_poster(image: np.ndarray, path: Path, quality: int) -> None:
    if image.shape[1] > _POSTER_WIDTH:
        height = round(image.shape[0] * _POSTER_WIDTH / image.shape[1])
        image = np.asarray(cv2.resize(image, (_POSTER_WIDTH, height), interpolation=cv2.INTER_AREA))
    with atomic_write(path) as file:
        file.write_bytes(encode_jpeg(image, quality))


def _merge(sources: list[_Source], summaries: list[dict[str, object]], staging: Path, *, same_people: bool) -> bool:
    """Writes the tables of all videos, and their posters.

    Args:
        sources: The videos, whose parts are finished.
        summaries: Contents of their completion files.
        staging: Folder to write to.
        same_people: Whether equal ids in the ground truth of two videos are one person; otherwise ids are renumbered.

    Returns:
        Whether equal ids of different videos were renumbered.
    """
    tables = [read_table(source.part / "crops.parquet") for source in sources]
    tracklets = people = 0
    met: set[int] = set()
    renumbered = False
    for number, (source, table, one) in enumerate(zip(sources, tables, summaries, strict=True)):
        table["tracklet"] = table["tracklet"] + tracklets
        tracklets += int(str(one["tracklets"]))
        table["video"] = table["shard"] = np.full(len(table["tracklet"]), number)
        truth = np.asarray(table["truth"], np.int64)
        ids = set(truth[truth >= 0].tolist())
        if not same_people:
            renumbered |= not met.isdisjoint(ids)
            met |= ids
            table["truth"] = np.where(truth >= 0, truth + people, truth)
            people += max(ids, default=-1) + 1
        if (poster := source.part / "poster.jpg").exists():
            with atomic_write(staging / "posters" / f"{number:05d}.jpg") as file:
                file.write_bytes(poster.read_bytes())
    crops: Columns = {name: np.concatenate([table[name] for table in tables]) for name in ("video", *tables[0])}
    if "given" in crops:
        names, crops["label"] = np.unique(crops.pop("given"), return_inverse=True)
        write_table(staging / "labels.parquet", {"name": [str(name) for name in names.tolist()]})
    begins = np.flatnonzero(np.diff(crops["tracklet"], prepend=-1))
    ends = np.append(begins[1:], len(crops["tracklet"])) - 1
    write_table(staging / "crops.parquet", crops)
    write_table(
        staging / "tracklets.parquet",
        {
            "video": crops["video"][begins],
            "start": crops["time"][begins],
            "end": crops["time"][ends],
            "crops": ends - begins + 1,
        },
    )
    sizes = np.array([one["size"] for one in summaries], np.int64)
    write_table(
        staging / "videos.parquet",
        {
            "name": [source.name for source in sources],
            "path": [str(source.path) for source in sources],
            "camera": [source.camera for source in sources],
            "width": sizes[:, 0],
            "height": sizes[:, 1],
            **{name: np.array([one[name] for one in summaries]) for name in ("rate", "frames", "seconds")},
            "sha256": [source.inputs["video"] for source in sources],
            "truth": np.array([one["truth"] for one in summaries], bool),
            "part": [source.part.name for source in sources],
            "content": [fingerprint(source.part) for source in sources],
        },
    )
    return renumbered


def _hash_video(path: Path, hashes: FileHashes) -> tuple[str, str]:
    """The hash of all files of a video, and that of its images alone."""
    if not path.is_dir():
        require_regular_file(path)
        whole = hashes.sha256(path)
        return whole, whole
    files = sequence_images(path)
    found = hashes.each([str(file) for file in files])
    images = [(file.name, one or "unreadable") for file, one in zip(files, found, strict=True)]
    named = [("seqinfo.ini", hashes.sha256(path / "seqinfo.ini")), *images]
    return _hash_lines(f"{name} {digest}" for name, digest in named), _hash_lines(digest for _, digest in images)


def _hash_lines(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")).hexdigest()
