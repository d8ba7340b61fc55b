"""Compares the sliding range with all pairs for people who reappear farther than r_s apart.

python benchmarks/far_apart.py [--seeds N] [--folder DIR] [--quick]

Two worlds in which everyone passes two cameras once, so that a person reappears after a random number of others and no
third tracklet connects the two:

    films     the rendered synthetic world: 300 people, r_s = 100; detected, tracked and embedded by colour
    vectors   5000 people as tracklets of vectors (d = 64), r_s = 1000, with swapped crops, identity switches, split
              tracklets and background

It runs the commands `synthesize`, `ingest`, `embed`, and `correlate --pairs all | sliding | approximate`, the first
with calibrated thresholds, the others with the same. Distances are counted in identities after the second stage, as
r_s is. Reported: share of pairs of one person, one per camera, that end in one identity. The
figure is docs/images/far-apart.svg.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import measure
import numpy as np
import pyarrow as pa
import pyarrow.csv
from matplotlib.figure import Figure

from reappear.core import offsets_to_owner
from reappear.store import read_table
from reappear.synthetic import TrackletPlan, embedded_tracklets

FIGURE = Path(__file__).parents[1] / "docs" / "images" / "far-apart.svg"
PAIRS = {"all": "all pairs", "sliding": "sliding range, as in the paper", "approximate": "index"}
SPACING = 2.0  # seconds between the crops of a tracklet: people are seen together for some time
FEWEST = 10  # pairs at a distance from which the figure shows what is found of them
WORLDS = {"films": (300, 100), "vectors": (5000, 1000)}  # people and r_s
FIGURES = (
    "pairwise_precision",
    "pairwise_recall",
    "pairwise_f1",
    "bcubed_f1",
    "noise",
    "identities",
    "sigma_drm",
    "recall",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where worlds go and stay; a temporary folder if not given")
    parser.add_argument("--quick", action="store_true", help="a tenth of the people, one seed, nothing kept")
    given = parser.parse_args()
    started_on, shrink = measure.machine(), 10 if given.quick else 1
    seeds = 1 if given.quick else given.seeds
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        for world, (people, radius) in WORLDS.items():
            people, radius = people // shrink, radius // shrink
            works = []
            for seed in range(seeds):
                work = folder / f"{world}{seed}"
                (film if world == "films" else write_vectors)(work, people, seed)
                works.append(work)
            found[world] = summary([correlated(work, radius) for work in works], people, radius)
    print(json.dumps(found, indent=2))
    if not given.quick:
        measure.keep("far_apart", {"seeds": seeds, **found}, started_on)
        draw(found)


def reappear(*arguments: object) -> None:
    command = [sys.executable, "-m", "reappear", *map(str, arguments), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def film(work: Path, people: int, seed: int) -> None:
    world = work.with_name(f"{work.name}-world")
    plan = {"people": people, "test-people": 0, "cameras": 2, "films": 1, "appearances": 2, "returns": 0, "seed": seed}
    reappear("synthesize", "--out", world, *(f"--{name}={value}" for name, value in plan.items()))
    reappear("ingest", world / "films", "--out", work, "--camera", "prefix", "--truth-ids", "global")
    reappear("embed", work)


def write_vectors(work: Path, people: int, seed: int) -> None:
    plan = TrackletPlan(people=people, cameras=2, swapped=0.05, split=0.2, background=0.03, switched=0.02, seed=seed)
    world, truth = embedded_tracklets(plan, dimensions=64, noise=0.35, camera_shift=0.3)
    owner = offsets_to_owner(truth.offsets)
    place = np.arange(len(owner)) - truth.offsets[owner]
    step = ((truth.end - truth.start) / np.maximum(np.diff(truth.offsets) - 1, 1))[owner]
    columns = {
        "video": truth.video[owner],
        "tracklet": owner,
        "truth": truth.truth,
        "time": SPACING / 0.25 * (truth.start[owner] + place * step),
    }
    given = work.with_name(f"{work.name}.npy")
    np.save(given, world.embeddings)
    pa.csv.write_csv(pa.table(columns), given.with_suffix(".csv"))
    reappear("ingest", given, "--out", work)


def correlated(work: Path, radius: int) -> dict[str, dict[str, Any]]:
    """What each way of taking pairs gives: figures, and whether each pair of one person, so far apart, is found."""
    out: dict[str, dict[str, Any]] = {}
    thresholds = "calibrated"
    for pairs in PAIRS:
        reach = ("--radius", radius) if pairs == "sliding" else ()
        options = ("--pairs", pairs, *reach, "--thresholds", thresholds)
        reappear("correlate", work, "--name", pairs, *options)
        report = json.loads((work / "identities" / pairs / "report.json").read_text(encoding="utf-8"))
        last, chosen = report["stages"][-1], report["thresholds"]
        out[pairs] = {key: value for key, value in {**last["scores"], **last, **chosen}.items() if key in FIGURES}
        if thresholds == "calibrated":
            thresholds = f"{chosen['sigma_cst']},{chosen['sigma_drm']}"
            reappear("correlate", work, "--name", "videos", "--cross-video", "no", "--thresholds", thresholds)
            node, first, second = twins(work)
        now, _ = identities(work, pairs)
        end = majority(node[node >= 0], now[node >= 0])
        out[pairs] |= {"distance": second - first, "found": end[first] == end[second]}
    return out


def twins(work: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The node of each crop, its identity inside its video; and all pairs of nodes of one person, one in each."""
    truth = read_table(work / "crops" / "crops.parquet", "truth")["truth"].astype(np.int64)
    video = read_table(work / "crops" / "tracklets.parquet", "video")["video"].astype(np.int64)
    node, tracklet = identities(work, "videos")
    kept = (node >= 0) & (truth >= 0)
    person, camera = majority(node[kept], truth[kept]), majority(node[kept], video[tracklet[kept]])
    pairs = [
        (a, b)
        for who in np.unique(person[person >= 0]).tolist()
        for a in np.flatnonzero((person == who) & (camera == 0)).tolist()
        for b in np.flatnonzero((person == who) & (camera == 1)).tolist()
    ]
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return node, first, second


