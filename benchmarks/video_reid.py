"""GRL against attention and average pooling of clips, on a tree in the layout of MARS of people who are not trained on.

    python benchmarks/video_reid.py OUT                        # the table: three seeds, kept in results/video_reid.json
    python benchmarks/video_reid.py OUT --seeds 10 11          # seeds that choices were made on; nothing is kept
    python benchmarks/video_reid.py OUT --device cuda --jobs 6 # the same on a GPU, several runs at a time; larger:
        --set steps=1500 --set 'arguments={width: 32}'
    python benchmarks/video_reid.py OUT --quick                # tiny, a minute
    python benchmarks/video_reid.py OUT --step-time [--device cuda --precision bfloat16 --workers 14 --peak-tflops 989]

Tracklets are rendered with what trackers and crowds do to them: crops of another person, tracklets that change over to
another person about midway, crops of nobody, and people who walk through the picture before the one who is followed.
They are written as MARS is, and all that follows are commands as a user types them:

    reappear ingest OTHER --layout mars --out start; reappear pretrain start --labels given --backbone cnn6
    reappear finetune --data mars:SEED --method grl --method.pooling POOLING --init start/models/start --name POOLING
    reappear evaluate mars:SEED --protocol video --model SEED/models/POOLING

All arms begin with one backbone, which learned from other people in other cameras, and have one data path, the same
steps, and the same losses as far as they have the vectors for them; only what makes a clip's vector of its frames
differs. Weights are selected, and curves drawn, on training people who are held out. Scored on the test people: a clip
of each tracklet, the first of each person in each camera as query, all in the gallery. A step that is done is not done
again.

`--step-time` measures steps of ResNet-50 on clips of 8 frames of 256x128, arms by turns in rounds: clips a second of
the median round, and where the time of GRL goes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from video_sets import Drawn, drawn, options, reappear, write_mars

from reappear.core import ImageTable, offsets_to_owner
from reappear.data import Images
from reappear.methods.registry import METHODS
from reappear.methods.setup import Setup, choose_device
from reappear.models import Embedder
from reappear.models.describe import describe_model
from reappear.pipeline.finetune import FinetuneSettings
from reappear.pipeline.settings import resolve
from reappear.pipeline.training import CropImages
from reappear.train.loop import Run, train
from reappear.train.optimizer import Schedule

ARMS = ("average", "attention", "grl")
COMPARED = ("average", "grl")
SEEDS = (20, 21, 22)
OTHERS = 100  # seed of the people whom the first weights know
FRAMES = 8
NETWORK: dict[str, Any] = {"backbone": "cnn6", "arguments": "{width: 16}", "height": 64, "width": 32}
TRAINED: dict[str, Any] = {
    "steps": 150,
    "images_per_step": 128,
    "optimizer": "adam",
    "lr": 5e-4,
    "final_lr": 1e-5,
    "warmup": 0.1,
    "weight_decay": 5e-4,
    "final_weight_decay": 5e-4,
    "method.augment.padding": 3,
    "validation_share": 0.1,
    "validation_every": 50,
    "log_every": 50,
}


def tree(folder: Path, seed: int, *, quick: bool) -> Drawn:
    """A tree in the layout of MARS; the tracklets of its test part."""
    people, held, crops = (12, 8, 8) if quick else (120, 60, 10)
    test = drawn(held, crops, 1000 + seed)
    if not (folder / "mars").exists():
        staging, training = folder / "mars.partial", drawn(people, crops, seed)
        write_mars(staging, train=training, test=test)
        (folder / "shares.json").write_text(json.dumps(training.shares))
        staging.rename(folder / "mars")
    return test


def start(out: Path, asked: argparse.Namespace) -> Path:
    """The backbone that all begin with: it learned from tracklets of other people in other cameras."""
    work, (people, crops, steps) = out / "start", (12, 8, 8) if asked.quick else (200, 10, 160)
    if not (work / "mars").exists():
        write_mars(work / "mars.partial", train=drawn(people, crops, OTHERS))
        (work / "mars.partial").rename(work / "mars")
    reappear("ingest", work / "mars", "--layout", "mars", "--out", work)
    settings = NETWORK | {"steps": steps, "device": asked.device} | ({"images_per_step": 48} if asked.quick else {})
    reappear("pretrain", work, "--labels", "given", "--name", "start", *options(settings))
    return work / "models" / "start"


def run(folder: Path, init: Path, seed: int, arm: str, changes: dict[str, Any], test: Drawn) -> dict[str, Any]:
    """Trains one model and scores it."""
    begun, data, model = time.perf_counter(), f"mars:{folder / 'mars'}", folder / "models" / arm
    settings = NETWORK | TRAINED | {"seed": seed} | changes
    pooling = ["--method", "grl", "--method.pooling", arm, "--init", init]
    reappear("finetune", "--data", data, "--out", folder, "--name", arm, *pooling, *options(settings))
    seconds = time.perf_counter() - begun
    words = ["--protocol", "video", "--model", model, "--out", folder, "--name", arm]
    (scores,) = reappear("evaluate", data, *words)["evaluations"]
    rows = [json.loads(line) for line in (model / "metrics.jsonl").read_text().splitlines()]
    return {
        "arm": arm,
        "seed": seed,
        "shares": json.loads((folder / "shares.json").read_text()),
        "map": scores["mean_ap"],
        "rank1": scores["cmc"][0],
        "correlation": correlation_of(Embedder.load(model), test) if arm == "grl" else {},
        "curve": [[row["step"], round(row["validation_map"], 4)] for row in rows if "validation_map" in row],
        "last": {name: value for name, value in rows[-1].items() if name.endswith(("loss", "accuracy", "pairs"))},
        "seconds": round(seconds, 1),
    }


def correlation_of(embedder: Embedder, of: Drawn) -> dict[str, float]:
    """Mean correlation of crops with their tracklet by what they show, and of the places that an occluder covers.

    `occluder` is the difference to the same places of the crops of the tracklet that nobody hides.
    """
    truth, mean, differences = of.truth, np.zeros(len(of.hidden)), []
    clear = ~(of.another | truth.background | of.hidden)
    for first, last in pairwise(truth.offsets.tolist()):
        maps = embedder.correlations(list(of.pixels[first:last]))
        mean[first:last] = maps.mean((1, 2))
        if not clear[first:last].any():
            continue
        usual = maps[clear[first:last]].mean(0)
        rows, columns = usual.shape
        height, width = of.pixels.shape[1:3]
        for crop in np.flatnonzero(of.hidden[first:last] & ~of.another[first:last]):
            top, left, right = of.covered[first + crop]
            there = np.s_[-(-top * rows // height) :, round(left * columns / width) : round(right * columns / width)]
            if usual[there].size:
                differences.append(float((maps[crop] - usual)[there].mean()))
    shown = {
        "the person": clear,
        "hidden": of.hidden & ~of.another & ~truth.background,
        "another": of.another,
        "nobody": truth.background,
    }
    found = {name: round(float(mean[mask].mean()), 4) for name, mask in shown.items() if mask.any()}
    return found | ({"occluder": round(float(np.mean(differences)), 4)} if differences else {})


def table_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread of each arm, and what GRL is above average pooling of the same seed."""

    def of(arm: str, key: str) -> list[float]:
        return [round(100 * row[key], 2) for row in sorted(runs, key=lambda row: row["seed"]) if row["arm"] == arm]

    table: dict[str, Any] = {}
    for arm in ARMS:
        if not of(arm, "map"):
            continue
        table[arm] = {"each": of(arm, "map")}
        for key in ("map", "rank1"):
            table[arm][key] = round(statistics.mean(of(arm, key)), 2)
        table[arm]["sd"] = round(statistics.stdev(of(arm, "map")), 2) if len(of(arm, "map")) > 1 else None
        table[arm]["seconds"] = round(statistics.median(row["seconds"] for row in runs if row["arm"] == arm), 1)
        curves = [row["curve"] for row in runs if row["arm"] == arm]
        table[arm]["held_out"] = [
            [points[0][0], round(100 * statistics.mean(value for _, value in points), 2)]
            for points in zip(*curves, strict=True)
        ]
    if len(of("grl", "map")) == len(of("average", "map")):
        table["grl above average"] = [
            round(a - b, 2) for a, b in zip(of("grl", "map"), of("average", "map"), strict=True)
        ]
    return table


