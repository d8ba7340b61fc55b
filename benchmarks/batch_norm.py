"""Which batch norm statistics should a network keep that was trained on views of two sizes?

    python benchmarks/batch_norm.py OUT --crops CUHK03_NP [--seeds 0 1] [--arms true tracklet dino moco]
           [--local 4 0] [--set NAME=VALUE ...] [--head-by-size] [--quick]

Trains on people 1-467 of `bounding_box_train`, sorted by number, and scores on 468-567, on which defaults may be
chosen, and on 568-767, on which nothing is; across cameras, as `objectives.py` does.

In training mode batch norm takes the statistics of the batch, so the running ones change no weight, and one training
gives all rows: student and teacher with the statistics that they gathered themselves (`all`: a student's are of global
and local views), of global views alone (`global`), of local views alone (`local`), and with the mean statistics of the
training crops as they are scored, without augmentation (`reestimated`). The untrained network gets the same.

Each training is one line of OUT/rows.jsonl; those that are there are not trained again. `results/batch_norm.json` gets
all lines of OUT. On a GPU, one process for each arm, the others begun when the first trains (on one H200 four at once
take about 200 s for 1,600 steps of 240 images):

    python benchmarks/batch_norm.py OUT --crops CUHK03_NP --arms tracklet --set backbone=resnet18_ibn
           --set arguments={} --set height=128 --set width=64 --set local_height=64 --set local_width=32
           --set images_per_step=240 --set steps=1600 --set workers=3 --set method.teacher_temperature=0.02

Without the last setting it is the training that collapsed. Arm moco ignores `method.*`.
"""

import argparse
import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from objectives import CION, CROPS, LABELS, METHODS, PARTS, SHARED
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reappear.cli.progress import listener
from reappear.methods.registry import spec_of
from reappear.methods.setup import Setup, choose_device
from reappear.models import Embedder, Preprocessing
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.labels import crop_images, labelled_crops
from reappear.pipeline.pretrain import PretrainSettings
from reappear.pipeline.settings import parse_override, resolve, to_plain
from reappear.pipeline.training import CropImages
from reappear.pipeline.validation import Validation
from reappear.pipeline.workspace import Workspace
from reappear.train.loop import Run, train
from reappear.train.optimizer import Schedule

TELL = listener(True)
# `objectives.py`'s, with the statistics beside which the others are computed.
SMALL = {**SHARED, **CROPS, "batch_norm_statistics": "all", "validation_every": 0, "method": CION}
SIGNS = ("step", "loss", "teacher_entropy", "batch_entropy", "prototypes_used", "feature_spread")
Statistics = dict[str, Tensor]


def links(source: Path, out: Path) -> None:
    """Links to the crops: `train`, `chosen` and `test` in Market-1501's layout."""
    files = sorted((source / "bounding_box_train").glob("*.jpg"))
    people = {person: i for i, person in enumerate(sorted({file.name[:4] for file in files}))}
    trained, chosen = PARTS["crops_dev"]
    for file in files:
        position = people[file.name[:4]]
        side = "query" if file.name[4:7] == "_c1" else "bounding_box_test"
        folder = out / ("chosen" if position < chosen else "test") / side
        if position < trained:
            folder = out / "train/bounding_box_train"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / file.name).is_symlink():
            (folder / file.name).symlink_to(file.resolve())


def batch_norms(network: nn.Module) -> dict[str, _BatchNorm]:
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, _BatchNorm)}


def statistics_of(network: nn.Module) -> Statistics:
    return {
        f"{name}.{kind}": getattr(layer, kind).clone()
        for name, layer in batch_norms(network).items()
        for kind in ("running_mean", "running_var")
    }


@torch.no_grad()
def set_statistics(network: nn.Module, given: Statistics) -> None:
    for name, layer in batch_norms(network).items():
        layer.running_mean.copy_(given[f"{name}.running_mean"])
        layer.running_var.copy_(given[f"{name}.running_var"])


