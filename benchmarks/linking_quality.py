"""Compares ways to link tracklets into identities, on people with known identity.

    python benchmarks/linking_quality.py --data FOLDER... --extractor FILE... --film FILM --worlds WORKSPACE...

Data, each as far as it is given:
- FOLDERs have the Market-1501 layout, EXTRACTORs are networks of `reappear embed`, FILM is a video of a static camera.
  Only the first 567 identities of a folder, sorted by number, are used (of CUHK03: no test people). A tracklet is a
  visit of a person to a camera. A video shows some 25 people, a third of the pairs of whom overlap in time. Crops are
  swapped between simultaneous tracklets (0, 10, 20 %), 30 % of tracklets are split, and 5 % of crops are of the
  background. Variants of 10 %: few people with many visits each, and 40 % of tracklets missing.
  "clean": a tracklet is a person in a camera, with all of its crops, in one video a camera, without times.
- WORKSPACEs hold a synthetic world and `embeddings/round0` (`reappear demo --seed 10 --seeds 3`).
- Tracklets of synthetic people as vectors, of low, medium and high difficulty, with all kinds of noise.

Linkings: each tracklet a person; Eq. 5-7 with the paper's thresholds; Eq. 5-7 with calibrated thresholds, constraints
and the guard against chains (the default of `--linking closure`); average linkage of plain cosines with constraints,
its threshold the best for each run by truth; the default of `reappear correlate`; and perfect linking: each tracklet,
as noisy as it is, goes to the person on most of its crops. Noise inside tracklets is removed in the same way by all
but the first and the second. With --variants: the default with other settings instead, on fewer data. Reported:
B-cubed and pairwise F1 in percent, means over seeds.

With --probabilities: the expected share of linked pairs of tracklets that are one person against the true one, and the
same where 90 % are asked for (`--precision 0.9`); and how often links of each probability are right.
"""

import argparse
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import measure
import numpy as np
from noise_injection import embedded, embedded_clutter, read_rgb

from reappear.core import Assignment, TrackletSet, generator, lengths_to_offsets
from reappear.data import read
from reappear.denoise import (
    Rules,
    Trace,
    average_link,
    calibrate,
    cross_video,
    reallocate,
    single_tracklet,
    single_video,
)
from reappear.denoise.average import Similarities, average_linkage
from reappear.denoise.constraints import Constraint, overlapping_pairs
from reappear.denoise.links import Links
from reappear.denoise.nodes import Nodes
from reappear.metrics import score_identities
from reappear.pipeline.workspace import Workspace
from reappear.store import read_embeddings
from reappear.synthetic import TrackletPlan, embedded_tracklets

PEOPLE = 567
CROWD = 25  # people in a video
SPLIT, BACKGROUND = 0.3, 0.05
LENGTH, SPAN = 8.0, 36.0  # seconds of a tracklet, and within which all of a video begin: a third of the pairs overlap
SWAPPED = (0.0, 0.1, 0.2)
VARIANTS: dict[str, dict[str, float]] = {
    "many visits": {"people": 100, "visits": 5},
    "40 % missing": {"missing": 0.4},
}
VECTORS = {
    "easy": {"noise": 0.35, "camera_shift": 0.3},
    "medium": {"noise": 0.7, "camera_shift": 0.5},
    "hard": {"noise": 0.9, "camera_shift": 0.6},
}
ASKED = 0.9
RULES = Rules(constraints=True, guard="diameter")
BASELINE, PAPER, CLOSURE, COSINE, OURS, PERFECT = (
    "tracklet = person",
    "closure, paper",
    "closure, calibrated",
    "average, cosine",
    "average",
    "perfect",
)

World = tuple[TrackletSet, np.ndarray, np.ndarray]
"""Tracklets, the person on each crop, the camera of each tracklet."""

