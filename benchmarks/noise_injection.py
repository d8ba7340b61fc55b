"""Measures each denoising stage on clean tracklets of real people with injected noise, by thresholds.

python benchmarks/noise_injection.py DATA EXTRACTOR --film FILM [--part test|validation] [--cache FOLDER] [--quick]

DATA has the Market-1501 layout; EXTRACTOR is a network for `reappear embed`; FILM is a video of a static camera. A
tracklet is a person in a camera, a camera is a video, and a tracklet starts every 1.25 s. Then crops are swapped
between simultaneous tracklets, tracklets are split, and crops of the empty background of FILM (the median of its
frames) are added. Identities are sorted by number: the last 200 are the test part; choices were made on others.
"calibrated + constraints" is the default of `correlate --linking closure`: cannot-link constraints and the guard
against chains.
With some 500 tracklets, r_s = 1000 compares all pairs, so that `global_link` equals cross-video.
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
from reappear.denoise import (
    SIGMA_CST,
    SIGMA_DRM,
    Rules,
    calibrate,
    cross_video,
    noise_score,
    single_tracklet,
    single_video,
)
from reappear.denoise.constraints import overlapping_pairs
from reappear.metrics import score_identities
from reappear.models.extractors import extractor_settings_for
from reappear.video import open_footage

PARTS = {"test": slice(567, 767), "validation": slice(367, 567)}
SWAPPED = (0.05, 0.1, 0.2)
SPLIT, BACKGROUND = 0.3, 0.05
CROP_INTERVAL, TRACKLET_INTERVAL = 1.0, 1.25  # seconds between crops of a tracklet, and between starts of tracklets
STAGES = ("start", "single-tracklet", "single-video", "cross-video")
RULES = {
    "paper": Rules(),
    "calibrated": Rules(),
    "calibrated + constraints": Rules(constraints=True, guard="diameter"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("extractor")
    parser.add_argument("--film", type=Path, required=True)
    parser.add_argument("--part", choices=PARTS, default="test")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "reappear-noise-injection")
    parser.add_argument("--quick", action="store_true", help="40 identities, 2 seeds, nothing kept")
    given = parser.parse_args()
    machine = measure.machine()
    part, seeds = PARTS[given.part], given.seeds
    if given.quick:
        part, seeds = slice(part.start, part.start + 40), 2
    rows, person, camera = embedded_people(given.data, given.extractor, given.cache)
    mine = np.isin(person, np.unique(person)[part])
    clutter = embedded_clutter(given.film, given.extractor, given.cache)
    table = []
    for share in SWAPPED:
        runs = [
            run(rows[mine], person[mine], camera[mine], clutter, share, generator(seed, "noise injection"))
            for seed in range(seeds)
        ]
        for rule in RULES:
            for stage in STAGES:
                each = [one[rule, stage] for one in runs]
                table.append({"swapped": share, "thresholds": rule, "stage": stage, **spread(each)})
    print_table(table)
    print("\n" + "\n".join(verdicts(table)))
    if not given.quick:
        name = "noise_injection" if given.part == "test" else "noise_injection_validation"
        measure.keep(name, {"seeds": seeds, "verdicts": verdicts(table), "table": table}, machine)


def embedded_people(data: Path, extractor: str, cache: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit rows, person and camera of all crops."""
    images = read("market1501", data)
    return embedded(cache / "people.npy", extractor, map(read_rgb, images.path)), images.identity, images.camera


