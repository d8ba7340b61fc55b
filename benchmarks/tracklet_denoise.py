"""Compares Eq. 4 over many tracklets with literal loops.

    python benchmarks/tracklet_denoise.py             # 100,000 of 30 crops, about 2 minutes, 5 GB of disk for a while
    python benchmarks/tracklet_denoise.py --quick     # 2,000 of them, seconds

The crops are read from a float16 file mapped into memory, as a workspace keeps them; one in twenty shows another
person. The literal loops (tests/references/denoise.py, and the same in numpy) run on a sample of the tracklets, and
their time is scaled. On the sample all three must remove the same crops.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import keep, machine, peak_mb

sys.path.insert(0, str(Path(__file__).parents[1]))  # the references are part of the tests

from tests.references import denoise as literal

from reappear.core import Assignment, TrackletSet
from reappear.denoise import SIGMA_CST, single_tracklet
from reappear.denoise.thresholds import RESOLUTION

CROPS, WIDTH, WRONG = 30, 768, 0.05


def crops(path: Path, count: int) -> np.ndarray:
    """Unit rows of tracklets in 48 directions around a common mean."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((48, WIDTH), np.float32) / 48**0.5
    middle = 0.65 * rng.standard_normal(WIDTH, np.float32)
    out = np.lib.format.open_memmap(path, "w+", "float16", (count * CROPS, WIDTH))
    for begin in range(0, count, 1000):
        some = min(1000, count - begin)
        person = rng.standard_normal((some, 1, 48), np.float32)
        seen = person + 0.45 * rng.standard_normal((some, CROPS, 48), np.float32)
        wrong = rng.random((some, CROPS)) < WRONG
        seen[wrong] = rng.standard_normal((np.count_nonzero(wrong), 48), np.float32)
        rows = seen.reshape(-1, 48) @ basis + middle
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        out[begin * CROPS : (begin + some) * CROPS] = rows
    return np.load(path, mmap_mode="r")


def tracklet_set(embeddings: np.ndarray) -> TrackletSet:
    count = len(embeddings) // CROPS
    start = np.arange(count, dtype=float)
    return TrackletSet(embeddings, np.zeros(count, np.int64), start, start + 1, np.arange(count + 1) * CROPS)


def in_numpy(x: np.ndarray) -> np.ndarray:
    """Eq. 4 for one tracklet with numpy means: mask of kept crops."""
    here = np.ones(len(x), bool)
    while here.sum() > 1:
        rows = np.flatnonzero(here)
        far = np.empty(len(rows))
        for place, row in enumerate(rows):
            here[row] = False
            others = x[here].mean(axis=0)
            here[row] = True
            far[place] = 1 - x[row] @ others / (np.linalg.norm(x[row]) * np.linalg.norm(others))
        worst = int(np.argmax(far >= far.max() - RESOLUTION))
        if far[worst] < SIGMA_CST - RESOLUTION:
            break
        here[rows[worst]] = False
    return here


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    count, by_numpy, by_loops = (2000, 100, 20) if quick else (100_000, 2000, 300)
    started_on = machine()
    with tempfile.TemporaryDirectory() as folder:
        embeddings = crops(Path(folder) / "vectors.npy", count)
        world = tracklet_set(embeddings)
        embeddings.max()  # the file is in memory before the clock starts
        begun = time.perf_counter()
        found = single_tracklet(world, Assignment.untouched(world)).tracklet.reshape(count, CROPS) >= 0
        ours = time.perf_counter() - begun
        sample = np.sort(np.random.default_rng(1).permutation(count)[:by_numpy])
        x = embeddings.reshape(count, CROPS, WIDTH)[sample].astype(np.float64)
    x /= np.linalg.norm(x, axis=2, keepdims=True)

    begun = time.perf_counter()
    stays = np.stack([in_numpy(rows) for rows in x])
    numpy_each = (time.perf_counter() - begun) / by_numpy
    plain = [rows.tolist() for rows in x[:by_loops]]
    begun = time.perf_counter()
    loops = [literal.single_tracklet(rows, [0] * CROPS, SIGMA_CST) for rows in plain]
    loops_each = (time.perf_counter() - begun) / by_loops
    figures = {
        "tracklets": count,
        "crops_each": CROPS,
        "width": WIDTH,
        "taken_out": round(1 - float(found.mean()), 4),
        "seconds": round(ours, 2),
        "peak_mb_with_the_mapped_file": round(peak_mb()),
        "literal": {
            "tracklets_timed": by_loops,
            "seconds_scaled_to_all": round(loops_each * count),
            "ratio": round(loops_each * count / ours, 1),
            "same_crops_taken_out": (np.array(loops) >= 0).tolist() == found[sample[:by_loops]].tolist(),
        },
        "literal_in_numpy": {
            "tracklets_timed": by_numpy,
            "seconds_scaled_to_all": round(numpy_each * count),
            "ratio": round(numpy_each * count / ours, 1),
            "same_crops_taken_out": bool((stays == found[sample]).all()),
        },
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    keep("tracklet_denoise", figures, started_on)


if __name__ == "__main__":
    main()