Linkings = Callable[[TrackletSet, np.ndarray, np.ndarray, Trace], Iterator[tuple[str, np.ndarray]]]
"""From these and a trace of the default: names of linkings, and the identity of each crop."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--extractor", type=Path, nargs="*", default=[])
    parser.add_argument("--film", type=Path)
    parser.add_argument("--worlds", type=Path, nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "reappear-linking-quality")
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--probabilities", action="store_true")
    parser.add_argument("--quick", action="store_true", help="few people, one seed, nothing kept")
    given = parser.parse_args()
    if bool(given.data) != bool(given.extractor) or bool(given.data) != bool(given.film):
        parser.error("--data, --extractor and --film go together")
    machine, seeds = measure.machine(), 1 if given.quick else given.seeds
    if given.probabilities:
        found = list(cells(given.data, given.extractor, given.film, given.worlds, given.cache, seeds, given.quick))
        figures = probabilities(found)
        if not given.quick:
            measure.keep("linking_probability", {"seeds": seeds, "asked": ASKED, **figures}, machine)
        return
    table = []
    linkings = variants if given.variants else linked
    for cell, worlds in cells(given.data, given.extractor, given.film, given.worlds, given.cache, seeds, given.quick):
        if given.variants and cell.endswith(("0%", "20%", "clean", "missing")) and not cell.endswith("10%"):
            continue
        table += compared(cell, worlds, linkings)
        print_cell(table, cell)
    if given.variants:
        measure.keep("linking_variants", {"seeds": seeds, "table": table}, machine)
        return
    print("\n" + "\n".join(verdicts(table)))
    if not given.quick:
        measure.keep("linking_quality", {"seeds": seeds, "verdicts": verdicts(table), "table": table}, machine)


def cells(
    data: list[Path], extractors: list[Path], film: Path, works: list[Path], cache: Path, seeds: int, quick: bool
) -> Iterator[tuple[str, Iterator[World]]]:
    """Each setting, and its worlds."""
    for name in VECTORS:
        yield f"vectors, {name}", (vectors(name, seed, 40 if quick else 150) for seed in range(seeds))
    if works:
        yield "videos", map(filmed, works)
    for folder in data:
        for extractor in extractors:
            crops = people(folder, extractor, film, cache / folder.name / extractor.stem, 60 if quick else PEOPLE)
            for swapped in SWAPPED:
                yield f"{folder.name}, {extractor.stem}, {swapped:.0%}", drawn(*crops, swapped, seeds)
            for variant, how in VARIANTS.items():
                yield f"{folder.name}, {extractor.stem}, {variant}", drawn(*crops, 0.1, seeds, **how)
            yield f"{folder.name}, {extractor.stem}, clean", iter([clean(*crops[:3])])


def vectors(name: str, seed: int, people: int) -> World:
    plan = TrackletPlan(
        people=people, cameras=4, visits=2, crops=8, swapped=0.05, split=0.2, background=0.03, switched=0.02, seed=seed
    )
    tracklets, truth = embedded_tracklets(plan, dimensions=32, **VECTORS[name])
    return tracklets, truth.truth, tracklets.video


def filmed(work: Path) -> World:
    crops = Workspace(work).open_crops()
    tracklets = crops.tracklet_set(np.asarray(read_embeddings(Workspace(work).embeddings("round0"))[0]))
    cameras = np.unique([video.camera for video in crops.videos], return_inverse=True)[1]
    return tracklets, np.asarray(crops.crops["truth"], np.int64), cameras[tracklets.video]


def people(
    folder: Path, extractor: Path, film: Path, cache: Path, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Unit rows, person and camera of the crops of the first identities, and rows of background."""
    images = read("market1501", folder)
    names = np.unique(images.identity)
    first = np.isin(images.identity, names[:PEOPLE])
    rows = embedded(cache / "people.npy", str(extractor), map(read_rgb, images.path[first]))
    person, camera = images.identity[first], images.camera[first]
    mine = np.isin(person, names[:most])
    return rows[mine], person[mine], camera[mine], embedded_clutter(film, str(extractor), cache)