def identities(work: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Identity and tracklet of each crop."""
    table = read_table(work / "identities" / name / "identities.parquet", "identity", "tracklet")
    return table["identity"].astype(np.int64), table["tracklet"].astype(np.int64)


def majority(group: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The most frequent label, -1 or more, of each group; -1 for none."""
    pairs, count = np.unique(np.stack([group, label]), axis=1, return_counts=True)
    out = np.full(int(group.max()) + 1, -1)
    rising = np.argsort(count, kind="stable")
    out[pairs[0, rising]] = pairs[1, rising]
    return out


def summary(runs: list[dict[str, dict[str, Any]]], people: int, radius: int) -> dict[str, Any]:
    """Over all seeds: the share of pairs found by distance, near and far, and the mean of each figure."""
    distance = np.concatenate([run["all"]["distance"] for run in runs])
    width = radius // 2
    bins = (distance - 1) // width
    out: dict[str, Any] = {
        "people": people,
        "radius": radius,
        "pairs_near": int((distance <= radius).sum()),
        "pairs_far": int((distance > radius).sum()),
        "pairs_by_distance": np.bincount(bins).tolist(),
    }
    for pairs in PAIRS:
        found = np.concatenate([run[pairs]["found"] for run in runs])
        out[pairs] = {
            "found_near": share(found[distance <= radius]),
            "found_far": share(found[distance > radius]),
            "found_by_distance": [share(found[bins == place]) for place in range(int(bins.max()) + 1)],
        }
        for key in FIGURES:
            values = [run[pairs][key] for run in runs if key in run[pairs]]
            if values:
                out[pairs][key] = round(float(np.mean(values)), 4)
    return out


def share(found: np.ndarray) -> float | None:
    return round(float(found.mean()), 4) if len(found) else None


def draw(found: dict[str, Any]) -> None:
    """Plots the share found by distance, one panel per world, in greys legible on light and dark."""
    grey, style = "#7a828c", {"sliding": ("#d1603d", "-"), "all": ("#4a86c5", "-"), "approximate": ("#b58a2b", ":")}
    plain = {"svg.fonttype": "none", "svg.hashsalt": "reappear", "font.size": 9.5, "text.color": grey}
    axes_style = {f"{name}.color": grey for name in ("xtick", "ytick")} | {
        "axes.edgecolor": grey,
        "axes.labelcolor": grey,
    }
    with mpl.rc_context({**plain, **axes_style, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8.4, 3.1), layout="constrained")
        figure.patch.set_visible(False)
        for axes, (world, (people, radius)) in zip(figure.subplots(1, 2, sharey=True), WORLDS.items(), strict=True):
            many = np.array(found[world]["pairs_by_distance"]) >= FEWEST
            middle = radius / 4 + radius / 2 * np.flatnonzero(many)
            for pairs, (colour, dash) in style.items():
                shares = 100 * np.array(found[world][pairs]["found_by_distance"], float)[many]
                axes.plot(middle, shares, dash, color=colour, label=PAIRS[pairs], linewidth=1.7)
            axes.axvline(radius, color=grey, linestyle="--", linewidth=1)
            axes.text(radius, 101, " $r_s$", color=grey, va="bottom")
            axes.set(title=f"{world}: {people} people", xlabel="identities between the two times", ylim=(-3, 109))
            axes.patch.set_visible(False)
        figure.axes[0].set_ylabel("pairs of one person found, %")
        figure.axes[1].legend(frameon=False, labelcolor=grey, loc="center right")
        FIGURE.parent.mkdir(exist_ok=True)
        figure.savefig(FIGURE, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))


if __name__ == "__main__":
    main()
