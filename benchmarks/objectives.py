"""Compares methods of pre-training by what they learn from, at equal steps, images, views and first weights.

    python benchmarks/objectives.py OUT --crops CUHK03_NP --extractor WEIGHTS           # the table, kept in results/
    python benchmarks/objectives.py OUT --crops CUHK03_NP --extractor WEIGHTS --search  # variants, on development sets
    STARTS=FOLDER python benchmarks/objectives.py OUT ... --starts   # ImageNet or random, from `imagenet_starts.py`
    python benchmarks/objectives.py OUT --budgets                    # steps and people, CION and SupCon
    parts: [--sets NAME ...] [--arms NAME ...] [--seeds N ...] [--jobs N] [--device cuda] [--set NAME=VALUE ...]
    trials: [--quick] [--minutes N]

Sets are `world20` (synthetic videos; the number is the seed), `crops` (CUHK03-NP, `--crops`: a folder that holds
`bounding_box_train` in Market-1501's names), `crops_dev`, and `drawn300x0` (crops drawn without videos: people,
seed). Identities of CUHK03 are sorted by number: positions 1-567 are trained on, with tracklet = identity × camera, and
568-767 scored, with queries from one camera and the gallery from the other; nothing is chosen on those. `crops_dev`
trains on 1-467 and scores on 468-567. Worlds score on people who are not in the videos.

An arm is a method, with what differs from its defaults, and the labels it learns from. Each run is kept in OUT/runs, so
the same command goes on after an interruption, and processes may share the work by sets, arms or seeds.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import measure
import numpy as np
import torch
from variants import Footage, Variant, VariantSettings

from reappear.core import ImageTable
from reappear.methods.registry import spec_of
from reappear.methods.setup import Setup, choose_device
from reappear.models.extractors import extractor_settings_for
from reappear.models.preprocessing import Preprocessing
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.embed import EmbedSettings, embed
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.labels import crop_images, labelled_crops
from reappear.pipeline.pretrain import PretrainSettings
from reappear.pipeline.settings import parse_override, resolve, to_plain
from reappear.pipeline.synthesize import SynthesizeSettings, synthesize
from reappear.pipeline.training import CropImages
from reappear.pipeline.validation import Validation
from reappear.pipeline.workspace import Workspace
from reappear.store import read_identities
from reappear.synthetic.tracklets import TrackletPlan, render_tracklets
from reappear.train.loop import Run, train
from reappear.train.optimizer import Schedule

PARTS = {"crops": (567, 767), "crops_dev": (467, 567)}  # up to where is trained, and then scored
FOUND = "round0"
LABELS = {"image": "instance", "tracklet": "tracklet", "found": FOUND, "true": "true"}
# The network of the crops was chosen on `crops_dev`.
CROPS = {"backbone": "cnn6", "arguments": {"stripes": 4}, "steps": 400}
SHARED = {"precision": "bfloat16", "validation_every": 80}
CION = {"kind": "cion", "teacher_temperature": 0.04}  # at 0.03 tracklets of real crops soon share a few prototypes
PUBLISHED = {"kind": "supcon", "head_hidden": 512, "negatives": "any", "memory_weight": 0}
METHODS: dict[str, dict[str, Any]] = {
    "cion": {"method": CION},
    "dino": {"method": {"kind": "dino", "teacher_temperature": 0.04}},
    "moco": {
        "method": {"kind": "moco", "queue": 2048, "momentum": 0.99}
    },  # LUP's are for hundreds of thousands of steps
    "supcon as published": {"method": PUBLISHED},
    "memory": {"method": {"kind": "memory"}},
    "supcon": {"method": {"kind": "supcon"}},
}
TABLE = [
    ("random", "image"),
    ("moco", "image"),
    ("dino", "image"),
    *(
        (m, labels)
        for labels in ("found", "true", "tracklet")
        for m in ("cion", "supcon as published", "memory", "supcon")
    ),
]


def variant(**changes: Any) -> dict[str, Any]:
    """A change of SupCon's method."""
    return {"method": {**PUBLISHED, "kind": "variant", **changes}}