def drawn(
    rows: np.ndarray,
    person: np.ndarray,
    camera: np.ndarray,
    clutter: np.ndarray,
    swapped: float,
    seeds: int,
    *,
    people: int | None = None,
    **how: float,
) -> Iterator[World]:
    for seed in range(seeds):
        rng = generator(seed, "linking quality")
        names = np.unique(person)
        some = np.isin(person, rng.choice(names, min(people or len(names), len(names)), replace=False))
        yield footage(rows[some], person[some], camera[some], clutter, swapped, rng, **how)


def clean(rows: np.ndarray, person: np.ndarray, camera: np.ndarray) -> World:
    order = np.lexsort((person, camera))
    visit = np.unique(np.stack([camera[order], person[order]]), axis=1, return_index=True)[1]
    unknown = np.full(len(visit), np.nan)
    offsets = np.append(visit, len(rows))
    tracklets = TrackletSet(rows[order], camera[order][visit], unknown, unknown, offsets)
    return tracklets, person[order], tracklets.video


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
    videos = max(1, round(visits * len(np.unique(person)) / CROWD))
    pieces = []
    for eye in np.unique(camera).tolist():
        for who in np.unique(person[camera == eye]).tolist():
            mine = rng.permutation(np.flatnonzero((camera == eye) & (person == who)))
            parts = np.array_split(mine, min(visits, len(mine)))
            first = int(rng.integers(videos))
            for number, part in enumerate(parts):
                pieces.append((eye, (first + number) % videos, float(rng.uniform(0, SPAN)), part))
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


def compared(cell: str, worlds: Iterator[World], linkings: Linkings) -> list[dict[str, object]]:
    """One row for each linking, means over the worlds."""
    found: dict[str, list[tuple[float, float, int]]] = {}
    sizes, skipped = [], []
    for tracklets, truth, camera in worlds:
        trace = Trace()
        for name, identity in linkings(tracklets, truth, camera, trace):
            scores = score_identities(truth, identity)
            found.setdefault(name, []).append((scores.bcubed_f1, scores.pairwise_f1, scores.identities))
        sizes.append(len(tracklets))
        skipped.append(trace.skipped["average-link"])
    return [
        {
            "cell": cell,
            "tracklets": round(float(np.mean(sizes))),
            "linking": name,
            "bcubed_f1": [round(float(100 * each[0]), 2) for each in runs],
            "pairwise_f1": [round(float(100 * each[1]), 2) for each in runs],
            "identities": [each[2] for each in runs],
            **({"skipped_neighbors": skipped} if name == OURS else {}),
        }
        for name, runs in found.items()
    ]


def linked(
    tracklets: TrackletSet, truth: np.ndarray, camera: np.ndarray, trace: Trace
) -> Iterator[tuple[str, np.ndarray]]:
    """The identity of each crop by each linking."""
    start = Assignment.untouched(tracklets)
    yield BASELINE, start.crop_identity
    yield PAPER, cross_video(tracklets, single_video(tracklets, single_tracklet(tracklets, start))).crop_identity
    chosen = calibrate(tracklets, start, resamples=0)
    cst, drm = chosen.sigma_cst, chosen.sigma_drm
    first = single_tracklet(tracklets, start, sigma_cst=cst)
    inside = single_video(tracklets, first, sigma_cst=cst, sigma_drm=drm, rules=RULES)
    yield CLOSURE, cross_video(tracklets, inside, sigma_drm=drm, radius=len(tracklets), rules=RULES).crop_identity
    moved = reallocate(tracklets, first, sigma_cst=cst)
    yield COSINE, best_of_cosine(tracklets, moved, truth)
    yield OURS, average_link(tracklets, moved, place=camera, rules=RULES, trace=trace).crop_identity
    yield PERFECT, Assignment(moved.tracklet, majority(tracklets, moved, truth)).crop_identity


