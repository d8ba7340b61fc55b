"""Compares guards against chains at equal thresholds.

python benchmarks/chaining.py [--data FOLDER --extractor FILE] [--seeds N] [--quick]

Data: tracklets of synthetic people as vectors with low, medium and high difficulty, with swapped crops, identity
switches, split tracklets and background; and, with DATA (Market-1501 layout) and an EXTRACTOR of `reappear embed`,
real people, one tracklet per person and camera. Only the first 567 identities of DATA, sorted by number, are used.

σ_cst is calibrated. σ_drm is calibrated and multiplied by several factors, because calibrations can be wrong. All three
stages run, with constraints. Reported: pairwise and B-cubed F1 in percent, and the size of the largest identity in
crops.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import measure
import numpy as np

from reappear.core import Assignment, TrackletSet, generator, lengths_to_offsets, unit_rows
from reappear.data import read
from reappear.denoise import Rules, calibrate, cross_video, single_tracklet, single_video
from reappear.metrics import score_identities
from reappear.models.extractors import extractor_settings_for
from reappear.synthetic import TrackletPlan, embedded_tracklets

GUARDS: dict[str, dict[str, object]] = {
    "none": {"guard": "none"},
    "diameter, max_diameter 1": {"guard": "diameter", "max_diameter": 1.0},
    "diameter, max_diameter 1.5": {"guard": "diameter", "max_diameter": 1.5},
    "diameter, max_diameter 2": {"guard": "diameter", "max_diameter": 2.0},
    "diameter, max_diameter 3": {"guard": "diameter", "max_diameter": 3.0},
    "cut": {"guard": "cut"},
}
FACTORS = (0.7, 1.0, 1.2, 1.4, 1.7, 2.0)
SYNTHETIC = {
    "easy": {"noise": 0.35, "camera_shift": 0.3},
    "middling": {"noise": 0.7, "camera_shift": 0.5},
    "hard": {"noise": 0.9, "camera_shift": 0.6},
}
TRAINING = 567
INTERVAL = 1.25  # seconds between starts of tracklets in a camera; one second per crop

World = tuple[TrackletSet, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--extractor")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "reappear-chaining")
    parser.add_argument("--quick", action="store_true", help="small worlds, one seed, nothing kept")
    given = parser.parse_args()
    if (given.data is None) != (given.extractor is None):
        parser.error("--data and --extractor go together")
    machine, seeds = measure.machine(), 1 if given.quick else given.seeds
    table = [
        row
        for name in SYNTHETIC
        for row in compared(name, [synthetic(name, seed, 40 if given.quick else 150) for seed in range(seeds)])
    ]
    if given.data is not None:
        rows, person, camera = embedded_people(given.data, given.extractor, given.cache)
        worlds = [real(rows, person, camera, seed, 80 if given.quick else 300) for seed in range(seeds)]
        table += compared("real", worlds)
    print_table(table)
    if not given.quick:
        measure.keep("chaining", {"seeds": seeds, "factors": FACTORS, "table": table}, machine)


def synthetic(name: str, seed: int, people: int) -> World:
    plan = TrackletPlan(
        people=people, cameras=4, visits=2, crops=8, swapped=0.05, split=0.2, background=0.03, switched=0.02, seed=seed
    )
    tracklets, truth = embedded_tracklets(plan, dimensions=32, **SYNTHETIC[name])
    return tracklets, truth.truth


def embedded_people(data: Path, extractor: str, cache: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit rows, person and camera of all crops."""
    images = read("market1501", data)
    kept = cache / "people.npy"
    if not kept.exists():
        look = extractor_settings_for(extractor).build()
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, unit_rows(np.concatenate([look([image]) for image in pictures(images.path)])))
    return np.load(kept), images.identity, images.camera


def pictures(paths: np.ndarray) -> Iterator[np.ndarray]:
    return (cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths)


def real(rows: np.ndarray, person: np.ndarray, camera: np.ndarray, seed: int, people: int) -> World:
    """Random training identities, in a random order for each camera."""
    rng = generator(seed, "chaining")
    some = rng.choice(np.unique(person)[:TRAINING], people, replace=False)
    crops, video, start, lengths = [], [], [], []
    for eye in np.unique(camera).tolist():
        for place, who in enumerate(rng.permutation(some).tolist()):
            mine = np.flatnonzero((person == who) & (camera == eye))
            if len(mine):
                crops.append(mine)
                video.append(eye)
                start.append(place * INTERVAL)
                lengths.append(len(mine))
    order, begin, length = np.concatenate(crops), np.array(start), np.array(lengths)
    offsets = lengths_to_offsets(length)
    return TrackletSet(rows[order], np.array(video), begin, begin + length, offsets), person[order]


def compared(name: str, worlds: list[World]) -> list[dict[str, object]]:
    """One row per guard and factor."""
    found: dict[tuple[str, float], list[tuple[float, float, int]]] = {}
    for tracklets, truth in worlds:
        start = Assignment.untouched(tracklets)
        chosen = calibrate(tracklets, start, resamples=0)
        clean = single_tracklet(tracklets, start, sigma_cst=chosen.sigma_cst)
        for factor in FACTORS:
            sigma = min(2.0, factor * chosen.sigma_drm)
            for guard, rule in GUARDS.items():
                linked = {"sigma_drm": sigma, "rules": Rules(constraints=True, **rule)}
                inside = single_video(tracklets, clean, sigma_cst=chosen.sigma_cst, **linked)
                identity = cross_video(tracklets, inside, **linked).crop_identity
                scores = score_identities(truth, identity)
                largest = int(np.bincount(identity[identity >= 0]).max())
                found.setdefault((guard, factor), []).append((scores.pairwise_f1, scores.bcubed_f1, largest))
    return [
        {
            "world": name,
            "guard": guard,
            "factor": factor,
            "pairwise_f1": round(float(np.mean([each[0] for each in runs])), 4),
            "bcubed_f1": round(float(np.mean([each[1] for each in runs])), 4),
            "largest": max(each[2] for each in runs),
        }
        for (guard, factor), runs in found.items()
    ]


def print_table(table: list[dict[str, object]]) -> None:
    for world in dict.fromkeys(row["world"] for row in table):
        print(f"\n{world}: pairwise F1 / B-cubed F1 / largest, by sigma_drm over the calibrated")
        print(f"{'':<22}" + "".join(f"{factor:>20}" for factor in FACTORS))
        for guard in GUARDS:
            mine = [row for row in table if (row["world"], row["guard"]) == (world, guard)]
            cells = (
                f"{100 * row['pairwise_f1']:.1f} / {100 * row['bcubed_f1']:.1f} / {row['largest']}"  # type: ignore[operator]
                for row in mine
            )
            print(f"{guard:<22}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
