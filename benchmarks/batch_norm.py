"""Which batch norm statistics should a network keep that was trained on views of two sizes?

    python benchmarks/batch_norm.py OUT --crops CUHK03_NP [--seeds 0 1] [--arms dino tracklet true moco]
           [--local 0 4] [--set NAME=VALUE ...] [--quick]

Trains on people 1-467 of `bounding_box_train`, sorted by number, and scores on 468-567, on which defaults may be
chosen, and on 568-767, on which nothing is; across cameras, as `pretraining_table.py` does.

In training mode batch norm takes the statistics of the batch, so the running ones change no weight, and one training
gives all rows: student and teacher with the statistics that they gathered themselves (`all`: a student's are of global
and local views), of global views alone (`global`), of local views alone (`local`), and with the mean statistics of the
training crops as they are scored, without augmentation (`reestimated`). The untrained network gets the same.

Each training is one line of OUT/rows.jsonl; those that are there are not trained again.
"""

import argparse
import copy
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import measure
import numpy as np
import torch
from pretraining_table import DISTILLED, MOCO, PARTS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reappear.cli.progress import listener
from reappear.methods.settings import OWN_LABELS, MocoSettings
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.pretrain import PretrainSettings
from reappear.pipeline.pretrain.labels import labelled
from reappear.pipeline.pretrain.method import build_method, choose_device
from reappear.pipeline.pretrain.training import Training
from reappear.pipeline.settings import parse_override, resolve, to_plain
from reappear.pipeline.validation import Validation
from reappear.pipeline.workspace import Workspace
from reappear.train.loop import train

# The first 467 people, as in `pretraining_table.py --part validation`; its recipe for crops.
SMALL = {
    "backbone": "cnn6",
    "arguments": {"stripes": 4},
    "steps": 400,
    "method": DISTILLED,
    "precision": "bfloat16",
    "log_every": 50,
}
TELL = listener(True)
Statistics = dict[str, Tensor]


def links(source: Path, out: Path) -> None:
    """Links to the crops: `train`, `chosen` and `test` in Market-1501's layout."""
    files = sorted((source / "bounding_box_train").glob("*.jpg"))
    people = {person: i for i, person in enumerate(sorted({file.name[:4] for file in files}))}
    for file in files:
        position = people[file.name[:4]]
        side = "query" if file.name[4:7] == "_c1" else "bounding_box_test"
        trained, chosen = PARTS["validation"]
        if position < trained:
            folder = out / "train/bounding_box_train"
        else:
            folder = out / ("chosen" if position < chosen else "test") / side
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
            for key, after in statistics_of(backbone).items():
                kept[key] += after - self._before[key] + 0.1 * (self._before[key] - kept[key])


@torch.no_grad()
def reestimated(backbone: nn.Module, images: Iterator[Tensor]) -> Statistics:
    """The mean statistics of batches in training mode, without changing the backbone."""
    other = copy.deepcopy(backbone).train()
    for layer in batch_norms(other).values():
        layer.reset_running_stats()
        layer.momentum = None
    for batch in images:
        other(batch)
    return statistics_of(other)


