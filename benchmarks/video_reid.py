"""GRL against attention and average pooling of clips, on drawn tracklets of people who are not trained on.

    python benchmarks/video_reid.py OUT                        # the table: three seeds, kept in results/video_reid.json
    python benchmarks/video_reid.py OUT --seeds 10 11          # seeds that choices were made on; nothing is kept
    python benchmarks/video_reid.py OUT --device cuda --jobs 6 # the same on a GPU, several runs at a time; larger:
        --set steps=1500 --set 'arguments={"width":32}'
    python benchmarks/video_reid.py OUT --quick                # tiny, under a minute
    python benchmarks/video_reid.py OUT --step-time [--device cuda --precision bfloat16 --workers 14 --peak-tflops 989]

Tracklets are rendered with what trackers and crowds do to them: crops of another person, tracklets that change over to
another person about midway, crops of nobody, and people who walk through the picture before the one who is followed.
All arms begin with one backbone, pre-trained on these tracklets by supcon, and have one data path, the same steps, and
the same losses as far as they have the vectors for them; only what makes a clip's vector of its frames differs. Scored
on other people, with the same disturbances and without any: a clip of each tracklet, the first of each person in each
camera as query. And what identities are found in them when tracklets are linked by these vectors, or by means of the
vectors of their crops. A run is kept, and the same command goes on after an interruption.

`--step-time` measures steps of ResNet-50 on clips of 8 frames of 256x128, arms by turns in rounds: clips a second of
the median round, and where the time of GRL goes.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import measure
import numpy as np
import torch

from reappear.core import ImageTable, TrackletSet, generator, offsets_to_owner, unit_rows
from reappear.data import Images
from reappear.methods.registry import METHODS, spec_of
from reappear.methods.setup import Setup, choose_device
from reappear.metrics import score_identities
from reappear.models import Embedder
from reappear.models.describe import describe_model
from reappear.pipeline.correlate import CorrelateSettings, identify
from reappear.pipeline.correlate.linking import linked_rows
from reappear.pipeline.finetune import FinetuneSettings
from reappear.pipeline.pretrain import PretrainSettings
from reappear.pipeline.settings import resolve, to_plain
from reappear.pipeline.training import CropImages
from reappear.pipeline.validation import Validation
from reappear.synthetic import TrackletPlan, TrackletTruth, render_tracklets
from reappear.train.loop import Run, train
from reappear.train.optimizer import Schedule

ARMS = ("average", "attention", "grl")
SEEDS = (20, 21, 22)
NOISE = {"swapped": 0.05, "switched": 0.2, "background": 0.05}
FRAMES = 8
OCCLUDED = 0.5  # share of tracklets that another person walks through
SHARED: dict[str, Any] = {
    "backbone": "cnn6",
    "arguments": {"width": 16},
    "height": 64,
    "width": 32,
    "steps": 300,
    "images_per_step": 128,
    "optimizer": "adam",
    "lr": 5e-4,
    "final_lr": 1e-5,
    "warmup": 0.1,
    "weight_decay": 5e-4,
    "final_weight_decay": 5e-4,
    "validation_share": 0,
    "log_every": 50,
    "checkpoint_every": 10**9,
}


@dataclass(frozen=True)
class Drawn:
    """Tracklets, and what is known of them: `person` of each tracklet, crops that someone `hides`."""

    images: Images
    truth: TrackletTruth
    person: np.ndarray
    hidden: np.ndarray

    @property
    def shares(self) -> dict[str, float]:
        """Shares of disturbed crops."""
        truth = self.truth
        found = {"another": truth.swapped | truth.switched, "nobody": truth.background, "hidden": self.hidden}
        return {name: round(float(mask.mean()), 3) for name, mask in found.items()}


def drawn(people: int, crops: int, seed: int, *, disturbed: bool = True) -> Drawn:
    """Tracklets of people who pass three cameras twice, each crop a JPEG."""
    plan = TrackletPlan(people=people, visits=2, crops=crops, seed=seed, **(NOISE if disturbed else {}))
    pixels, truth = render_tracklets(plan, lookalikes=0.15)
    hidden = _occlude(pixels, truth, seed) if disturbed else np.zeros(len(pixels), bool)
    owner = offsets_to_owner(truth.offsets)
    own = ~(truth.swapped | truth.switched | truth.background)
    person = np.array([np.bincount(truth.truth[(owner == t) & own]).argmax() for t in range(len(truth.video))])
    table = ImageTable(
        np.arange(len(pixels)),
        person[owner],
        truth.video[owner],
        owner,
        np.full(len(pixels), "train"),
        frame=np.arange(len(pixels)),
    )
    jpegs = [cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes() for image in pixels]
    return Drawn(Images(table, jpegs.__getitem__), truth, person, hidden)


def _occlude(pixels: np.ndarray, truth: TrackletTruth, seed: int) -> np.ndarray:
    """Lets others walk before people in some tracklets, in place; mask of crops of which they hide over a quarter."""
    random, before = generator(seed, "occluders"), pixels.copy()
    hidden = np.zeros(len(pixels), bool)
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
            hidden[row] = (shown.stop - shown.start) * (height - top) > 0.25 * height * width
    return hidden


@lru_cache(maxsize=1)
def data_of(seed: int, quick: bool) -> tuple[Drawn, dict[str, Drawn]]:
    """Tracklets to train on, and others to be scored on."""
    people, held, crops = (12, 8, 8) if quick else (200, 100, 12)
    scored = {name: drawn(held, crops, 1000 + seed, disturbed=name == "disturbed") for name in ("disturbed", "clean")}
    return drawn(people, crops, seed), scored


def linked_f1(embedder: Embedder, of: Drawn) -> dict[str, float]:
    """Pairwise F1 of identities that are linked by vectors of tracklets, and by means of their crops' vectors."""
    truth = of.truth
    crops = [of.images[row] for row in range(len(of.images))]
    rows = unit_rows(embedder(crops)).astype(np.float16)
    tracklets = TrackletSet(rows, truth.video, truth.start, truth.end, truth.offsets)
    frames = [crops[first:last] for first, last in pairwise(truth.offsets.tolist())]
    vectors = unit_rows(embedder.tracklets(frames)).astype(np.float16)
    with tempfile.TemporaryDirectory() as folder:
        linked = linked_rows(tracklets, vectors, Path(folder) / "rows.npy")
        settings = CorrelateSettings()
        made = {"crops": identify(tracklets, settings), "tracklets": identify(tracklets, settings, linked=linked)}
        return {
            name: score_identities(truth.truth, found.assignment.crop_identity).pairwise_f1
            for name, (found, _) in made.items()
        }