def variants(
    tracklets: TrackletSet, truth: np.ndarray, camera: np.ndarray, trace: Trace
) -> Iterator[tuple[str, np.ndarray]]:
    """The same by the default with other settings."""
    start = Assignment.untouched(tracklets)
    cst = calibrate(tracklets, start, resamples=0).sigma_cst
    moved = reallocate(tracklets, single_tracklet(tracklets, start, sigma_cst=cst), sigma_cst=cst)
    changes: dict[str, dict[str, object]] = {
        OURS: {"trace": trace},
        "z 3": {"least": 3.0},
        "z 3.5": {"least": 3.5},
        "z 4.5": {"least": 4.5},
        "z 5": {"least": 5.0},
        "skip 4": {"skip": 4},
        "skip 4, z 4.5": {"skip": 4, "least": 4.5},
        "by video": {"place": tracklets.video},
        "not centered": {"place": np.zeros(len(tracklets), np.int64)},
        "no constraints": {"rules": Rules()},
    }
    for name, change in changes.items():
        how = {"place": camera, "rules": RULES, **change}
        if name == "not centered":
            how["skip"] = trace.skipped["average-link"]
        yield name, average_link(tracklets, moved, **how).crop_identity  # type: ignore[arg-type]


def probabilities(settings: list[tuple[str, Iterator[World]]]) -> dict[str, object]:
    """Expected and true shares of right pairs of tracklets, as linked and where `ASKED` is asked for."""
    table, links = [], []
    for cell, worlds in settings:
        rows = []
        for tracklets, truth, camera in worlds:
            start = Assignment.untouched(tracklets)
            cst = calibrate(tracklets, start, resamples=0).sigma_cst
            moved = reallocate(tracklets, single_tracklet(tracklets, start, sigma_cst=cst), sigma_cst=cst)
            who = majority(tracklets, moved, truth)
            row = []
            for asked in (None, ASKED):
                trace = Trace()
                how = {"place": camera, "rules": RULES, "trace": trace, "precision": asked}
                identity = average_link(tracklets, moved, **how).identity  # type: ignore[arg-type]
                pairs, right = pairs_of(identity[who >= 0], who[who >= 0])
                row += [trace.precision["average-link"], right / pairs, right]
                if asked is None:
                    made = trace.link_columns()
                    same = who[made["first"]] == who[made["second"]]
                    links.append(np.stack([made["probability"], same]))
            rows.append(row)
        said, true, all_right, _, true_asked, kept = np.array(rows).T
        table.append(
            {
                "cell": cell,
                "expected": said.round(4).tolist(),
                "true": true.round(4).tolist(),
                "true_where_asked": true_asked.round(4).tolist(),
                "right_pairs_kept": (kept / all_right).round(4).tolist(),
            }
        )
        print(
            f"{cell}: expected {said.mean():.3f}, true {true.mean():.3f}; asked {ASKED}: "
            f"true {true_asked.mean():.3f}, {(kept / all_right).mean():.0%} of right pairs kept",
            flush=True,
        )
    off = np.array([np.mean(row["expected"]) - np.mean(row["true"]) for row in table])
    each = np.concatenate([np.subtract(row["expected"], row["true"]) for row in table])
    sure, right = np.concatenate(links, axis=1)
    bins = [0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.01]
    reliability = [
        {
            "links": int(mine.sum()),
            "probability": round(float(sure[mine].mean()), 3),
            "right": round(float(right[mine].mean()), 3),
        }
        for low, high in itertools.pairwise(bins)
        if (mine := (sure >= low) & (sure < high)).any()
    ]
    verdict = {
        "settings_within_0.07": f"{int((abs(off) <= 0.07).sum())} of {len(off)}",
        "runs_within_0.07": f"{int((abs(each) <= 0.07).sum())} of {len(each)}",
        "mean_error": round(float(each.mean()), 4),
        "spread_of_error": round(float(each.std()), 4),
    }
    print(verdict, *reliability, sep="\n")
    return {"verdict": verdict, "reliability": reliability, "table": table}