def shown(training: Training, rows: np.ndarray, batch: int = 256) -> Iterator[Tensor]:
    """Training crops as they would be scored."""
    settings = training.settings
    mean, std = (torch.tensor(v).view(3, 1, 1) * 255 for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    order = np.random.default_rng(0).permutation(rows)[: 16 * batch]
    for i in range(0, len(order) - batch + 1, batch):
        pixels = []
        for row in order[i : i + batch]:
            image = cv2.imdecode(np.frombuffer(training.crops.image(int(row)), np.uint8), cv2.IMREAD_COLOR_RGB)
            shrinks = image.shape[0] * image.shape[1] > settings.height * settings.width
            how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            pixels.append(cv2.resize(image, (settings.width, settings.height), interpolation=how).transpose(2, 0, 1))
        yield ((torch.from_numpy(np.stack(pixels)) - mean) / std).to(training.device)


def distance(one: Statistics, other: Statistics) -> float:
    """How far the means of channels lie apart, in standard deviations of the other: the mean over all channels."""
    apart = [
        (one[key] - mean).abs() / other[key.replace("mean", "var")].sqrt().clamp_min(1e-6)
        for key, mean in other.items()
        if key.endswith("running_mean")
    ]
    return torch.cat(apart).mean().item()


def scores(network: nn.Module, variants: dict[str, Statistics], sets: dict[str, Validation], device: Any) -> Any:
    """MAP and rank 1 of a backbone under each of some statistics, which are restored."""
    own = statistics_of(network)
    result = {}
    for name, variant in variants.items():
        set_statistics(network, variant)
        for part, people in sets.items():
            ranking = people.rank(network, device)
            result[f"{name}, {part}"] = [round(ranking.mean_ap, 5), round(float(ranking.cmc[0]), 5)]
    set_statistics(network, own)
    return result


def embed_by_size(head: Any, of_global: int) -> None:
    """Lets the batch norm of a head see global and local views apart; as it stands, it sees them together."""
    embed = head.embed

    def apart(features: Tensor) -> Tensor:
        return torch.cat([embed(part) for part in (features[:of_global], features[of_global:]) if len(part)])

    head.embed = apart


def train_arm(
    work: Workspace, name: str, settings: PretrainSettings, sets: dict[str, Validation], head_by_size: bool
) -> dict[str, Any]:
    """Scores of student and teacher, under each of the statistics, before and after the training."""
    device = choose_device(settings.device)
    torch.set_num_threads(settings.threads)
    labels = OWN_LABELS.get(name, "true")
    training = Training(work, work.open_crops(), settings, labels, device, name, None)
    rows, identity, _ = labelled(training.crops, labels, work)
    schedule = training._schedule(len(rows))
    method = build_method(settings, schedule.steps, device)
    student, teacher = method.student.backbone, method.teacher.backbone
    if head_by_size:
        embed_by_size(method.student.head, 2 * settings.images_per_step)
    gathered = ByHeight(student)
    result: dict[str, Any] = {}

    def score() -> float:
        of = gathered.of
        again = reestimated(student, shown(training, rows))
        variants = {"all": statistics_of(student), "reestimated": again}
        names = {settings.height: "global", settings.local_height: "local"}
        variants |= {names[height]: given for height, given in of.items()}
        taught = {"all": statistics_of(teacher), "reestimated": reestimated(teacher, shown(training, rows))}
        result["student"] = scores(student, variants, sets, device)
        result["teacher"] = scores(teacher, taught, sets, device)
        result["distance"] = {key: round(distance(given, again), 3) for key, given in variants.items()}
        return result["student"]["all, chosen"][0]

    score()
    untrained = {"untrained": result["student"], "distance_untrained": result["distance"]}
    metrics = train(
        method,
        training._batches(rows, identity, schedule.steps),
        schedule,
        images_per_step=settings.images_per_step,
        device=device,
        seed=settings.seed,
        folder=None,
        precision=settings.precision,
        workers=settings.workers,
        log_every=settings.log_every,
        validation=score,
        validation_every=settings.validation_every or settings.steps,
        progress=TELL,
    )
    keys = ("step", "loss", "teacher_entropy", "batch_entropy", "prototypes_used", "feature_spread", "validation_map")
    return {**untrained, **result, "metrics": [{k: row[k] for k in keys if k in row} for row in metrics]}


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
    parser.add_argument("--name", default="", help="of these settings, in rows.jsonl")
    parser.add_argument("--quick", action="store_true", help="1 seed, 8 steps")
    asked = parser.parse_args()
    started_on = measure.machine()
    settings = resolve(PretrainSettings, SMALL, dict(parse_override(text) for text in asked.set))
    if asked.quick:
        asked.seeds, settings = [0], replace(settings, steps=8, images_per_step=24)
    links(asked.crops, asked.out)
    work = Workspace(asked.out / "work")
    ingest([asked.out / "train"], work, IngestSettings(layout="market1501", labels_are_truth=True), progress=TELL)
    sets = {
        part: Validation.of_folder(asked.out / part, settings.height, settings.width) for part in ("chosen", "test")
    }
    file = asked.out / "rows.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    table = defaultdict(list)
    for seed in asked.seeds:
        for name in asked.arms:
            for local in asked.local:
                if name == "moco" and local:
                    continue
                chosen = replace(settings, seed=seed, views=replace(settings.views, local_views=local))
                if name == "moco":
                    chosen = replace(chosen, method=resolve(MocoSettings, MOCO))
                elif name in OWN_LABELS:
                    plain = resolve(PretrainSettings, {"method": {"kind": name}})
                    shared = {k: v for k, v in vars(chosen.method).items() if k in vars(plain.method) and k != "kind"}
                    chosen = replace(chosen, method=replace(plain.method, **shared))
                plain = to_plain(chosen)
                asked_for = {"arm": name, "local": local, "head_by_size": asked.head_by_size, "settings": plain}
                row = next((row for row in done if asked_for.items() <= {"head_by_size": False, **row}.items()), None)
                if row is None:
                    row = {"name": asked.name, **asked_for, **train_arm(work, name, chosen, sets, asked.head_by_size)}
                    with file.open("a") as out:
                        out.write(json.dumps(row) + "\n")
                for whose in ("untrained", "student", "teacher"):
                    for variant, (mean_ap, _) in row[whose].items():
                        table[f"{name}, {local} local, {whose}, {variant}"].append(mean_ap)
                        print(f"seed {seed} {name}, {local} local, {whose}, {variant}: {mean_ap:.4f}", flush=True)
    means = {key: [round(statistics.mean(values), 4), values] for key, values in table.items()}
    print(json.dumps(means, indent=1))
    if not asked.quick:
        (asked.out / f"figures{asked.name}.json").write_text(
            json.dumps({"machine": started_on, "map": means}, indent=1)
        )


if __name__ == "__main__":
    main()
