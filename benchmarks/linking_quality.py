"""Compares ways to link tracklets into identities, on people with known identity.

python benchmarks/linking_quality.py
"""

import numpy as np

from reappear.core import TrackletSet, lengths_to_offsets
from reappear.denoise.constraints import overlapping_pairs

CROWD = 25  # people in a video
SPLIT, BACKGROUND = 0.3, 0.05
LENGTH, SPAN = 8.0, 36.0  # seconds of a tracklet, and within which all of a video begin: a third of the pairs overlap


def footage(
    rows: np.ndarray,
    person: np.ndarray,
    camera: np.ndarray,
    clutter: np.ndarray,
    swapped: float,
    rng: np.random.Generator,
    *,
    visits: int = 1,
    missing: float = 0.0,
) -> tuple[TrackletSet, np.ndarray, np.ndarray]:
    """Tracklets with injected noise: a tracklet is a visit of a person to a camera, a video shows some 25 visits.

    Args:
        rows: Unit rows of crops.
        person: Of each.
        camera: Of each.
        clutter: Unit rows of crops of the background.
        swapped: Share of crops that swap places with one of a simultaneous tracklet.
        rng: Source of randomness.
        visits: Tracklets into which the crops of a person in a camera are divided, each in a video of its own.
        missing: Share of tracklets left out.

    Returns:
        The tracklets; the person on each crop, -1 = background; the camera of each tracklet.
    """
    videos = max(1, round(len(np.unique(person)) / CROWD))
    pieces = []
    for eye in np.unique(camera).tolist():
        for who in np.unique(person[camera == eye]).tolist():
            mine = rng.permutation(np.flatnonzero((camera == eye) & (person == who)))
            parts = np.array_split(mine, min(visits, len(mine)))
            pieces += [(eye, int(rng.integers(videos)), float(rng.uniform(0, SPAN)), part) for part in parts]
    pieces = [piece for piece in pieces if rng.random() >= missing]
    pieces.sort(key=lambda piece: piece[:3])
    video = np.unique([piece[:2] for piece in pieces], axis=0, return_inverse=True)[1].ravel()
    start = np.array([piece[2] for piece in pieces])
    owner = [int(person[crops[0]]) for *_, crops in pieces]
    crops = [list(crops) for *_, crops in pieces]
    whole = TrackletSet(np.ones((0, 1)), video, start, start + LENGTH, np.zeros(len(pieces) + 1, np.int64))
    together = overlapping_pairs(whole, np.ones(len(pieces), bool), 1.0)
    swap(crops, [pair for pair in together.tolist() if owner[pair[0]] != owner[pair[1]]], swapped, rng)
    count = sum(map(len, crops))
    person = np.append(person, np.full(len(clutter), -1))
    nobody = len(rows) + rng.choice(len(clutter), round(BACKGROUND * count), replace=len(clutter) < BACKGROUND * count)
    for row, taker in zip(nobody.tolist(), rng.integers(0, len(crops), len(nobody)).tolist(), strict=True):
        crops[taker].insert(int(rng.integers(0, len(crops[taker]) + 1)), row)
    long = [number for number, crop in enumerate(crops) if len(crop) >= 2]
    cut = set(rng.choice(long, min(len(long), round(SPLIT * len(crops))), replace=False).tolist())
    of, begin, end, held = [], [], [], []
    for number, mine in enumerate(crops):
        middle = [(len(mine) + int(rng.integers(0, 2))) // 2] if number in cut else []
        for low, high in zip([0, *middle], [*middle, len(mine)], strict=True):
            if high > low:
                of.append(number)
                begin.append(start[number] + LENGTH * low / len(mine))
                end.append(start[number] + LENGTH * high / len(mine))
                held.append(mine[low:high])
    order = np.concatenate(held)
    offsets = lengths_to_offsets(np.array([len(mine) for mine in held]))
    rows = np.concatenate([rows, clutter])
    tracklets = TrackletSet(rows[order], video[of], np.array(begin), np.array(end), offsets)
    return tracklets, person[order], np.array([pieces[number][0] for number in of])


def swap(crops: list[list[int]], pairs: list[list[int]], share: float, rng: np.random.Generator) -> None:
    """Swaps crops between simultaneous tracklets until this share is in a wrong one; none moves twice."""
    left = [list(range(len(crop))) for crop in crops]
    wanted, done = round(share * sum(map(len, crops))), 0
    for a, b in (pairs[i] for i in rng.integers(len(pairs), size=20 * wanted).tolist() if wanted):
        if done + 2 > wanted:
            return
        if left[a] and left[b]:
            i, j = (left[t].pop(int(rng.integers(len(left[t])))) for t in (a, b))
            crops[a][i], crops[b][j] = crops[b][j], crops[a][i]
            done += 2
