"""Identities of a workspace linked by vectors of tracklets against means of vectors of crops.

    python benchmarks/video_linking.py OUT --worlds WORLD20/work WORLD21/work WORLD22/work   # kept in results/
    parts: [--arms NAME ...] [--set NAME=VALUE ...]; trials: --trial, nothing is kept

Workspaces hold the videos of synthetic worlds with their ground truth (`reappear synthesize`, `reappear ingest
--truth-ids global --camera prefix`); they are copied, as far as they are crops. Each is trained on once, as a user
would, and the model links the tracklets of the next one, whose people and cameras it does not know:

    reappear embed A; reappear correlate A                                  # identities by colours, to learn from
    reappear pretrain A --name start
    reappear finetune --data A --method grl --method.pooling POOLING --init A/models/start
    reappear embed B --extractor A/models/grl --name grl; reappear correlate B --embeddings grl --name grl

Scores are of identities against the truth, in percent: as `correlate` finds them; with a fixed number of neighbours
left out of a neighbourhood, which is what it chooses in these worlds by colours; and the mAP of tracklets across
cameras, of which no threshold is a part. A step that is done is not done again.
"""

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import measure
import numpy as np
from video_sets import options, reappear

from reappear.core import Assignment, TrackletSet
from reappear.denoise import Rules, Trace, average_link, calibrate, reallocate, single_tracklet
from reappear.denoise.nodes import Nodes
from reappear.metrics import rank, score_identities
from reappear.pipeline.correlate.choices import linked_rows
from reappear.pipeline.workspace import Workspace
from reappear.store import read_embeddings, read_tracklet_vectors

ARMS = ("average", "grl")
SKIPPED = 15
RULES = Rules(constraints=True, guard="diameter")
START = {"backbone": "cnn6", "arguments": "{width: 16}", "steps": 160, "device": "cpu"}
TRAINED: dict[str, Any] = {
    "steps": 150,
    "images_per_step": 128,
    "optimizer": "adam",
    "lr": 5e-4,
    "warmup": 0.1,
    "weight_decay": 5e-4,
    "final_weight_decay": 5e-4,
    "validation_share": 0,
    "validation_every": 0,
    "height": 64,
    "width": 32,
    "method.augment.padding": 3,
    "device": "cpu",
}


def prepared(source: Path, work: Path) -> Path:
    """A workspace with the crops of another, and identities by their colours."""
    if not (work / "crops").exists():
        shutil.copytree(source / "crops", work / "crops")
    reappear("embed", work)
    reappear("correlate", work)
    return work


def trained(work: Path, arms: list[str], changes: dict[str, Any]) -> dict[str, Path]:
    """Models that learned from the identities found in a workspace; the first is where the others begin."""
    reappear("pretrain", work, "--name", "start", *options(START))
    models = {"start": work / "models" / "start"}
    for arm in arms:
        data = f"workspace,identities=round0:{work}"
        named = ["--method", "grl", "--method.pooling", arm, "--init", models["start"]]
        reappear("finetune", "--data", data, "--out", work, "--name", arm, *named, *options(TRAINED | changes))
        models[arm] = work / "models" / arm
    return models


def scored(work: Path, embeddings: str, *, by_tracklets: bool = False) -> dict[str, float]:
    """Scores of tracklets by the means of their crops' vectors, or by vectors of their own."""
    crops = Workspace(work).open_crops()
    truth = np.asarray(crops.crops["truth"], np.int64)
    camera = np.unique([video.camera for video in crops.videos], return_inverse=True)[1]
    folder = Workspace(work).embeddings(embeddings)
    tracklets = crops.tracklet_set(np.asarray(read_embeddings(folder)[0]))
    place, start = camera[tracklets.video], Assignment.untouched(tracklets)
    cst = calibrate(tracklets, start, resamples=0).sigma_cst
    moved = reallocate(tracklets, single_tracklet(tracklets, start, sigma_cst=cst), sigma_cst=cst)
    out: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        compared = tracklets
        if by_tracklets:
            compared = linked_rows(tracklets, read_tracklet_vectors(folder), Path(scratch) / "rows.npy") or tracklets
        for name, skip in (("default", None), ("skipped", SKIPPED)):
            trace = Trace()
            found = average_link(compared, moved, skip=skip, place=place, rules=RULES, trace=trace)
            scores = score_identities(truth, found.crop_identity)
            out |= {f"{name}_pairwise": 100 * scores.pairwise_f1, f"{name}_bcubed": 100 * scores.bcubed_f1}
            out[f"{name}_identities"] = scores.identities
            out[f"{name}_neighbors_left_out"] = trace.skipped["average-link"]
        return out | {"map": 100 * tracklet_map(compared, moved, truth, place)}


def tracklet_map(tracklets: TrackletSet, moved: Assignment, truth: np.ndarray, place: np.ndarray) -> float:
    """MAP of all tracklets across cameras, each the mean of its rows less that of its camera, as linkage has it."""
    nodes = Nodes.centered(tracklets, moved, place)
    of = nodes.representative
    kept = moved.tracklet >= 0
    table = np.zeros((len(tracklets), int(truth.max()) + 2), np.int32)
    np.add.at(table, (moved.tracklet[kept], truth[kept] + 1), 1)
    who = table.argmax(axis=1)[of] - 1
    known = who >= 0
    rows, who, cameras = nodes.centers[known], who[known], place[of][known]
    return rank(rows, rows, query_ids=who, gallery_ids=who, query_cameras=cameras, gallery_cameras=cameras).mean_ap


def compare(asked: argparse.Namespace) -> list[dict[str, Any]]:
    changes = dict(text.split("=", 1) for text in asked.set)
    works = [prepared(source, asked.out / f"work{i}") for i, source in enumerate(asked.worlds)]
    rows: list[dict[str, Any]] = []
    for i, work in enumerate(works):
        linked = works[(i + 1) % len(works)]
        for name, model in trained(work, asked.arms, changes).items():
            reappear("embed", linked, "--extractor", model, "--name", name)
            for by in ("crops",) if name == "start" else ("crops", "tracklets"):
                rows.append({"trained_on": i, "model": name, "by": by})
                rows[-1] |= scored(linked, name, by_tracklets=by == "tracklets")
                print(json.dumps(rows[-1]), flush=True)
        rows.append({"trained_on": None, "model": "color", "by": "crops", **scored(linked, "round0")})
    return rows


def table_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the worlds."""
    table = []
    for key in dict.fromkeys((row["model"], row["by"]) for row in rows):
        mine = [row for row in rows if (row["model"], row["by"]) == key]
        names = [name for name in mine[0] if name.endswith(("pairwise", "bcubed", "map"))]
        means = {name: round(statistics.mean(row[name] for row in mine), 2) for name in names}
        each = [round(row["skipped_pairwise"], 2) for row in mine]
        table.append(dict(zip(("model", "by"), key, strict=True)) | means | {"each_skipped_pairwise": each})
        print(json.dumps(table[-1]))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--worlds", type=Path, nargs="+", required=True, help="workspaces, two or more")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=("average", "attention", "grl"))
    parser.add_argument("--set", action="append", default=[], help="a setting of finetune for all arms, as steps=600")
    parser.add_argument("--trial", action="store_true", help="nothing is kept")
    asked = parser.parse_args()
    started_on = measure.machine()
    rows = compare(asked)
    figures = {"settings": {**TRAINED, "start": START}, "table": table_of(rows), "rows": rows}
    if not asked.trial:
        measure.keep("video_linking", figures, started_on)


if __name__ == "__main__":
    main()