def embedded_clutter(film: Path, extractor: str, cache: Path) -> np.ndarray:
    """Unit rows of 500 person-sized crops at random places of the background."""
    frames = [frame.image for frame in open_footage(film).frames(stride=10)]
    scene = np.median(frames, axis=0).astype(np.uint8)
    rng = generator(0, "clutter")

    def cuts() -> Iterator[np.ndarray]:
        for _ in range(500):
            tall = int(rng.uniform(0.15, 0.35) * len(scene))
            top = int(rng.integers(0, scene.shape[0] - tall))
            left = int(rng.integers(0, scene.shape[1] - tall // 2))
            yield scene[top : top + tall, left : left + tall // 2]

    return embedded(cache / "clutter.npy", extractor, cuts())


def read_rgb(path: str) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)


def embedded(kept: Path, extractor: str, images: Iterator[np.ndarray]) -> np.ndarray:
    if not kept.exists():
        look = extractor_settings_for(extractor).build()
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, unit_rows(np.concatenate([look([image]) for image in images])))
    return np.load(kept)


def run(
    rows: np.ndarray,
    person: np.ndarray,
    camera: np.ndarray,
    clutter: np.ndarray,
    swapped: float,
    rng: np.random.Generator,
) -> dict[tuple[str, str], dict[str, float | None]]:
    """Scores by thresholds and stage."""
    tracklets, truth, wrong = noisy(rows, person, camera, clutter, swapped, rng)
    start = Assignment.untouched(tracklets)
    chosen = calibrate(tracklets, start, resamples=0)
    out = {}
    for rule, rules in RULES.items():
        cst, drm = (SIGMA_CST, SIGMA_DRM) if rule == "paper" else (chosen.sigma_cst, chosen.sigma_drm)
        first = single_tracklet(tracklets, start, sigma_cst=cst)
        second = single_video(tracklets, first, sigma_cst=cst, sigma_drm=drm, rules=rules)
        third = cross_video(tracklets, second, sigma_drm=drm, rules=rules)
        for stage, assignment in zip(STAGES, (start, first, second, third), strict=True):
            out[rule, stage] = figures(tracklets, assignment, truth, wrong, cst, drm)
    return out


def noisy(
    rows: np.ndarray,
    person: np.ndarray,
    camera: np.ndarray,
    clutter: np.ndarray,
    swapped: float,
    rng: np.random.Generator,
) -> tuple[TrackletSet, np.ndarray, np.ndarray]:
    """Clean tracklets with injected noise.

    Returns:
        The tracklets; the person on each crop (-1 = background); whether it differs from that of the tracklet.
    """
    pieces = []
    for eye in np.unique(camera):
        present = rng.permutation(np.unique(person[camera == eye]))
        for place, who in enumerate(present.tolist()):
            pieces.append((int(eye), place * TRACKLET_INTERVAL, np.flatnonzero((camera == eye) & (person == who))))
    crops = [list(crop) for _, _, crop in pieces]
    owner = [int(person[crop[0]]) for _, _, crop in pieces]
    swap(crops, overlapping(pieces), round(swapped * len(rows)), rng)

    rows, person = np.concatenate([rows, clutter]), np.append(person, np.full(len(clutter), -1))
    nobody = (
        len(rows) - len(clutter) + rng.choice(len(clutter), round(BACKGROUND * sum(map(len, crops))), replace=False)
    )
    for row, taker in zip(nobody.tolist(), rng.integers(0, len(crops), len(nobody)).tolist(), strict=True):
        crops[taker].insert(int(rng.integers(0, len(crops[taker]) + 1)), row)

    long = [number for number, crop in enumerate(crops) if len(crop) >= 2]
    cut = set(rng.choice(long, round(SPLIT * len(crops)), replace=False).tolist())
    video, begin, end, held, mine = [], [], [], [], []
    for number, (eye, start, _) in enumerate(pieces):
        count = len(crops[number])
        middle = [(count + int(rng.integers(0, 2))) // 2] if number in cut else []
        for low, high in zip([0, *middle], [*middle, count], strict=True):
            video.append(eye)
            begin.append(start + low * CROP_INTERVAL)
            end.append(start + (high - 1) * CROP_INTERVAL)
            held.append(crops[number][low:high])
            mine.append(owner[number])
    order = np.concatenate(held)
    tracklets = TrackletSet(
        rows[order],
        np.array(video),
        np.array(begin),
        np.array(end),
        lengths_to_offsets(np.array([len(h) for h in held])),
    )
    return tracklets, person[order], person[order] != np.repeat(mine, [len(h) for h in held])


def overlapping(pieces: list[tuple[int, float, np.ndarray]]) -> np.ndarray:
    """Pairs of tracklets that share a second."""
    video, start, size = (
        np.array([f(piece) for piece in pieces]) for f in (lambda p: p[0], lambda p: p[1], lambda p: len(p[2]))
    )
    whole = TrackletSet(
        np.ones((0, 1)), video, start, start + (size - 1) * CROP_INTERVAL, np.zeros(len(pieces) + 1, np.int64)
    )
    return overlapping_pairs(whole, np.ones(len(pieces), bool), 1.0)


def swap(crops: list[list[int]], pairs: np.ndarray, wanted: int, rng: np.random.Generator) -> None:
    """Swaps crops between simultaneous tracklets until this many are in a wrong one; none moves twice."""
    left = [list(range(len(crop))) for crop in crops]
    done = 0
    while done + 2 <= wanted:
        a, b = pairs[rng.integers(len(pairs))].tolist()
        if left[a] and left[b]:
            i, j = (left[t].pop(int(rng.integers(len(left[t])))) for t in (a, b))
            crops[a][i], crops[b][j] = crops[b][j], crops[a][i]
            done += 2


def figures(
    tracklets: TrackletSet, assignment: Assignment, truth: np.ndarray, wrong: np.ndarray, cst: float, drm: float
) -> dict[str, float | None]:
    removed = assignment.tracklet != tracklets.origin
    scores = score_identities(truth, assignment.crop_identity)
    return {
        "removed_precision": float(wrong[removed].mean()) if removed.any() else None,
        "removed_recall": float(removed[wrong].mean()),
        "pairwise_precision": scores.pairwise_precision,
        "pairwise_recall": scores.pairwise_recall,
        "pairwise_f1": scores.pairwise_f1,
        "bcubed_f1": scores.bcubed_f1,
        "noise": noise_score(tracklets, assignment, sigma_cst=cst, sigma_drm=drm),
        "identities": float(scores.identities),
        "sigma_cst": cst,
        "sigma_drm": drm,
    }


def spread(each: list[dict[str, float | None]]) -> dict[str, list[float] | None]:
    """Mean and standard deviation of each score over seeds; none if a seed has none."""
    out: dict[str, list[float] | None] = {}
    for key in each[0]:
        values = [one[key] for one in each]
        known = [value for value in values if value is not None]
        whole = len(known) == len(values)
        out[key] = [round(float(np.mean(known)), 4), round(float(np.std(known, ddof=1)), 4)] if whole else None
    return out


def print_table(table: list[dict]) -> None:
    for row in table:
        if row["stage"] == "start":
            cst, drm = row["sigma_cst"], row["sigma_drm"]
            print(f"\nswapped {row['swapped']:.0%}, {row['thresholds']}", end=": ")
            print(f"{cst[0]:.3f} ± {cst[1]:.3f}, {drm[0]:.3f} ± {drm[1]:.3f}")
            print("stage             removed P / R    pairwise F1 (P / R)             B-cubed F1     n_S  identities")
        said = {key: value for key, value in row.items() if isinstance(value, list)}
        p, s = {k: 100 * v[0] for k, v in said.items()}, {k: 100 * v[1] for k, v in said.items()}
        removed = f"{p['removed_precision']:.1f}" if "removed_precision" in p else "-"
        print(
            f"{row['stage']:16s} {removed:>6} /{p['removed_recall']:5.1f}   "
            f"{p['pairwise_f1']:5.1f} ± {s['pairwise_f1']:.1f} "
            f"({p['pairwise_precision']:5.1f} /{p['pairwise_recall']:5.1f})   "
            f"{p['bcubed_f1']:9.1f} ± {s['bcubed_f1']:.1f}  {said['noise'][0]:6.2f}  {said['identities'][0]:6.0f}"
        )


def verdicts(table: list[dict]) -> list[str]:
    """Whether the last rule is best, and whether each stage improves on the previous one."""
    of = {(row["swapped"], row["thresholds"], row["stage"]): row for row in table}
    *others, ours = RULES
    out = []
    for share in SWAPPED:
        for score in ("pairwise_f1", "bcubed_f1"):
            best = of[share, ours, STAGES[-1]][score][0] > max(of[share, rule, STAGES[-1]][score][0] for rule in others)
            out.append(f"swapped {share:.0%}, {score}: {ours} is {'' if best else 'not '}the best of {len(RULES)}")
            for rule in (others[-1], ours):
                stages = [of[share, rule, stage][score][0] for stage in STAGES]
                rises = "each stage improves" if (np.diff(stages) > 0).all() else "not each stage improves"
                out.append(f"  {rule}: {rises} ({', '.join(f'{value:.3f}' for value in stages)})")
    return out


if __name__ == "__main__":
    main()