# Networks with the weights of `imagenet_starts.py`, at the size of its crops; rates chosen on `crops_dev`.
WEIGHTS = os.environ.get("STARTS", "starts")
SMALL = {"arguments": {}, "height": 128, "width": 64, "steps": 400}
IMAGENET = {**SMALL, "backbone": "mobilenetv2_100", "init": f"{WEIGHTS}/mobilenetv2_100"}
# A small transformer with patches of 8x8 pixels, so that 64x32 pixels are 32.
VIT = {
    "backbone": "vit_tiny_patch16_224",
    "arguments": {"img_size": [64, 32], "patch_size": 8, "depth": 6},
    "lr": 5e-4,
    "steps": 800,
    "validation_every": 200,
}


def curriculum(*stages: tuple[float, int]) -> dict[str, Any]:
    return {"method": {**PUBLISHED, "curriculum": stages}}


STARTS = {
    f"{method}, {backbone}, {start}": {
        **SMALL,
        "backbone": backbone,
        "method": METHODS[method]["method"],
        "lr": lr,
        "init": f"{WEIGHTS}/{backbone}" if start == "ImageNet" else None,
    }
    for backbone in ("mobilenetv2_100", "efficientnet_lite0")
    for method, lr in (("supcon", 1e-3), ("cion", 3e-4))
    for start in ("ImageNet", "random")
}
SEARCH: dict[str, dict[str, Any]] = {
    "supcon as published": METHODS["supcon as published"],
    "supcon": METHODS["supcon"],
    "cion": METHODS["cion"],
    "memory": METHODS["memory"],
    "memory, momentum 0.5": {"method": {"kind": "memory", "momentum": 0.5}},
    "memory, momentum 0.8": {"method": {"kind": "memory", "momentum": 0.8}},
    "memory, head 512": {"method": {"kind": "memory", "head_hidden": 512}},
    "memory, head 512, temperature 0.1": {"method": {"kind": "memory", "head_hidden": 512, "temperature": 0.1}},
    "memory, head 512, momentum 0.5": {"method": {"kind": "memory", "head_hidden": 512, "momentum": 0.5}},
    "temperature 0.05": {"method": {**PUBLISHED, "temperature": 0.05}},
    "temperature 0.07": {"method": {**PUBLISHED, "temperature": 0.07}},
    "temperature 0.15": {"method": {**PUBLISHED, "temperature": 0.15}},
    "queue 960": {"method": {**PUBLISHED, "queue": 960}},
    "queue 1920": {"method": {**PUBLISHED, "queue": 1920}},
    "teacher kept": {"method": PUBLISHED, "keep": "teacher"},
    "2 local views": {"method": PUBLISHED, "views": {"local_views": 2}},
    "2 images each": curriculum((0.0, 2)),
    "4 images each": curriculum((0.0, 4)),
    "8 images each": curriculum((0.0, 8)),
    "2, then 4 images each": curriculum((0.0, 2), (0.5, 4)),
    "48 images a step": {"method": PUBLISHED, "images_per_step": 48, "double_steps": True},
    "lr 1e-3": {"method": PUBLISHED, "lr": 1e-3},
    "lr 6e-3": {"method": PUBLISHED, "lr": 6e-3},
    "head 128": {"method": {**PUBLISHED, "head_hidden": 128, "head_width": 64}},
    "head linear": variant(head="linear"),
    "no head": variant(head="none"),
    "distillation 0.1": variant(distill=0.1),
    "distillation 0.5": variant(distill=0.5),
    "uncertain negatives 0.5": variant(uncertain=0.5),
    "uncertain negatives 0.1": variant(uncertain=0.1),
    "alike 0.3 % left out": variant(alike=0.003),
    "alike 1 % left out": variant(alike=0.01),
    "alike 3 % left out": variant(alike=0.03),
    "other tracklets 0.5": variant(linked=0.5),
    "other tracklets 2": variant(linked=2.0),
    "links by similarity": variant(by_similarity=True),
    "links by probability": variant(by_probability=True),
    "spread over tracklets": variant(spread=True),
    "seen together": variant(together="video"),
    "linear, one video": variant(head="linear", together="video"),
    "linear, one camera": variant(head="linear", together="camera"),
    "one camera": variant(together="camera"),
    "linear, one camera, spread": variant(head="linear", together="camera", spread=True),
    "linear, one video, spread": variant(head="linear", together="video", spread=True),
    "linear, one camera, temperature 0.07": variant(head="linear", together="camera", temperature=0.07),
    "linear, one camera, temperature 0.15": variant(head="linear", together="camera", temperature=0.15),
    "linear, one camera, temperature 0.2": variant(head="linear", together="camera", temperature=0.2),
    "linear, one camera, alike 1 %": variant(head="linear", together="camera", alike=0.01),
    "linear, one camera, alike 3 %": variant(head="linear", together="camera", alike=0.03),
    "linear, one camera, 2 local views": {**variant(head="linear", together="camera"), "views": {"local_views": 2}},
    "linear, one camera, 4 images each": variant(head="linear", together="camera", curriculum=((0.0, 4),)),
    "linear 256, one camera": variant(head="linear", together="camera", head_width=256),
    "linear, one camera, distillation 0.1": variant(head="linear", together="camera", distill=0.1),
    "linear, one camera, memory 0.3": variant(head="linear", together="camera", memory_weight=0.3),
    "linear, one camera, memory 1, by probability": variant(
        head="linear", together="camera", memory_weight=1.0, by_probability=True
    ),
    "linear, one camera, memory 1": variant(head="linear", together="camera", memory_weight=1.0),
    "linear, one camera, memory 3": variant(head="linear", together="camera", memory_weight=3.0),
    "ImageNet, lr 3e-4": {**IMAGENET, **variant(head="linear", together="camera"), "lr": 3e-4},
    "ImageNet, lr 1e-3": {**IMAGENET, **variant(head="linear", together="camera"), "lr": 1e-3},
    "ImageNet, lr 3e-3": {**IMAGENET, **variant(head="linear", together="camera"), "lr": 3e-3},
    "ImageNet, mlp, lr 1e-3": {**IMAGENET, **variant(), "lr": 1e-3},
    "ImageNet, cion, lr 3e-4": {**IMAGENET, "method": CION, "lr": 3e-4},
    "ImageNet, cion, lr 1e-3": {**IMAGENET, "method": CION, "lr": 1e-3},
    "erase 0.5": {"method": PUBLISHED, "views": {"erase": 0.5}},
    "vit": {**VIT, "method": PUBLISHED},
    "vit cion": {**VIT, "method": CION},
    "vit masked 0.3": {**VIT, **variant(masked=0.3)},
    "vit masked 1": {**VIT, **variant(masked=1.0)},
}


