"""Finds likely label errors of a set from its identities."""

import os
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from reappear.core import Assignment
from reappear.denoise.groups import Groups, centroids
from reappear.store import Columns, CropStore, read_table

LEFT, MOVED, MERGED, SPLIT = "left its tracklet", "moved to another", "identity merged", "identity split"
PRECISION = {LEFT: 0.94, MOVED: 0.91, MERGED: 0.28, SPLIT: 0.04}
"""Precision of each kind of label issue, measured with labels known to be wrong: the mean of two extractors, which
differ by at most 0.03 (`benchmarks/label_noise.py`)."""
_BLOCK = 16_384


def find_label_issues(crops: CropStore, assignment: Assignment, vectors: Float[np.ndarray, "n d"]) -> Columns:
    """One row per crop with a label issue, the most likely first.

    Kinds are interleaved by their measured `PRECISION`: the k-th of a kind is sorted by k / precision, so that the
    first lines contain most of the precise kinds and the best of the others. Within a kind, the largest score comes
    first. No estimate from the set itself is used: it would need labels known to be right.

    A crop has a label issue if it
    - left its tracklet: it is unlike the others, and like none of its video; no label is suggested;
    - moved to a tracklet with another label;
    - is of an identity that holds more crops of another label (identity merged);
    - is of an identity that holds fewer crops of its label than another one does (identity split).
    In videos, which have no labels, the tracklet is the label, and the last two kinds do not apply. Crops
    without an embedding or a label are excluded.

    Args:
        crops: The workspace.
        assignment: The identities.
        vectors: The embeddings that they were computed from.

    Returns:
        crop; path: the file of a set, relative to the folder of all, its row in a `.npy`, or video and time; given,
        suggested: labels, "" = none; reason; `distance_given`, `distance_suggested`: cosine distances, in 0..2, to
        the crops of both labels, NaN = none; score: the first less the second, which counts 1
        where it is NaN.
    """
    names = _label_names(crops)
    origin, tracklet = np.asarray(crops.crops["tracklet"], np.int64), assignment.tracklet
    label = np.arange(len(crops.offsets) - 1)
    if names is not None:
        label = np.asarray(crops.crops["label"], np.int64)[crops.offsets[:-1]]
    given, identity = label[origin], assignment.crop_identity
    judged = (given >= 0) & _embedded(vectors)

    left = judged & (tracklet < 0)
    moved = judged & (tracklet >= 0) & (label[tracklet] != given)
    rows = np.flatnonzero(left | moved)
    found = [
        _Found(
            rows,
            np.where(left[rows], LEFT, MOVED),
            np.where(left[rows], -1, label[tracklet[rows]]),
            np.zeros(len(rows), np.int64),
            _distance(vectors, rows, tracklet, origin[rows]),
            _distance(vectors, rows, tracklet, tracklet[rows]),
        )
    ]
    stayed = np.flatnonzero(judged & (tracklet == origin))
    if names is not None and len(stayed):
        found.append(_merged_and_split(stayed, given[stayed], identity, vectors))
    return _table(crops, names, given, found)


@dataclass(frozen=True)
class _Found:
    """Label issues: their rows, why, the label suggested (-1 = none) and which of the people of that label."""

    row: Int[np.ndarray, " s"]
    reason: np.ndarray
    suggested: Int[np.ndarray, " s"]
    person: Int[np.ndarray, " s"]
    distance_given: Float[np.ndarray, " s"]
    distance_suggested: Float[np.ndarray, " s"]


def _merged_and_split(
    rows: Int[np.ndarray, " r"],
    given: Int[np.ndarray, " r"],
    identity: Int[np.ndarray, " n"],
    vectors: Float[np.ndarray, "n d"],
) -> _Found:
    """Of crops that stayed where they were: those whose label and identity are not each other's largest part."""
    pairs, which, count = np.unique(np.stack([given, identity[rows]]), axis=1, return_inverse=True, return_counts=True)
    which = which.ravel()
    of_label, of_identity = _rank(pairs[0], count), _rank(pairs[1], count)
    home = np.full(pairs[0].max() + 1, -1)
    home[pairs[0][of_label == 0]] = pairs[1][of_label == 0]
    owner = np.full(pairs[1].max() + 1, -1)
    owner[pairs[1][of_identity == 0]] = pairs[0][of_identity == 0]
    mine = np.flatnonzero((of_identity[which] > 0) | (of_label[which] > 0))
    chosen, pair = rows[mine], which[mine]
    merged = of_identity[pair] > 0
    return _Found(
        chosen,
        np.where(merged, MERGED, SPLIT),
        owner[identity[chosen]],
        np.where(merged, 0, of_label[pair]),
        _distance(vectors, chosen, identity, home[given[mine]]),
        _distance(vectors, chosen, identity, identity[chosen]),
    )