def correlation_of(embedder: Embedder, of: Drawn) -> dict[str, float]:
    """Mean correlation of crops with their tracklet, by what they show: what is not the person should have less."""
    truth, mean = of.truth, np.zeros(len(of.hidden))
    for first, last in pairwise(truth.offsets.tolist()):
        mean[first:last] = embedder.correlations([of.images[row] for row in range(first, last)]).mean((1, 2))
    another = truth.swapped | truth.switched
    shown = {
        "the person": ~(another | truth.background | of.hidden),
        "hidden": of.hidden & ~another & ~truth.background,
        "another": another,
        "nobody": truth.background,
    }
    return {name: round(float(mean[mask].mean()), 4) for name, mask in shown.items() if mask.any()}


def settings_of(job: dict[str, Any]) -> FinetuneSettings:
    """The same for all arms but the pooling."""
    method = {"kind": "grl", "pooling": job["arm"], "augment": {"padding": 3}}
    plain = {**SHARED, **job["settings"], "method": method, "seed": job["seed"], "init": job["start"]}
    return resolve(FinetuneSettings, plain | {"validation_every": max(1, plain["steps"] // 4)})


def start_of(job: dict[str, Any]) -> str:
    """Pre-trains the backbone that all arms of a seed begin with; returns its line of the log."""
    folder = Path(job["start"])
    if (folder / "README.md").exists():
        return ""
    finetuned, training = settings_of({**job, "start": None}), data_of(job["seed"], job["quick"])[0]
    shared = {name: getattr(finetuned, name) for name in ("backbone", "arguments", "height", "width", "seed", "device")}
    quick = {"steps": 8, "images_per_step": 48} if job["quick"] else {}
    settings = resolve(PretrainSettings, {**shared, **quick})
    torch.set_num_threads(settings.threads)
    device, table = choose_device(settings.device), training.images.table
    held = CropImages(training.images, max_height=2 * settings.height, memory_mb=4096)
    schedule = Schedule.of(settings, len(table))
    task = spec_of(settings.method).build(Setup(settings, settings.method, held, table, "true", schedule.steps, device))
    begun = time.perf_counter()
    train(task, schedule, settings, Run(None, device))
    task.export("student").save(folder, architecture=settings.backbone, arguments=settings.arguments)
    return f"{folder.name}: {schedule.steps} steps in {time.perf_counter() - begun:.0f} s"


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Trains one model and scores it."""
    settings = settings_of(job)
    device = choose_device(settings.device)
    torch.set_num_threads(settings.threads)
    training, others = data_of(job["seed"], job["quick"])
    scored = {
        name: Validation.of_tracklets(of.images, settings.preprocessing, frames=FRAMES) for name, of in others.items()
    }
    table = training.images.table
    held = CropImages(training.images, max_height=2 * settings.height, memory_mb=4096)
    schedule = Schedule.of(settings, len(table))
    task = spec_of(settings.method).build(Setup(settings, settings.method, held, table, "true", schedule.steps, device))
    embedder = task.export("student")
    begun = time.perf_counter()
    rows = train(task, schedule, settings, Run(None, device, validate=lambda: scored["disturbed"].scores(embedder)))
    seconds = time.perf_counter() - begun
    ranking = {name: of.rank(embedder) for name, of in scored.items()}
    return {
        **{name: job[name] for name in ("arm", "seed")},
        "settings": to_plain(settings),
        "images": len(table),
        "shares": training.shares,
        "map": ranking["disturbed"].mean_ap,
        "rank1": float(ranking["disturbed"].cmc[0]),
        "clean_map": ranking["clean"].mean_ap,
        "correlation": correlation_of(embedder, others["disturbed"]) if job["arm"] == "grl" else {},
        "linked_f1": linked_f1(embedder, others["disturbed"]),
        "curve": [[row["step"], round(row["validation_map"], 4)] for row in rows if "validation_map" in row],
        "last": {name: value for name, value in rows[-1].items() if name.endswith(("loss", "accuracy", "pairs"))},
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "seconds": seconds,
    }


def work_on(task: tuple[dict[str, Any], Path, float]) -> str:
    """One run in a worker process; returns its line of the log."""
    job, file, until = task
    if file.exists():
        return ""
    if time.time() > until:
        return f"{file.stem}: left out, no time"
    try:
        figures = run(job)
    except Exception as error:
        return f"{file.stem}: {type(error).__name__}: {error}"
    file.with_suffix(f".{os.getpid()}").write_text(json.dumps(figures))
    file.with_suffix(f".{os.getpid()}").rename(file)
    return f"{file.stem}: mAP {figures['map']:.4f}, clean {figures['clean_map']:.4f} in {figures['seconds']:.0f} s"


def table_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread of each arm, and what GRL is above average pooling of the same seed."""

    def of(arm: str, key: str) -> list[float]:
        return [round(100 * row[key], 2) for row in sorted(runs, key=lambda row: row["seed"]) if row["arm"] == arm]

    table: dict[str, Any] = {}
    for arm in ARMS:
        if not of(arm, "map"):
            continue
        table[arm] = {"each": of(arm, "map")}
        for key in ("map", "rank1", "clean_map"):
            table[arm][key] = round(statistics.mean(of(arm, key)), 2)
        for name in ("crops", "tracklets"):
            f1 = statistics.mean(row["linked_f1"][name] for row in runs if row["arm"] == arm)
            table[arm][f"f1_linked_by_{name}"] = round(100 * f1, 2)
        table[arm]["sd"] = round(statistics.stdev(of(arm, "map")), 2) if len(of(arm, "map")) > 1 else None
        table[arm]["seconds"] = round(statistics.median(row["seconds"] for row in runs if row["arm"] == arm), 1)
    if len(of("grl", "map")) == len(of("average", "map")):
        table["grl above average"] = [
            round(a - b, 2) for a, b in zip(of("grl", "map"), of("average", "map"), strict=True)
        ]
    return table


def compare(asked: argparse.Namespace) -> dict[str, Any] | None:
    """All runs that are asked for; their table where all are there."""
    until = time.time() + 60 * asked.minutes
    changes = dict(text.split("=", 1) for text in asked.set)
    changes = {"device": asked.device, **{name: json.loads(value) for name, value in changes.items()}}
    if asked.quick:
        changes = {"steps": 8, "images_per_step": 64, **changes}
    folder = asked.out / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [
        (
            {
                "arm": arm,
                "seed": seed,
                "settings": changes,
                "quick": asked.quick,
                "start": str(asked.out / f"start {seed}"),
            },
            folder / f"{arm} {seed}.json",
            until,
        )
        for seed in asked.seeds
        for arm in asked.arms
    ]
    with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
        for line in pool.imap_unordered(start_of, [job for job, *_ in tasks if job["arm"] == asked.arms[0]]):
            if line:
                print(line, flush=True)
        for line in pool.imap_unordered(work_on, tasks, chunksize=1):
            if line:
                print(line, flush=True)
    runs = [json.loads(file.read_text()) for _, file, _ in tasks if file.exists()]
    table = table_of(runs)
    print(json.dumps(table, indent=1))
    if len(runs) < len(tasks):
        sys.exit(f"{len(tasks) - len(runs)} of {len(tasks)} runs are missing")
    plain = [{name: value for name, value in row.items() if name != "settings"} for row in runs]
    return {"table": table, "settings": runs[0]["settings"], "runs": plain}


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
    plain = {**SHARED, **sizes, "steps": asked.steps + 1, "precision": asked.precision, "workers": asked.workers,
             "threads": asked.threads, "optimizer": "sgd", "compile": asked.compile, "log_every": asked.steps + 1,
             "device": asked.device}  # fmt: skip
    images = drawn(max(4, clips // 2), 8, 0).images
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
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each in a process")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=1e6, help="no run begins later")
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
    whole = asked.seeds is None and tuple(asked.arms) == ARMS and not asked.quick and not asked.set
    asked.seeds = asked.seeds or ([10] if asked.quick else list(SEEDS))
    found = compare(asked)
    if whole and found is not None:
        measure.keep("video_reid", found, started_on)


if __name__ == "__main__":
    main()