@dataclass(frozen=True)
class Source:
    """Crops with their labels by name, and the people to be scored on."""

    work: Workspace
    scored: Path
    real: bool


def prepare(name: str, asked: argparse.Namespace) -> Source:
    """Makes a set, or finds it made."""
    folder, extractor = asked.out / name, "color"
    ingested = IngestSettings(layout="market1501", labels_are_truth=True)
    if name in PARTS:
        split_of_crops(asked.crops, folder, name)
        sources, scored, extractor = [folder / "train"], folder / "scored", str(asked.extractor)
    elif name.startswith("drawn"):
        people, seed = (int(number) for number in name.removeprefix("drawn").split("x"))
        draw(folder, people, seed)
        sources, scored = [folder / "train"], folder / "scored"
    else:
        small = {"people": 24, "test_people": 12, "films": 2, "cameras": 2} if asked.quick else {}
        if not (folder / "world" / "test").exists():
            synthesize(folder / "world", SynthesizeSettings(seed=int(name.removeprefix("world")), **small))
        sources, scored = [folder / "world" / "films"], folder / "world" / "test"
        ingested = IngestSettings(camera="prefix", truth_ids="global")
    work = Workspace(folder / "work")
    if not (work.identities(FOUND) / "record.json").exists():
        ingest(sources, work, ingested)
        embed(work, FOUND, EmbedSettings(extractor=extractor_settings_for(extractor)))
        correlate(work, FOUND, CorrelateSettings(), embeddings=FOUND)
    return Source(work, scored, name in PARTS)