def pairs_of(identity: np.ndarray, who: np.ndarray) -> tuple[int, int]:
    """The pairs of tracklets of one identity, and those of them that are one person."""
    alike = np.unique(np.stack([identity, who]), axis=1, return_counts=True)[1]
    sizes = np.bincount(identity)
    return int((sizes * (sizes - 1)).sum() // 2), int((alike * (alike - 1)).sum() // 2)


def best_of_cosine(tracklets: TrackletSet, moved: Assignment, truth: np.ndarray) -> np.ndarray:
    """Average linkage of cosines at the threshold, of 30 and from the strictest on, with the highest B-cubed F1."""
    nodes = Nodes.of(tracklets, moved)
    cosine = nodes.centers @ nodes.centers.T
    count = len(cosine)
    plain = Similarities(nodes.centers, np.zeros(count), np.ones(count))
    cannot_link = RULES.cannot_link(tracklets, moved.tracklet)
    constraint = Constraint(cannot_link, nodes.of_tracklet)
    best, out = -1.0, moved.crop_identity
    for least in 1 - np.geomspace(0.01, 0.6, 30):
        first, second = np.nonzero(np.triu(cosine >= least - 1e-4, 1))
        distance = np.maximum(1 - cosine[first, second], 0)
        made = average_linkage(plain, Links(first, second, distance), float(least), constraint)
        identity = nodes.grouped("average", moved, made, cannot_link, None).crop_identity
        score = score_identities(truth, identity).bcubed_f1
        if score < best - 0.05:
            break
        if score > best:
            best, out = score, identity
    return out


def majority(tracklets: TrackletSet, moved: Assignment, truth: np.ndarray) -> np.ndarray:
    """The person on most crops of each tracklet; one of its own where most show nobody; -1 for empty ones."""
    kept = moved.tracklet >= 0
    table = np.zeros((len(tracklets), int(truth.max()) + 2), np.int32)
    np.add.at(table, (moved.tracklet[kept], truth[kept] + 1), 1)
    who = table.argmax(axis=1) - 1
    who = np.where(who < 0, int(truth.max()) + 1 + np.arange(len(who)), who)
    return np.where(table.sum(axis=1) > 0, np.unique(who, return_inverse=True)[1], -1)


def mean(table: list[dict[str, object]], cell: str, linking: str, score: str) -> float:
    row = next(row for row in table if (row["cell"], row["linking"]) == (cell, linking))
    return float(np.mean(row[score]))  # type: ignore[arg-type]


def print_cell(table: list[dict[str, object]], cell: str) -> None:
    if table[0]["cell"] == cell:
        print("| B-cubed / pairwise F1 | " + " | ".join(row["linking"] for row in table) + " |")  # type: ignore[misc]
        print("|" + "---|" * (len(table) + 1))
    rows = [row["linking"] for row in table if row["cell"] == cell]
    scores = (
        f"{mean(table, cell, name, 'bcubed_f1'):.1f} / {mean(table, cell, name, 'pairwise_f1'):.1f}" for name in rows
    )
    print(f"| {cell} | " + " | ".join(scores) + " |", flush=True)


def verdicts(table: list[dict[str, object]]) -> list[str]:
    """In how many settings the default is best, and its smallest lead over the calibrated closure."""
    names = list(dict.fromkeys(str(row["cell"]) for row in table))
    out = []
    of: Callable[[str, str, str], float] = lambda cell, linking, score: mean(table, cell, linking, score)  # noqa: E731
    for score in ("bcubed_f1", "pairwise_f1"):
        others = (BASELINE, PAPER, CLOSURE, COSINE)
        best = [cell for cell in names if of(cell, OURS, score) >= max(of(cell, other, score) for other in others)]
        leads = {cell: of(cell, OURS, score) - of(cell, CLOSURE, score) for cell in names}
        least = min(leads, key=leads.__getitem__)
        losing = ", ".join(cell for cell in names if cell not in best) or "none"
        out.append(f"{score}: {OURS} is best in {len(best)} of {len(names)} settings (not in: {losing})")
        out.append(
            f"  lead over {CLOSURE}: {np.mean(list(leads.values())):.1f} on average, least {leads[least]:.1f} ({least})"
        )
    return out


if __name__ == "__main__":
    main()