class ByHeight:
    """The running statistics that a backbone would have, had it seen views of one height alone."""

    def __init__(self, backbone: nn.Module) -> None:
        self.of: dict[int, Statistics] = {}
        self._start = statistics_of(backbone)
        self._before: Statistics = {}
        backbone.register_forward_pre_hook(self._begin)
        backbone.register_forward_hook(self._end)

    def _begin(self, backbone: nn.Module, inputs: tuple[Tensor]) -> None:
        if backbone.training:
            self._before = statistics_of(backbone)

    def _end(self, backbone: nn.Module, inputs: tuple[Tensor], features: Tensor) -> None:
        if backbone.training:
            kept = self.of.setdefault(inputs[0].shape[-2], {k: v.clone() for k, v in self._start.items()})
            for key, after in statistics_of(backbone).items():  # PyTorch's momentum is 0.1
                kept[key] += after - self._before[key] + 0.1 * (self._before[key] - kept[key])


@torch.no_grad()
def reestimated(backbone: nn.Module, images: Iterator[Tensor]) -> Statistics:
    """The mean statistics of batches in training mode; the backbone stays as it is."""
    other = copy.deepcopy(backbone).train()
    for layer in batch_norms(other).values():
        layer.reset_running_stats()
        layer.momentum = None
    for batch in images:
        other(batch)
    return statistics_of(other)


def scored_views(images: CropImages, preprocessing: Preprocessing, device: torch.device) -> Iterator[Tensor]:
    """Batches of training crops as they would be scored."""
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    for i in range(0, min(2048, len(order) - 255), 256):
        yield torch.from_numpy(preprocessing([images[row] for row in order[i : i + 256]])).to(device)


def distance(one: Statistics, other: Statistics) -> float:
    """How far the means of channels lie apart, in standard deviations of the other: the mean over all channels."""
    apart = [
        (one[key] - mean).abs() / other[key.replace("mean", "var")].sqrt().clamp_min(1e-6)
        for key, mean in other.items()
        if key.endswith("running_mean")
    ]
    return torch.cat(apart).mean().item()


def scores(embedder: Embedder, variants: dict[str, Statistics], sets: dict[str, Validation]) -> Any:
    """MAP of a backbone under each of some statistics; it gets its own back."""
    network = embedder.backbone
    own = statistics_of(network)
    result = {}
    for name, variant in variants.items():
        set_statistics(network, variant)
        result |= {f"{name}, {part}": round(people.score(embedder), 5) for part, people in sets.items()}
    set_statistics(network, own)
    return result


def embed_by_size(head: Any, of_global: int) -> None:
    """Lets the batch norm of a head see global and local views apart; as it stands, it sees them together."""
    embed = head.embed

    def apart(features: Tensor) -> Tensor:
        return torch.cat([embed(part) for part in (features[:of_global], features[of_global:]) if len(part)])

    head.embed = apart


def trained(
    work: Workspace, settings: PretrainSettings, labels: str, sets: dict[str, Validation], head_by_size: bool
) -> dict[str, Any]:
    """Scores of student and teacher, under each of the statistics, before and after the training."""
    device = choose_device(settings.device)
    torch.set_num_threads(settings.threads)
    table, _ = labelled_crops(work, labels)
    schedule = Schedule.of(settings, len(table))
    images = CropImages(crop_images(work, table), max_height=2 * settings.height, memory_mb=settings.memory_mb)
    task = spec_of(settings.method).build(
        Setup(settings, settings.method, images, table, labels, schedule.steps, device)
    )
    student, teacher = task.export("student"), task.export("teacher")
    gathered = ByHeight(student.backbone)
    if head_by_size:
        embed_by_size(task.student.head, 2 * settings.images_per_step)

    def scored() -> dict[str, Any]:
        names = {settings.height: "global", settings.local_height: "local"}
        of = {"all": statistics_of(student.backbone)} | {names[height]: given for height, given in gathered.of.items()}
        again = of["reestimated"] = reestimated(student.backbone, scored_views(images, student.preprocessing, device))
        taught = {"all": statistics_of(teacher.backbone)}
        taught["reestimated"] = reestimated(teacher.backbone, scored_views(images, teacher.preprocessing, device))
        return {
            "student": scores(student, of, sets),
            "teacher": scores(teacher, taught, sets),
            "distance from reestimated": {k: round(distance(v, again), 3) for k, v in of.items()},
        }

    untrained = scored()["student"]
    metrics = train(task, schedule, settings, Run(None, device, progress=TELL))
    signs = [{key: round(row[key], 3) for key in SIGNS if key in row} for row in metrics]
    return {"untrained": untrained, **scored(), "signs": signs}