def split_of_crops(source: Path, out: Path, part: str) -> None:
    """`out/train` and `out/scored` in Market-1501's layout, as links."""
    if out.exists():
        return
    files = sorted((source / "bounding_box_train").glob("*.jpg"))
    people = sorted({file.name[:4] for file in files})
    trained, scored = PARTS[part]
    if len(people) < scored:
        raise SystemExit(f"{source} holds {len(people)} identities; {scored} are needed")
    place = {person: i for i, person in enumerate(people)}
    for file in files:
        position = place[file.name[:4]]
        if position >= scored:
            continue
        asks = "query" if file.name[4:7] == "_c1" else "bounding_box_test"
        link = out / ("train/bounding_box_train" if position < trained else f"scored/{asks}") / file.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.resolve())


def draw(out: Path, people: int, seed: int) -> None:
    """Drawn crops of people who pass three cameras, and of 100 others, in Market-1501's layout."""
    if out.exists():
        return
    for part, count, number in (("train", people, seed), ("scored", 100, 1000 + seed)):
        images, truth = render_tracklets(TrackletPlan(people=count, crops=5, seed=number), lookalikes=0.15)
        camera = np.repeat(truth.video, np.diff(truth.offsets))
        for i, image in enumerate(images):
            asks = "bounding_box_train" if part == "train" else ("query" if camera[i] == 0 else "bounding_box_test")
            file = out / part / asks / f"{truth.truth[i] + 1:04d}_c{camera[i] + 1}s1_{i:06d}_00.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])


@lru_cache(maxsize=2)
def held(source: Source, labels: str, height: int) -> tuple[ImageTable, CropImages]:
    """Labels and decoded crops."""
    table, _ = labelled_crops(source.work, labels)
    return table, CropImages(crop_images(source.work, table), max_height=2 * height, memory_mb=4096)


def footage_of(source: Source, table: ImageTable) -> Footage:
    """What is known of the crops beside their labels."""
    crops = source.work.open_crops()
    rows = np.asarray(table.path, np.int64)
    tracklet = np.asarray(crops.crops["tracklet"][rows])
    time_of = np.asarray(crops.crops["time"])
    offsets = crops.offsets
    start, end = (np.array([time_of[i] for i in edge])[tracklet] for edge in (offsets[:-1], offsets[1:] - 1))
    vectors = np.load(source.work.embeddings(FOUND) / "vectors.npy", mmap_mode="r")[rows]
    sure = np.zeros((len(offsets) - 1,) * 2, np.float32)
    group = [{t} for t in range(len(sure))]
    links = read_identities(source.work.identities(FOUND)).links
    for row in np.argsort(-links["similarity"], kind="stable"):  # as they were merged
        one, other = (group[links[end][row]] for end in ("first", "second"))
        sure[np.ix_([*one], [*other])] = sure[np.ix_([*other], [*one])] = links["probability"][row]
        both = one | other
        for t in both:
            group[t] = both
    video = np.asarray(crops.crops["video"][rows], np.int64)
    return Footage(video, start, end, np.asarray(vectors, np.float32), sure)


@lru_cache(maxsize=4)
def validation(source: Source, height: int, width: int) -> Validation:
    return Validation.of_folder(source.scored, Preprocessing(height=height, width=width))