def _table(crops: CropStore, names: list[str] | None, given: Int[np.ndarray, " n"], found: list[_Found]) -> Columns:
    row = np.concatenate([one.row for one in found])
    suggested, person = (np.concatenate([getattr(one, key) for one in found]) for key in ("suggested", "person"))
    near, far = (
        np.concatenate([getattr(one, key) for one in found]) for key in ("distance_given", "distance_suggested")
    )
    score = near - np.where(np.isnan(far), 1.0, far)
    suggestions = [
        "" if label < 0 else _name(names, label) + (f" ({number + 1})" if number else "")
        for label, number in zip(suggested.tolist(), person.tolist(), strict=True)
    ]
    columns: Columns = {
        "crop": row,
        "path": np.array(_paths(crops, row), np.str_),
        "given": np.array([_name(names, label) for label in given[row].tolist()], np.str_),
        "suggested": np.array(suggestions, np.str_),
        "reason": np.concatenate([one.reason for one in found]),
        "distance_given": near,
        "distance_suggested": far,
        "score": score,
    }
    score_or_least = np.nan_to_num(score, nan=-2.0)
    order = np.lexsort((row, -score_or_least, _turn(columns["reason"], score_or_least, row)))
    return {name: column[order] for name, column in columns.items()}


def _turn(reason: np.ndarray, score: Float[np.ndarray, " s"], row: Int[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """Sort key that interleaves the kinds: rank by score within the kind, from 1, over the precision of the kind."""
    turn = np.zeros(len(reason))
    for kind, precision in PRECISION.items():
        mine = np.flatnonzero(reason == kind)
        turn[mine[np.lexsort((row[mine], -score[mine]))]] = np.arange(1, len(mine) + 1) / precision
    return turn


def _embedded(vectors: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
    blocks = (vectors[i : i + _BLOCK] for i in range(0, len(vectors), _BLOCK))
    return np.concatenate([np.zeros(0, bool), *(np.isfinite(block).all(1) & block.any(1) for block in blocks)])


def _rank(group: Int[np.ndarray, " p"], count: Int[np.ndarray, " p"]) -> Int[np.ndarray, " p"]:
    """The place of each in its group by falling count, from 0; of equals the first comes first.

    >>> _rank(np.array([1, 1, 2]), np.array([3, 5, 1])).tolist()
    [1, 0, 0]
    """
    order = np.lexsort((-count, group))
    begins = np.searchsorted(group[order], group[order])
    out = np.empty(len(group), np.int64)
    out[order] = np.arange(len(group)) - begins
    return out


def _distance(
    vectors: Float[np.ndarray, "n d"],
    rows: Int[np.ndarray, " s"],
    owner: Int[np.ndarray, " n"],
    to: Int[np.ndarray, " s"],
) -> Float[np.ndarray, " s"]:
    """Cosine distance of each row to the mean of the crops whose owner is `to`; NaN where there are none."""
    targets = np.unique(to[to >= 0])
    place = np.full(max(owner.max(initial=0), targets.max(initial=0)) + 2, -1)  # the last is for owner -1
    place[targets] = np.arange(len(targets))
    groups = Groups.of(place[owner], len(targets))
    centers = centroids(vectors, groups)
    out = np.full(len(rows), np.nan)
    known = np.flatnonzero(to >= 0)
    known = known[groups.sizes[place[to[known]]] > 0]
    for begin in range(0, len(known), _BLOCK):
        some = known[begin : begin + _BLOCK]
        x = np.asarray(vectors[rows[some]], np.float32)
        cosine = np.einsum("sd,sd->s", x, centers[place[to[some]]]) / np.linalg.norm(x, axis=1)
        out[some] = np.maximum(0, 1 - cosine)
    return out


def _label_names(crops: CropStore) -> list[str] | None:
    """The names of the labels that the set came with; None for videos and for sets without labels."""
    if "label" not in crops.crops or not (np.asarray(crops.crops["label"]) >= 0).any():
        return None
    return [str(name) for name in read_table(crops.folder / "labels.parquet", "name")["name"]]


def _name(names: list[str] | None, label: int) -> str:
    return f"tracklet {label}" if names is None else names[label]


def _paths(crops: CropStore, rows: Int[np.ndarray, " s"]) -> list[str]:
    if (crops.folder / "sources.parquet").exists():
        source = read_table(crops.folder / "sources.parquet")
        if "path" in source:
            return [str(path) for path in _below_their_folder(source["path"])[rows]]
        return [f"row {row}" for row in source["row"][rows].tolist()]
    videos = crops.video_names
    video, time = crops.crops["video"][rows], crops.crops["time"][rows]
    return [f"{videos[v]} {t:.2f} s" for v, t in zip(video.tolist(), time.tolist(), strict=True)]


def _below_their_folder(paths: np.ndarray) -> np.ndarray:
    """Absolute paths, as tables of embeddings may have them, relative to the folder that holds them all."""
    absolute = sorted(path for path in paths.tolist() if path.startswith("/"))
    if not absolute:
        return paths
    common = os.path.commonpath([os.path.dirname(path) for path in (absolute[0], absolute[-1])])  # noqa: PTH120 (text)
    return np.array([os.path.relpath(path, common) if path.startswith("/") else path for path in paths.tolist()])
