"""Who was where and when: the sightings of identities as tables, and as boxes of each frame of a video."""

from collections import Counter
from pathlib import Path

import numpy as np
from jaxtyping import Int

from reappear.core import InputError, Progress
from reappear.data import OWN_LABELS, read_crops
from reappear.denoise import weakest_links
from reappear.store import Columns, CropStore, read_identities, read_table, write_csv, write_table, write_text
from reappear.video import is_image_sequence
from reappear.video.sequence import read_sequence

from .record import Outcome
from .workspace import Workspace


def write_sightings(work: Workspace, labels: str, staging: Path) -> Outcome:
    """Writes `sightings.csv` and `sightings.parquet`: a row for each tracklet and identity, sorted by identity.

    Columns: identity, camera, video, from, to (s in the video, of the first and last crop; NaN = unknown),
    tracklet, crops (count), and where average linkage made the identities their probability: that of the weakest link,
    NaN = without link. A tracklet whose crops are of two identities has two rows.
    """
    store = work.open_crops()
    table = read_crops(work.root, labels)
    known = np.flatnonzero(table.identity >= 0)
    keys = np.stack([table.identity[known], table.sequence[known]])
    pairs, group, counts = np.unique(keys, axis=1, return_inverse=True, return_counts=True)
    start, end = np.full(len(counts), np.inf), np.full(len(counts), -np.inf)
    np.minimum.at(start, group, table.time[known])
    np.maximum.at(end, group, table.time[known])
    video = np.asarray(store.tracklets["video"])[pairs[1]]
    columns = {
        "identity": pairs[0],
        "camera": np.array([one.camera for one in store.videos], np.str_)[video],
        "video": np.array(store.video_names, np.str_)[video],
        "from": start,
        "to": end,
        "tracklet": pairs[1],
        "crops": counts,
    }
    if labels not in OWN_LABELS:
        found = read_identities(work.identities(labels))
        if "probability" in found.links:
            columns["probability"] = weakest_links(found.assignment.identity, found.links)[pairs[0]]
    order = np.lexsort((pairs[1], pairs[0]))
    sightings = {name: column[order] for name, column in columns.items()}
    write_table(staging / "sightings.parquet", sightings)
    write_csv(staging / "sightings.csv", sightings)
    people = len(np.unique(pairs[0]))
    left_out = len(table) - len(known)
    dropped = {"crops without an identity": left_out} if left_out else {}
    return Outcome({"identities": people, "sightings": len(counts)}, dropped, made=len(counts))


def write_mot(work: Workspace, labels: str, staging: Path, progress: Progress) -> Outcome:
    """Writes `VIDEO.det.txt` for each video: the boxes of each frame in MOTChallenge format, the identity as id.

    `ingest --detector mot --detector.ids global` reads them again. An identity has one box in a frame at most, that of
    the highest score.

    Raises:
        InputError: The crops are not of videos, or an older version ingested them.
    """
    store = work.open_crops()
    identity = tracklet_identities(work, labels)
    boxes, people, dropped = 0, set[int](), Counter[str]()
    with progress.task("writing boxes", len(store.videos), "video") as tick:
        for number, name in enumerate(store.video_names):
            rows = video_boxes(work, number)
            mine = np.where(rows["tracklet"] >= 0, identity[rows["tracklet"]], -1)
            order = np.lexsort((-rows["score"], mine, rows["frame"]))
            order = order[mine[order] >= 0]
            twice = (np.diff(rows["frame"][order], prepend=-1) == 0) & (np.diff(mine[order], prepend=-1) == 0)
            dropped["boxes of no identity"] += int((mine < 0).sum())
            dropped["boxes of an identity that has a better one in the frame"] += int(twice.sum())
            order = order[~twice]
            write_text(
                staging / f"{name}.det.txt", _mot_lines(rows, mine, order, _first_frame(store.videos[number].path))
            )
            boxes += len(order)
            people |= set(mine[order].tolist())
            tick(1)
    counts = {"videos": len(store.videos), "identities": len(people), "boxes": boxes}
    return Outcome(dict(counts), dict(+dropped), made=boxes)


def tracklet_identities(work: Workspace, labels: str) -> Int[np.ndarray, " t"]:
    """The identity of most crops of each tracklet, the lowest of equals; -1 = none."""
    table, store = read_crops(work.root, labels), work.open_crops()
    out = np.full(len(store.offsets) - 1, -1, np.int64)
    known = np.flatnonzero(table.identity >= 0)
    pairs, counts = np.unique(np.stack([table.sequence[known], table.identity[known]]), axis=1, return_counts=True)
    order = np.lexsort((-pairs[1], counts))  # the last one written stays
    out[pairs[0][order]] = pairs[1][order]
    return out


def video_boxes(work: Workspace, video: int) -> Columns:
    """Boxes of all tracklets of a video: tracklet (-1 = not kept), frame, time, left, top, right, bottom, score.

    Raises:
        InputError: See `write_mot`.
    """
    store = CropStore(work.crops)
    path = work.parts / store.parts[video] / "boxes.parquet"
    if not store.parts[video] or not path.exists():
        raise InputError(f"{work.root} has no boxes of frames: they come with videos; ingest the videos anew")
    rows = read_table(path)
    first = int(np.searchsorted(store.tracklets["video"], video))
    return {**rows, "tracklet": np.where(rows["tracklet"] >= 0, rows["tracklet"] + first, -1)}


def _mot_lines(rows: Columns, identity: np.ndarray, order: np.ndarray, first: int) -> str:
    sides = (rows[name][order].astype(np.float64).tolist() for name in ("left", "top", "right", "bottom", "score"))
    return "".join(
        f"{frame + first},{person},{left:.3f},{top:.3f},{right - left:.3f},{bottom - top:.3f},{score:.4f},-1,-1,-1\n"
        for frame, person, left, top, right, bottom, score in zip(
            rows["frame"][order].tolist(), identity[order].tolist(), *sides, strict=True
        )
    )


def _first_frame(path: Path) -> int:
    """The number of the first frame: 1, but in a folder of images that count from 0."""
    return read_sequence(path).first if is_image_sequence(path) else 1