def run(
    job: dict[str, Any], source: Source, after: Callable[[Any, Source], dict[str, Any]] = lambda task, source: {}
) -> dict[str, Any]:
    """Trains one model and scores it; `after` gives further figures from the trained task."""
    plain = {**SHARED, **(CROPS if source.real else {}), **job["settings"]}
    double = plain.pop("double_steps", False)
    method = plain.pop("method", {"kind": "supcon"})
    tried = method["kind"] == "variant"
    settings = resolve(PretrainSettings, plain if tried else {**plain, "method": method})
    settings = replace(settings, seed=job["seed"])
    if double:
        settings = replace(settings, steps=2 * settings.steps)
    device = choose_device(settings.device)
    torch.set_num_threads(settings.threads)
    labels = LABELS[job["labels"]]
    table, images = held(source, labels, settings.height)
    chosen: Any = VariantSettings(**{k: v for k, v in method.items() if k != "kind"}) if tried else settings.method
    schedule = Schedule.of(settings, len(table))
    setup = Setup(settings, chosen, images, table, labels, schedule.steps, device)
    task: Any = Variant(setup, footage_of(source, table)) if tried else spec_of(settings.method).build(setup)
    embedder = task.export(settings.keep)
    scored = validation(source, settings.height, settings.width)
    begun = time.perf_counter()
    rows = train(task, schedule, settings, Run(None, device, validate=lambda: scored.scores(embedder)))
    seconds = time.perf_counter() - begun
    ranking = scored.rank(embedder)
    return {
        **{name: job[name] for name in ("set", "arm", "labels", "seed")},
        "settings": to_plain(settings) | {"method": to_plain(chosen)},
        "images": len(table),
        "identities": len(np.unique(table.identity)),
        "map": ranking.mean_ap,
        "rank1": float(ranking.cmc[0]),
        "curve": [[row["step"], round(row["validation_map"], 4)] for row in rows if "validation_map" in row],
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "seconds": seconds,
        "peak_mb": torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else measure.peak_mb(),
        **after(task, source),
    }


Task = tuple[dict[str, Any], Source, Path, float]  # job, data, file of the run, latest time to begin


def work_on(task: Task, run: Callable[[dict[str, Any], Source], dict[str, Any]] = run) -> str:
    """One run in a worker process; returns its line of the log."""
    job, source, file, until = task
    if file.exists():
        return ""
    if time.time() > until:
        return f"{file.stem}: left out, no time"
    try:
        figures = run(job, source)
    except Exception as error:
        return f"{file.stem}: {type(error).__name__}: {error}"
    file.with_suffix(f".{os.getpid()}").write_text(json.dumps(figures))
    file.with_suffix(f".{os.getpid()}").rename(file)
    return f"{file.stem}: mAP {figures['map']:.4f} in {figures['seconds']:.0f} s"


def work_through(
    tasks: list[Task], jobs: int, run: Callable[[dict[str, Any], Source], dict[str, Any]] = run
) -> list[dict[str, Any]]:
    """What the runs of tasks found, of those that were made; one process stays this one."""
    work = partial(work_on, run=run)
    with ExitStack() as stack:
        lines = map(work, tasks)
        if jobs > 1:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(jobs))
            lines = pool.imap_unordered(work, tasks, chunksize=1)
        for line in lines:
            if line:
                print(line, flush=True)
    return [json.loads(file.read_text()) for _, _, file, _ in tasks if file.exists()]


