"""What intra-identity regularisation adds to MoCo-v2 (UP-ReID) and to CION, and what it costs.

    python benchmarks/intra_identity.py OUT --crops CUHK03_NP --extractor WEIGHTS           # the table, in results/
    python benchmarks/intra_identity.py OUT --crops CUHK03_NP --extractor WEIGHTS --search  # on development sets
    python benchmarks/intra_identity.py OUT --cost [--device cuda]                          # time and memory of a step
    parts: [--sets NAME ...] [--arms NAME ...] [--seeds N ...] [--jobs N] [--device cuda] [--set NAME=VALUE ...]
    trials: [--quick] [--minutes N] [--prepare]

Sets, splits, networks, views, steps and first weights are those of `objectives.py`: worlds 20-22 with the seed of their
number, and `crops` with seeds 0-2; for `--search` worlds 10-12 and `crops_dev`. Sets that lie in OUT are used as they
are; `--prepare` makes them and ends. MoCo-v2 and UP-ReID learn from single images, CION from identities found.

Each model is scored as it is, and once more after it is fine-tuned by `transreid` with true identities of the training
images, with the same steps for all. One run is one file in OUT/runs: the same command goes on after an interruption,
and several processes may share the work by sets, arms or seeds; with `--jobs 1` a run stays in the process itself.
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from functools import lru_cache, partial
from typing import Any

import measure
import numpy as np
import objectives
import torch
from objectives import CION, METHODS, Source, add_arguments, held, prepare, validation
from views import decoded, photographs

from reappear.core import ImageTable
from reappear.methods.registry import spec_of
from reappear.methods.setup import Setup, choose_device
from reappear.pipeline.finetune import FinetuneSettings
from reappear.pipeline.pretrain import PretrainSettings
from reappear.pipeline.settings import parse_override, resolve
from reappear.train.loop import Run, train
from reappear.train.optimizer import Schedule

MOCO = METHODS["moco"]["method"]
FINE_TUNING = {
    "height": 64,
    "width": 32,
    "method": {"augment": {"padding": 3}},  # as 10 of 256x128
    "steps": 160,
    "validation_share": 0.0,
    "validation_every": 0,
    "log_every": 160,
    "precision": "bfloat16",
}
# By --search on development sets; see docs/results/intra-identity.md.
CHOSEN: dict[str, Any] = {"global_weight": 0.3, "local_weight": 0.3}
CHOSEN_CION: dict[str, Any] = {"global_weight": 0.1, "local_weight": 1.0}


def upreid(**changes: Any) -> dict[str, Any]:
    """UP-ReID with the queue of `moco`."""
    return {"method": {**MOCO, "kind": "upreid", **changes}}


def cion(**changes: Any) -> dict[str, Any]:
    """CION with the two terms."""
    return {"method": {**CION, "intra_identity": changes}}


TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "untrained": ("image", {"steps": 0, "validation_every": 0}),
    "moco": ("image", METHODS["moco"]),
    "moco + global": ("image", upreid(**{**CHOSEN, "local_weight": 0.0})),
    "moco + local": ("image", upreid(**{**CHOSEN, "global_weight": 0.0})),
    "upreid": ("image", upreid(**CHOSEN)),
    "upreid, weights 1": ("image", upreid(global_weight=1.0, local_weight=1.0)),
    "cion": ("found", METHODS["cion"]),
    "cion + global": ("found", cion(**{**CHOSEN_CION, "local_weight": 0.0})),
    "cion + local": ("found", cion(**{**CHOSEN_CION, "global_weight": 0.0})),
    "cion + both": ("found", cion(**CHOSEN_CION)),
    "cion + local, other people": ("found", cion(**{**CHOSEN_CION, "global_weight": 0.0, "negatives": "step"})),
    "cion + both, weights 1": ("found", cion(global_weight=1.0, local_weight=1.0)),
}
STILL = {"views": {"local_views": 0, "jitter": 0.0}}
SEARCH: dict[str, tuple[str, dict[str, Any]]] = {
    "moco": TABLE["moco"],
    "moco, no jitter": ("image", {**METHODS["moco"], **STILL}),
    "cion": TABLE["cion"],
    **{f"global {w:g}": ("image", upreid(global_weight=w, local_weight=0.0)) for w in (0.1, 0.3, 1, 3, 10)},
    **{f"local {w:g}": ("image", upreid(global_weight=0.0, local_weight=w)) for w in (0.03, 0.1, 0.3, 1)},
    "both 1, 1": ("image", upreid(global_weight=1.0, local_weight=1.0)),
    "both 1, 0.1": ("image", upreid(global_weight=1.0, local_weight=0.1)),
    "both 1, 0.03": ("image", upreid(global_weight=1.0, local_weight=0.03)),
    "global 1, no jitter": ("image", {**upreid(global_weight=1.0, local_weight=0.0), **STILL}),
    **{
        f"global 1, {name}": ("image", upreid(global_weight=1.0, local_weight=0.0, **changes))
        for name, changes in {
            "online": {"reference": "online"},
            "batch": {"anchors": "batch"},
            "both views": {"both_views": True},
            "js": {"divergence": "js"},
            "sym_kl": {"divergence": "sym_kl"},
            "cosine": {"divergence": "cosine"},
            "temperature 0.05": {"anchor_temperature": 0.05},
            "temperature 0.2": {"anchor_temperature": 0.2},
            "temperature 0.5": {"anchor_temperature": 0.5},
            "cosine, online": {"divergence": "cosine", "reference": "online"},
        }.items()
    },
    **{
        f"local 0.1, {name}": ("image", upreid(global_weight=0.0, local_weight=0.1, **changes))
        for name, changes in {
            "2 strips": {"patch_rows": 2},
            "8 strips": {"patch_rows": 8},
            "4x2": {"patch_columns": 2},
            "hardest 1": {"hardest_negatives": 1},
            "mean positive": {"positives": "mean"},
            "not adjacent": {"ignore_adjacent": True},
            "at most 0.95": {"max_similarity": 0.95},
            "other people": {"negatives": "step"},
            "temperature 0.1": {"patch_temperature": 0.1},
            "temperature 0.5": {"patch_temperature": 0.5},
            "crop": {"mode": "crop"},
        }.items()
    },
    **{f"cion, global {w:g}": ("found", cion(global_weight=w, local_weight=0.0)) for w in (0.1, 1, 10)},
    **{f"cion, local {w:g}": ("found", cion(global_weight=0.0, local_weight=w)) for w in (0.03, 0.1, 0.3, 1, 3)},
    **{
        f"cion, local 1, {name}": ("found", cion(global_weight=0.0, local_weight=1.0, **changes))
        for name, changes in {
            "own image": {"across_images": False},
            "mean positive": {"positives": "mean"},
            "other people": {"negatives": "step"},
            "other people, mean": {"negatives": "step", "positives": "mean"},
            "8 strips": {"patch_rows": 8},
        }.items()
    },
    "cion, both 1, 1": ("found", cion(global_weight=1.0, local_weight=1.0)),
}
COST: dict[str, dict[str, Any]] = {
    "moco": MOCO,
    "moco + global": {**MOCO, "kind": "upreid", "local_weight": 0.0},
    "moco + local": {**MOCO, "kind": "upreid", "global_weight": 0.0},
    "upreid": {**MOCO, "kind": "upreid"},
    "upreid, crop": {**MOCO, "kind": "upreid", "mode": "crop"},
    "cion": {**CION, "curriculum": ((0.0, 4),)},
    "cion + both": {
        **CION,
        "curriculum": ((0.0, 4),),
        "intra_identity": {"global_weight": 1.0, "local_weight": 1.0},
    },
}
crops_of_people = lru_cache(photographs)  # once for all arms
BASES = {name: "cion" if name.startswith("cion") else "moco" for name in COST}


def fine_tuned(changes: dict[str, Any], seed: int, task: Any, source: Source) -> dict[str, Any]:
    """Scores of the trained backbone after a short fine-tuning with true identities."""
    before = task.setup.training
    with tempfile.TemporaryDirectory() as folder:
        task.export(before.keep).save(folder, architecture=before.backbone, arguments=before.arguments)
        given = {"backbone": before.backbone, "arguments": before.arguments, "init": folder, "seed": seed}
        settings = resolve(FinetuneSettings, {**FINE_TUNING, "device": before.device, **given, **changes})
        table, images = held(source, "true", settings.height)
        schedule = Schedule.of(settings, len(table))
        device = choose_device(settings.device)
        setup = Setup(settings, settings.method, images, table, "true", schedule.steps, device)
        tuned = spec_of(settings.method).build(setup)
    begun = time.perf_counter()
    rows = train(tuned, schedule, settings, Run(None, device))
    ranking = validation(source, settings.height, settings.width).rank(tuned.export("student"))
    return {
        "tuned_map": ranking.mean_ap,
        "tuned_rank1": float(ranking.cmc[0]),
        "tuned_accuracy": rows[-1].get("accuracy") if rows else None,
        "tuned_seconds": time.perf_counter() - begun,
    }


def run(changes: dict[str, Any], job: dict[str, Any], source: Source) -> dict[str, Any]:
    """One run of `objectives.py`, and its fine-tuning."""
    return objectives.run(job, source, partial(fine_tuned, changes, job["seed"]))


def jobs_of(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """All runs that are asked for. A world has one seed, its number."""
    changes = dict(parse_override(text) for text in asked.set)
    arms = SEARCH if asked.search else TABLE
    if unknown := set(asked.arms or ()) - arms.keys():
        raise SystemExit(f"--arms: unknown {sorted(unknown)}; known: {', '.join(arms)}")
    return [
        {
            "set": name,
            "seed": seed,
            "arm": arm,
            "labels": labels,
            "settings": {**settings, "device": asked.device, **changes},
        }
        for name in asked.sets
        for seed in ([int(name.removeprefix("world"))] if name.startswith("world") else asked.seeds)
        for arm, (labels, settings) in arms.items()
        if not asked.arms or arm in asked.arms
    ]


def table_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread of each arm, as it is and fine-tuned; worlds together."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in runs:
        groups.setdefault((row["set"].rstrip("0123456789"), row["arm"]), []).append(row)
    return {
        f"{kind} | {arm}": {
            **{
                name: {
                    "mean": round(100 * statistics.mean(values), 2),
                    "sd": round(100 * statistics.stdev(values), 2) if len(values) > 1 else None,
                    "each": [round(100 * value, 2) for value in values],
                }
                for name in ("map", "rank1", "tuned_map", "tuned_rank1")
                for values in [[row[name] for row in rows]]
            },
            "seconds": round(statistics.median(row["seconds"] for row in rows), 1),
            "peak_mb": round(max(row["peak_mb"] for row in rows)),
        }
        for (kind, arm), rows in groups.items()
    }


def cost_of(arm: str, asked: argparse.Namespace) -> dict[str, float]:
    """Seconds of a step and peak memory.

    On a GPU the clock's, without the first step, and the GPU's memory; on a CPU the processor's time, which other
    programs do not change, and the memory of this process, which does nothing else.
    """
    device = choose_device(asked.device)
    torch.set_num_threads(asked.threads)
    data = crops_of_people(max(48, asked.images))[: asked.images]
    plain = {
        "backbone": asked.backbone,
        "height": asked.height,
        "width": asked.height // 2,
        "views": {"local_views": 0},
        "images_per_step": asked.images,
        "steps": asked.steps + 1,
        "precision": asked.precision,
        "workers": asked.workers,
        "log_every": asked.steps + 1,
        "optimizer": "sgd",
        "lr": 0.01,
        "device": asked.device,
        "method": COST[arm],
    }
    settings: Any = resolve(PretrainSettings, plain)
    rows = np.arange(len(data))
    table = ImageTable(rows.astype(str), rows // 4, 0 * rows, rows, np.full(len(rows), "train"))
    images = [decoded(jpeg) for jpeg in data]
    task = spec_of(settings.method).build(
        Setup(settings, settings.method, images, table, "found", settings.steps, device)
    )
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    schedule = Schedule(settings.steps, settings)
    begun = time.process_time()
    found = train(task, schedule, settings, Run(None, device))
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 1e6
        return {"seconds": asked.images / found[-1]["images_per_second"], "peak_mb": peak}
    return {"seconds": (time.process_time() - begun) / settings.steps, "peak_mb": measure.peak_mb()}


def cost(asked: argparse.Namespace) -> dict[str, Any]:
    """Time and memory of each arm over those of the method without the terms: arms by turns, in rounds."""
    words = [word for name in ("device", "backbone", "height", "images", "steps", "precision", "workers", "threads")
             for word in (f"--{name}", str(getattr(asked, name)))]  # fmt: skip
    arms = [arm for arm in COST if not asked.arms or arm in asked.arms or arm in BASES.values()]

    def once(arm: str) -> dict[str, Any]:
        """On a CPU in a fresh process, whose peak memory is the arm's."""
        if asked.device.startswith("cuda"):
            return cost_of(arm, asked)
        return measure.apart(str(asked.out), "--cost-of", arm, *words)

    rounds = [{arm: once(arm) for arm in arms} for _ in range(asked.rounds)]
    table = {}
    for arm in arms:
        pairs = [(one[arm], one[BASES[arm]]) for one in rounds]
        table[arm] = {
            "seconds": round(statistics.median(mine["seconds"] for mine, _ in pairs), 4),
            "time_over_base": round(statistics.median(mine["seconds"] / base["seconds"] for mine, base in pairs), 3),
            "by_round": [round(mine["seconds"] / base["seconds"], 3) for mine, base in pairs],
            "peak_mb": round(max(mine["peak_mb"] for mine, _ in pairs)),
            "memory_over_base": round(statistics.median(mine["peak_mb"] / base["peak_mb"] for mine, base in pairs), 3),
        }
    return {"cost": table, "asked": dict(zip(words[::2], words[1::2], strict=True))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--tune", action="append", default=[], help="a setting of finetune for all arms, as steps=80")
    parser.add_argument("--quick", action="store_true", help="tiny world, few steps, nothing kept")
    parser.add_argument("--prepare", action="store_true", help="make the sets, train nothing")
    parser.add_argument("--cost", action="store_true", help="time and memory of a step")
    parser.add_argument("--cost-of", choices=COST, help="of one arm, in this process")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    if asked.cost_of:
        print(json.dumps(cost_of(asked.cost_of, asked)))
        return
    started_on = measure.machine()
    if asked.cost:
        figures = cost(asked)
        print(json.dumps(figures, indent=1))
        if not asked.quick:
            measure.keep("intra_identity_cost" + ("" if asked.device == "cpu" else "_gpu"), figures, started_on)
        return
    compare(asked, started_on)


def compare(asked: argparse.Namespace, started_on: dict[str, Any]) -> None:
    """Trains and scores what is asked for, and prints the table."""
    until = time.time() + 60 * asked.minutes
    whole = asked.sets is None and asked.arms is None and not asked.set and not asked.tune and not asked.quick
    usual = (
        ["world10", "world11", "world12", "crops_dev"] if asked.search else ["world20", "world21", "world22", "crops"]
    )
    asked.sets = asked.sets or (["world10"] if asked.quick else usual)
    asked.seeds = asked.seeds or ([0] if asked.search else [0, 1, 2])
    if asked.quick:
        asked.set = ["steps=8", "images_per_step=24", "validation_every=8", *asked.set]
        asked.tune = ["steps=4", "images_per_step=16", *asked.tune]
    folder = asked.out / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    sources = {name: prepare(name, asked) for name in asked.sets}
    if asked.prepare:
        return
    tasks = [
        (job, sources[job["set"]], folder / f"{job['set']} {job['arm']} {job['seed']}.json", until)
        for job in jobs_of(asked)
    ]
    tuning = dict(parse_override(text) for text in asked.tune)
    runs = objectives.work_through(tasks, asked.jobs, partial(run, tuning))
    figures = objectives.figures_of(runs, table_of(runs))
    print(json.dumps(figures["table"], indent=1))
    if whole and len(runs) == len(tasks):
        measure.keep("intra_identity" + ("_search" if asked.search else ""), figures, started_on)
    if len(runs) < len(tasks):
        sys.exit(f"{len(tasks) - len(runs)} of {len(tasks)} runs are missing")


if __name__ == "__main__":
    main()
