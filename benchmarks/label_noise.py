"""Measures the precision of each kind of label issue on a set of real people with injected label errors.

python benchmarks/label_noise.py DATA EXTRACTOR --film FILM [--seeds 5] [--cache FOLDER] [--quick]

DATA has the Market-1501 layout; EXTRACTOR is a network for `reappear embed`; FILM is a video of a static camera. For
each seed, 250 people are drawn from positions 1 to 567 (sorted by number; the last 200 are reserved for other tests).
Then 5 % of crops get the label of another person of their camera, 2 % are replaced by crops of people who are not in
the set and 2 % by crops of the empty background of FILM, a tenth of the people are split into two labels, and a tenth
are merged in pairs. A line of `export-data --to label-issues` is correct if the crop does not show the main person of
its label, or if the suggested label mostly shows the same person. `pipeline/label_issues.py` orders its lines by these
precisions, pooled over seeds.
"""

import argparse
import csv
import tempfile
from collections import Counter
from pathlib import Path

import measure
import numpy as np
from noise_injection import embedded_clutter, embedded_people

from reappear.core import generator
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.export_data import ExportDataSettings, export_data
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.workspace import Workspace
from reappear.store import read_table

PART, PEOPLE, STRANGERS = slice(0, 567), 250, 50
WRONG, FOREIGN, CHANGED = 0.05, 0.04, 0.1
FIRST = 100  # lines that somebody looks through


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("extractor")
    parser.add_argument("--film", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "reappear-noise-injection")
    parser.add_argument("--quick", action="store_true", help="1 seed, nothing kept")
    given = parser.parse_args()
    machine = measure.machine()
    rows, person, camera = embedded_people(given.data, given.extractor, given.cache)
    clutter = embedded_clutter(given.film, given.extractor, given.cache)
    found: Counter[str] = Counter()
    right: Counter[str] = Counter()
    first, by_score = [], []
    for seed in range(1 if given.quick else given.seeds):
        kinds, good, score = run(rows, person, camera, clutter, generator(seed, "label noise"))
        found.update(kinds)
        right.update(kind for kind, hit in zip(kinds, good, strict=True) if hit)
        first.append(float(np.mean(good[:FIRST])))
        by_score.append(float(np.mean(np.array(good)[np.argsort(-score, kind="stable")][:FIRST])))
    table = [
        {"reason": kind, "lines": found[kind], "right": right[kind], "precision": round(right[kind] / found[kind], 3)}
        for kind in sorted(found)
    ]
    for line in table:
        print(f"{line['reason']:>18}  {line['right']:5} of {line['lines']:5} right: {line['precision']:.3f}")
    print(f"of the first {FIRST} lines, {np.mean(first):.3f} are right; by score alone {np.mean(by_score):.3f}")
    if not given.quick:
        measure.keep(
            "label_noise",
            {"seeds": given.seeds, "first_lines_right": first, "by_score_alone": by_score, "table": table},
            machine,
        )


def run(
    rows: np.ndarray, person: np.ndarray, camera: np.ndarray, clutter: np.ndarray, rng: np.random.Generator
) -> tuple[list[str], list[bool], np.ndarray]:
    """Kind, correctness and score of each label issue."""
    drawn = rng.permutation(np.unique(person)[PART])
    inside, outside = (np.isin(person, some) for some in (drawn[:PEOPLE], drawn[PEOPLE : PEOPLE + STRANGERS]))
    mine = np.flatnonzero(inside)
    label = person[mine].copy()
    for i in np.flatnonzero(rng.random(len(mine)) < WRONG):
        label[i] = rng.choice(np.setdiff1d(person[mine][camera[mine] == camera[mine[i]]], person[mine[i]]))
    features, truth, eye = rows[mine], person[mine], camera[mine]
    foreign, nobody = np.array_split(np.flatnonzero(rng.random(len(mine)) < FOREIGN), 2)
    impostors = rng.choice(np.flatnonzero(outside), len(foreign), replace=False)
    features[foreign], truth[foreign] = rows[impostors], person[impostors]
    features[nobody], truth[nobody] = clutter[rng.choice(len(clutter), len(nobody), replace=False)], -1
    many = int(PEOPLE * CHANGED)
    for one in drawn[:many]:
        some = np.flatnonzero(label == one)
        label[some[rng.random(len(some)) < 0.5]] = person.max() + 1 + one
    for one, other in drawn[many : 2 * many - many % 2].reshape(-1, 2):
        label[label == other] = one
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        np.save(folder / "v.npy", features)
        with (folder / "v.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("identity", "camera"), *zip(label, eye, strict=True)])
        work = Workspace(folder / "w")
        ingest([folder / "v.npy"], work, IngestSettings())
        correlate(work, "round0", CorrelateSettings(), embeddings="round0")
        export_data(work, folder / "out", ExportDataSettings(to="label-issues"), identities="round0")
        table = read_table(folder / "out" / "label_issues.parquet")
        source = read_table(work.crops / "sources.parquet")["row"]
    shown = {str(name): most(truth[label == name]) for name in np.unique(label)}
    good = []
    for crop, own, suggested in zip(table["crop"], table["given"], table["suggested"], strict=True):
        who = truth[source[crop]]
        other = shown.get(str(suggested)) if suggested != own else None
        good.append(bool(who != shown[str(own)] or (other is not None and other == who)))
    return [str(kind) for kind in table["reason"]], good, np.nan_to_num(table["score"], nan=-2)


def most(people: np.ndarray) -> int:
    values, counts = np.unique(people, return_counts=True)
    return int(values[np.argmax(counts)])


if __name__ == "__main__":
    main()