def figures_of(runs: list[dict[str, Any]], table: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a comparison: the table, the settings of each arm, and the runs."""
    return {
        "table": table,
        "settings": {row["arm"]: row["settings"] for row in runs},
        "runs": [{name: value for name, value in row.items() if name != "settings"} for row in runs],
    }


def jobs_of(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """All runs that are asked for."""
    changes = dict(parse_override(text) for text in asked.set)
    out = []
    for name in asked.sets:
        for seed in asked.seeds:
            for arm, labels, settings in arms_of(asked):
                plain: dict[str, Any] = {**settings, "device": asked.device, **changes}
                out.append({"set": name, "seed": seed, "arm": arm, "labels": labels, "settings": plain})
    return out


def arms_of(asked: argparse.Namespace) -> list[tuple[str, str, dict[str, Any]]]:
    if asked.search:
        return [(name, "found", settings) for name, settings in SEARCH.items() if not asked.arms or name in asked.arms]
    if asked.starts:
        return [(name, "found", settings) for name, settings in STARTS.items() if not asked.arms or name in asked.arms]
    if asked.budgets:
        return [
            (f"{method}, {steps} steps", "found", {**METHODS[method], "steps": steps, "validation_every": steps // 4})
            for steps in (320, 1280, 5120)
            for method in ("cion", "supcon")
            if not asked.arms or f"{method}, {steps} steps" in asked.arms
        ]
    return [
        (arm, labels, METHODS.get(arm, {"steps": 0, "validation_every": 0}))
        for arm, labels in TABLE
        if not asked.arms or arm in asked.arms
    ]


def table_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread of each arm on each set; worlds together."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in runs:
        kind = row["set"].rstrip("0123456789")
        groups.setdefault((kind if kind == "world" else row["set"], row["labels"], row["arm"]), []).append(row)
    return {
        f"{kind} | {labels} | {arm}": {
            "map": round(100 * statistics.mean(row["map"] for row in rows), 2),
            "sd": round(100 * statistics.stdev([row["map"] for row in rows]), 2) if len(rows) > 1 else None,
            "rank1": round(100 * statistics.mean(row["rank1"] for row in rows), 2),
            "each": [round(100 * row["map"], 2) for row in rows],
            "seconds": round(statistics.median(row["seconds"] for row in rows), 1),
            "peak_mb": round(max(row["peak_mb"] for row in rows)),
        }
        for (kind, labels, arm), rows in sorted(groups.items())
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every comparison of trainings is told."""
    parser.add_argument("out", type=Path)
    parser.add_argument("--crops", type=Path, help="CUHK03-NP")
    parser.add_argument("--extractor", type=Path, help="weights that correlate sees real crops with")
    parser.add_argument("--search", action="store_true", help="variants on development sets")
    parser.add_argument("--sets", nargs="+")
    parser.add_argument("--arms", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=1e6, help="no run begins later")
    parser.add_argument("--set", action="append", default=[], help="a setting of pretrain for all arms, as lr=1e-3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--budgets", action="store_true", help="CION and SupCon over steps and people")
    parser.add_argument("--starts", action="store_true", help="ImageNet weights against random ones, on real crops")
    parser.add_argument("--quick", action="store_true", help="tiny worlds, 16 steps, nothing kept")
    asked = parser.parse_args()
    until = time.time() + 60 * asked.minutes
    usual, seeds = ["world20", "world21", "world22", "crops"], [0, 1, 2]
    if asked.search:
        usual, seeds = ["world10", "world11", "world12", "crops_dev"], [0]
    if asked.budgets:
        usual, seeds = ["drawn300x0", "drawn3000x0"], [0, 1]
    if asked.starts:
        usual = ["crops"]
    asked.seeds = asked.seeds or seeds
    whole = asked.sets is None and asked.arms is None and not asked.set and not asked.quick
    asked.sets = asked.sets or usual
    if asked.quick:
        asked.seeds, asked.set = [0], ["steps=16", "images_per_step=24", *asked.set]
    started_on = measure.machine()
    folder = asked.out / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    sources = {name: prepare(name, asked) for name in asked.sets}
    jobs = jobs_of(asked)
    tasks = []
    for job in jobs:
        if job["set"].startswith("world") and not asked.search:
            job["seed"] = int(job["set"].removeprefix("world")) if len(asked.seeds) > 1 else job["seed"]
        stem = " ".join(str(job[part]) for part in ("set", "labels", "arm", "seed")).replace("/", "")
        tasks.append((job, sources[job["set"]], folder / f"{stem}.json", until))
    tasks = list({task[2]: task for task in tasks}.values())
    runs = work_through(tasks, asked.jobs)
    figures = figures_of(runs, table_of(runs))
    print(json.dumps(figures["table"], indent=1))
    if whole and len(runs) == len(tasks):
        kinds = {"search": asked.search, "budgets": asked.budgets, "starts": asked.starts}
        name = next((kind for kind, given in kinds.items() if given), "methods")
        measure.keep(f"objectives_{name}", figures, started_on)
    if len(runs) < len(tasks):
        sys.exit(f"{len(tasks) - len(runs)} of {len(tasks)} runs are missing")


if __name__ == "__main__":
    main()