def changes(settings: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """The settings that are not the usual ones."""
    changed = {}
    for key, value in settings.items():
        if isinstance(value, dict) and isinstance(usual.get(key), dict) and key != "arguments":
            changed |= {f"{key}.{part}": inner for part, inner in changes(value, usual[key]).items()}
        elif usual.get(key) != value:
            changed[key] = value
    return changed


def method_of(arm: str, settings: PretrainSettings) -> PretrainSettings:
    """Settings of an arm: CION's method on some labels, or a method of single images with what it shares with it."""
    if arm in LABELS:
        return settings
    own = resolve(PretrainSettings, METHODS[arm]).method
    shared = {k: v for k, v in vars(settings.method).items() if k in vars(own) and k != "kind"} if arm == "dino" else {}
    return replace(settings, method=replace(own, **shared))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--crops", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arms = ["true", "tracklet", "dino", "moco"]
    parser.add_argument("--arms", nargs="+", choices=arms, default=arms)
    parser.add_argument("--local", type=int, nargs="+", default=[4, 0], help="local views; moco has none")
    parser.add_argument("--set", action="append", default=[], help="a setting of pretrain, such as lr=1e-3")
    parser.add_argument("--head-by-size", action="store_true", help="the head's batch norm sees each size by itself")
    parser.add_argument("--quick", action="store_true", help="1 seed, 8 steps, nothing kept")
    asked = parser.parse_args()
    started_on = measure.machine()
    usual = resolve(PretrainSettings, SMALL)
    settings = resolve(PretrainSettings, SMALL, dict(parse_override(text) for text in asked.set))
    if asked.quick:
        asked.seeds, settings = [0], replace(settings, steps=8, images_per_step=24)
    links(asked.crops, asked.out)
    work = Workspace(asked.out / "work")
    ingest([asked.out / "train"], work, IngestSettings(layout="market1501", labels_are_truth=True), progress=TELL)
    preprocessing = Preprocessing(height=settings.height, width=settings.width)
    sets = {part: Validation.of_folder(asked.out / part, preprocessing) for part in ("chosen", "test")}
    file = asked.out / ("quick.jsonl" if asked.quick else "rows.jsonl")
    for seed in asked.seeds:
        for name in asked.arms:
            for local in asked.local if name != "moco" else [0]:
                views = replace(settings.views, local_views=local)
                chosen = replace(method_of(name, settings), seed=seed, views=views)
                changed = changes(to_plain(replace(chosen, seed=0, views=settings.views)), to_plain(usual))
                mine = "method." if name == "moco" else "method.kind"  # the arm says it
                changed = {key: value for key, value in changed.items() if not key.startswith(mine)}
                begun = {"arm": name, "local": local, "seed": seed, "head_by_size": asked.head_by_size, "set": changed}
                lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
                row = next((row for row in lines if begun.items() <= row.items()), None)
                if row is None:
                    done = trained(work, chosen, LABELS.get(name, "instance"), sets, asked.head_by_size)
                    row = {**begun, **done}
                    with file.open("a") as out:
                        out.write(json.dumps(row) + "\n")
                print(json.dumps({key: value for key, value in row.items() if key != "signs"}), flush=True)
    if not asked.quick:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows:
            row["signs"] = [row["signs"][i] for i in (0, len(row["signs"]) // 2, -1)]
        measure.keep("batch_norm", {"settings": to_plain(usual), "rows": rows}, started_on)


if __name__ == "__main__":
    main()