def compare(asked: argparse.Namespace) -> dict[str, Any]:
    """All runs that are asked for, and their table."""
    changes: dict[str, Any] = {"device": asked.device, **dict(text.split("=", 1) for text in asked.set)}
    if asked.quick:
        changes = {"steps": 8, "images_per_step": 64, "validation_share": 0.25, "validation_every": 4, **changes}
    folders = {seed: asked.out / f"seed{seed}" for seed in asked.seeds}
    tests = {seed: tree(folder, seed, quick=asked.quick) for seed, folder in folders.items()}
    init = start(asked.out, asked)
    with ThreadPoolExecutor(asked.jobs) as pool:
        jobs = [(seed, arm) for seed in asked.seeds for arm in asked.arms]
        runs = []
        for found in pool.map(lambda job: run(folders[job[0]], init, *job, changes, tests[job[0]]), jobs):
            runs.append(found)
            print(json.dumps(found), flush=True)
    table = table_of(runs)
    print(json.dumps(table, indent=1))
    return {"table": table, "settings": NETWORK | TRAINED | changes, "runs": runs}


def step_time(asked: argparse.Namespace) -> dict[str, Any]:
    """Clips a second of each arm, and where the time of GRL goes."""
    device, clips = choose_device(asked.device), 4 if asked.quick else asked.clips
    sizes: dict[str, Any] = {
        "backbone": "resnet50",
        "arguments": {},
        "height": 256,
        "width": 128,
        "images_per_step": FRAMES * clips,
    }
    if asked.quick:
        sizes |= {"backbone": "cnn6", "height": 64, "width": 32}
    plain = {**sizes, "steps": asked.steps + 1, "precision": asked.precision, "workers": asked.workers,
             "threads": asked.threads, "compile": asked.compile, "log_every": asked.steps + 1,
             "checkpoint_every": 10**9, "device": asked.device}  # fmt: skip
    images = images_of(drawn(max(4, clips // 2), 8, 0))
    tasks: dict[str, Any] = {}

    def task_of(arm: str) -> Any:
        settings = resolve(FinetuneSettings, {**plain, "method": {"kind": "grl", "pooling": arm}})
        held = CropImages(images, max_height=2 * settings.height, memory_mb=4096)
        return METHODS["grl"].build(
            Setup(settings, settings.method, held, images.table, "true", settings.steps or 1, device)
        )

    rates: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for _ in range(asked.rounds):
        for arm in ARMS:
            tasks[arm] = task_of(arm)
            settings = tasks[arm].setup.training
            torch.set_num_threads(settings.threads)
            rows = train(tasks[arm], Schedule(asked.steps + 1, settings), settings, Run(None, device))
            rates[arm].append(rows[-1]["images_per_second"] / FRAMES)
    medians = {arm: statistics.median(each) for arm, each in rates.items()}
    spread = {arm: [round(min(each), 2), round(max(each), 2)] for arm, each in rates.items()}
    gmacs = FRAMES * describe_model(sizes["backbone"], height=sizes["height"], width=sizes["width"]).gmacs
    figures: dict[str, Any] = {
        "clips_per_second": {arm: round(rate, 2) for arm, rate in medians.items()},
        "least_and_most": spread,
        "times_average": {arm: round(medians["average"] / rate, 3) for arm, rate in medians.items()},
        "backbone_gmacs_per_clip": round(gmacs, 2),
        "where": _where(tasks["grl"], clips, device),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "peak_mb": torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else measure.peak_mb(),
    }
    if asked.peak_tflops:
        figures["flops_used_by_average"] = round(6e9 * gmacs * medians["average"] / (1e12 * asked.peak_tflops), 3)
    print(json.dumps(figures, indent=1))
    return figures


def images_of(of: Drawn) -> Images:
    """Drawn tracklets as a set of images."""
    owner = offsets_to_owner(of.truth.offsets)
    rows = np.arange(len(owner))
    table = ImageTable(rows, of.person[owner], of.truth.video[owner], owner, np.full(len(rows), "train"), frame=rows)
    return Images(table, list(of.jpegs).__getitem__)


def _where(task: Any, clips: int, device: torch.device) -> dict[str, float]:
    """Seconds of the parts of a step of GRL, each by itself, forwards and backwards."""
    model, settings = task.student.backbone, task.setup.training
    data = task.phase(0, None).data
    batch = data[0].to(device)
    pixels = task.student._normalise(batch.clips.flatten(0, 1).flatten(0, 1)).view(
        clips, FRAMES, 3, *batch.clips.shape[-2:]
    )
    half = getattr(torch, settings.precision)

    def timed(part: Callable[[], torch.Tensor]) -> float:
        def once() -> None:
            with torch.autocast(device.type, half, enabled=half != torch.float32):
                value = part()
            value.float().sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize()

        once()
        return round(measure.seconds(once, 3), 5)

    with torch.no_grad(), torch.autocast(device.type, half, enabled=half != torch.float32):
        maps = model._maps(pixels).float()
        high = (model.correlation(maps) * maps).float()
    maps, high = maps.requires_grad_(), high.requires_grad_()
    return {
        "batch": round(measure.seconds(lambda: data[0], 2), 5),
        "backbone": timed(lambda: model._maps(pixels)),
        "correlation": timed(lambda: model.correlation(maps)),
        "two directions": timed(lambda: sum(d(high, maps - high)[1] for d in (model.forwards, model.backwards))),
        "network": timed(lambda: torch.cat([part.flatten(0, -2) for part in model.clips(pixels)])),
        "network and losses": timed(lambda: task.training_step(batch, 0).loss),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--arms", nargs="+", default=list(COMPARED), choices=ARMS)
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each in a process")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", action="append", default=[], help="a setting of finetune for all arms, as lr=1e-3")
    parser.add_argument("--quick", action="store_true", help="tiny; nothing is kept")
    parser.add_argument("--step-time", action="store_true", help="time of steps of ResNet-50")
    parser.add_argument("--clips", type=int, default=16, help="of a step, with --step-time; as the other options below")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak-tflops", type=float, help="of the processor, dense, in this precision")
    asked = parser.parse_args()
    started_on = measure.machine()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.step_time:
        figures = step_time(asked)
        if not asked.quick:
            measure.keep(f"video_reid_step_{choose_device(asked.device).type}", figures, started_on)
        return
    whole = asked.seeds is None and set(asked.arms) >= set(COMPARED) and not asked.quick and not asked.set
    asked.seeds = asked.seeds or ([10] if asked.quick else list(SEEDS))
    found = compare(asked)
    if whole:
        measure.keep("video_reid", found, started_on)


if __name__ == "__main__":
    main()
