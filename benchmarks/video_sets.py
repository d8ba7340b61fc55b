"""Drawn tracklets with what trackers and crowds do to them, in the layouts of video sets; shared by the benchmarks."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.io import savemat

from reappear.core import generator, offsets_to_owner
from reappear.synthetic import TrackletPlan, TrackletTruth, render_tracklets

NOISE = {"swapped": 0.05, "switched": 0.2, "background": 0.05}
OCCLUDED = 0.5  # share of tracklets that another person walks through


@dataclass(frozen=True)
class Drawn:
    """Tracklets, and what is known of them.

    Attributes:
        pixels: RGB crops.
        truth: Who is on them.
        person: Of each tracklet.
        covered: Top row, first and last column of what an occluder covers of each crop, in pixels; 0 0 0 = nothing.
    """

    pixels: np.ndarray
    truth: TrackletTruth
    person: np.ndarray
    covered: np.ndarray

    @property
    def hidden(self) -> np.ndarray:
        """Mask of crops of which an occluder covers over a quarter."""
        height, width = self.pixels.shape[1:3]
        top, left, right = self.covered.T
        return (right - left) * (height - top) > 0.25 * height * width

    @property
    def jpegs(self) -> Iterator[bytes]:
        """The crops as files."""
        for image in self.pixels:
            yield cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()

    @property
    def another(self) -> np.ndarray:
        """Mask of crops that show another person."""
        return self.truth.swapped | self.truth.switched

    @property
    def shares(self) -> dict[str, float]:
        """Shares of disturbed crops."""
        found = {"another": self.another, "nobody": self.truth.background, "hidden": self.hidden}
        return {name: round(float(mask.mean()), 3) for name, mask in found.items()}


@lru_cache(maxsize=3)
def drawn(people: int, crops: int, seed: int, *, cameras: int = 3, visits: int = 2, disturbed: bool = True) -> Drawn:
    """Tracklets of people who pass all cameras."""
    plan = TrackletPlan(
        people=people, cameras=cameras, visits=visits, crops=crops, seed=seed, **(NOISE if disturbed else {})
    )
    pixels, truth = render_tracklets(plan, lookalikes=0.15)
    covered = _occlude(pixels, truth, seed) if disturbed else np.zeros((len(pixels), 3), np.int64)
    owner = offsets_to_owner(truth.offsets)
    own = ~(truth.swapped | truth.switched | truth.background)
    person = np.array([np.bincount(truth.truth[(owner == t) & own]).argmax() for t in range(len(truth.video))])
    return Drawn(pixels, truth, person, covered)


def _occlude(pixels: np.ndarray, truth: TrackletTruth, seed: int) -> np.ndarray:
    """Lets others walk before people in some tracklets, in place; returns what they cover."""
    random, before = generator(seed, "occluders"), pixels.copy()
    covered = np.zeros((len(pixels), 3), np.int64)
    height, width = pixels.shape[1:3]
    for first, last in pairwise(truth.offsets.tolist()):
        if random.random() >= OCCLUDED:
            continue
        run = max(2, (last - first) // 3)
        begin = first + int(random.integers(0, max(1, last - first - run + 1)))
        others = np.flatnonzero((truth.truth >= 0) & (truth.truth != truth.truth[first]))
        other = before[int(random.choice(others))][:, width // 5 : -width // 5]
        top, side = int(random.integers(0, height // 4)), bool(random.random() < 0.5)
        for place, row in enumerate(range(begin, min(begin + run, last))):
            left = round((place + 0.5) / run * (width + other.shape[1])) - other.shape[1]
            left = width - left - other.shape[1] if side else left
            shown = slice(max(0, left), min(width, left + other.shape[1]))
            pixels[row, top:, shown] = other[: height - top, shown.start - left : shown.stop - left]
            covered[row] = top, shown.start, max(shown.start, shown.stop)
    return covered


def write_mars(root: Path, **parts: Drawn) -> None:
    """A tree in the layout of MARS with the parts `train`, `test` or both.

    People of the test part are numbered after 4000. Queries are the first tracklet of each person in each camera.
    """
    (root / "info").mkdir(parents=True)
    for part, of in parts.items():
        jpegs, names, tracks = of.jpegs, list[str](), []
        for t, (first, last) in enumerate(pairwise(of.truth.offsets.tolist())):
            person, camera = int(of.person[t]) + (1 if part == "train" else 4001), int(of.truth.video[t]) + 1
            tracks.append([first + 1, last, person, camera])
            for frame in range(last - first):
                names.append(f"{person:04d}C{camera}T{t + 1:04d}F{frame + 1:03d}.jpg")
                _write(root / f"bbox_{part}" / f"{person:04d}" / names[-1], next(jpegs))
        (root / "info" / f"{part}_name.txt").write_text("\n".join(names) + "\n")
        savemat(root / "info" / f"tracks_{part}_info.mat", {f"track_{part}_info": np.array(tracks, float)})
        if part == "test":
            first_of = np.unique(np.array(tracks)[:, 2:], axis=0, return_index=True)[1]
            savemat(root / "info" / "query_IDX.mat", {"query_IDX": np.sort(first_of)[None] + 1.0})


def write_ilids_vid(root: Path, of: Drawn, *, splits: int = 10) -> None:
    """A tree in the layout of iLIDS-VID, of one tracklet of each person in each of two cameras; random halves."""
    for person, camera, frame, jpeg in _visits(of):
        name = f"person{person:03d}"
        _write(root / f"i-LIDS-VID/sequences/cam{camera}/{name}/cam{camera}_{name}_{frame + 1:05d}.png", _as_png(jpeg))
    random, people = generator(0, "splits of iLIDS-VID"), len(np.unique(of.person))
    folder = root / "train-test people splits"
    folder.mkdir()
    matrix = np.stack([random.permutation(people) + 1 for _ in range(splits)]).astype(np.uint16)
    savemat(folder / "train_test_splits_ilidsvid.mat", {"ls_set": matrix})


def write_prid2011(root: Path, of: Drawn, *, used: int, splits: int = 10) -> None:
    """A tree in the layout of PRID 2011, in whose splits the first `used` people are, as 178 of 200."""
    for person, camera, frame, jpeg in _visits(of):
        name = f"person_{person:04d}"
        _write(root / f"prid_2011/multi_shot/cam_{' ab'[camera]}/{name}/{frame + 1:04d}.png", _as_png(jpeg))
    random, halves = generator(0, "splits of PRID 2011"), []
    for _ in range(splits):
        names = [f"person_{person + 1:04d}" for person in random.permutation(used)]
        halves.append({"train": sorted(names[: used // 2]), "test": sorted(names[used // 2 :])})
    (root / "splits_prid2011.json").write_text(json.dumps(halves))


def _visits(of: Drawn) -> Iterator[tuple[int, int, int, bytes]]:
    """Person and camera from 1, frame and file of all crops."""
    jpegs = of.jpegs
    for t, (first, last) in enumerate(pairwise(of.truth.offsets.tolist())):
        for frame in range(last - first):
            yield int(of.person[t]) + 1, int(of.truth.video[t]) + 1, frame, next(jpegs)


def _as_png(jpeg: bytes) -> bytes:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".png", image)[1].tobytes()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def options(settings: dict[str, Any]) -> list[str]:
    """Settings as words of a command."""
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


def reappear(*words: object) -> dict[str, Any]:
    """Runs a command as a user does; what it prints with `--json`, {} for nothing.

    Raises:
        SystemExit: It fails.
    """
    command = [sys.executable, "-m", "reappear", *map(str, words), "-q", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if done.returncode:
        raise SystemExit(f"reappear {' '.join(map(str, words))}\n{done.stderr}")
    return json.loads(done.stdout) if done.stdout.strip() else {}
