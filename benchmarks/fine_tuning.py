"""Small fine-tunings on real crops that learn: with labels, adapted from another set without labels, and MGN.

    python benchmarks/fine_tuning.py OUT --crops CUHK03_NP --source CUHK01 [--part crops|crops_dev] [--arms ARM ...]
    python benchmarks/fine_tuning.py OUT --part drawn       # people who are drawn, without any real image: minutes
    both: [--seeds N ...] [--source-seed N] [--name NAME]

`--crops` is divided as in `objectives.py`: nothing is chosen on `--part crops`. Both folders hold `bounding_box_train`
in Market-1501's names. `drawn` are 80 people who pass three cameras, five crops each, and 100 others who are scored;
each seed draws others. Curves are mAP and rank 1 on the scored people while it trained; no weights are selected on
them: the last are reported. Each model is kept in OUT, and the same command goes on after an interruption.

transreid:         `--method transreid` with the labels of `--crops`, from ImageNet's MobileNetV2 of
                   `imagenet_starts.py`, which must lie in OUT.
source:            a small network from nothing, with the labels of `--source`; scored on `--crops`: direct transfer.
long source:       the same, three times as long; `long average` and `long adapted` start from it.
mobilenet ...:     from ImageNet's MobileNetV2: `source`, and `--method cluster_contrast` from it or without any label.
dbscan, average:   from `source`, `--method cluster_contrast` on the training images of `--crops` without their labels,
                   by either kind of clusters. Cameras are known.
as published, ...: the same with one thing changed.
drawn ...:         on `--part drawn`, from random weights.
without labels:    as `long adapted`, from OUT/found-PART-SEED: a model of the identities found on the training images,
                   `reappear pretrain PART/work --labels round0 --backbone cnn6 --set "arguments={stripes: 4}"
                   --steps 400 --precision bfloat16 --seed SEED`, with PART/work as `objectives.py` makes it.
resnet:            a small ResNet from nothing, with the labels of `--source`.
resnet transreid, resnet mgn: from `resnet`, either method with the labels of `--crops`.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure
from objectives import PARTS, draw, split_of_crops

from reappear.cli.progress import listener
from reappear.models import Embedder
from reappear.pipeline.finetune import FinetuneSettings, finetune
from reappear.pipeline.settings import resolve
from reappear.pipeline.validation import Validation
from reappear.pipeline.workspace import Workspace

IMAGENET = {
    "height": "128",
    "width": "64",
    "method.augment.padding": "5",
    "epochs": "10",  # the learning rate is the best of 0.003, 0.01, 0.03 on validation people
}
SMALL = {
    "backbone": "cnn6",
    "arguments": "{stripes: 4}",
    "precision": "bfloat16",
    "height": "64",
    "width": "32",
    "method.augment.padding": "3",
}
ADAM = {"optimizer": "adam", "weight_decay": "0.0005", "final_weight_decay": "0.0005"}
# Without erasing, which harms other sets (Luo et al. 2019).
SOURCE = {**SMALL, **ADAM, "lr": "0.002", "steps": "400", "warmup": "0.1", "method.augment.erase": "0"}
# As the public code of Cluster Contrast, but for the numbers of steps and images, the optimiser, and what follows.
# Neighbours and radius: good ones of 30, 20, 10 and 0.3 to 0.6 by F1 and precision of clusters of training images.
# Erasing, temperature and negatives: chosen on crops_dev.
CLUSTERED = {
    **SMALL,
    **ADAM,
    "method": "cluster_contrast",
    "method.images": "4",
    "method.phase_steps": "64",
    "method.k1": "10",
    "method.k2": "3",
    "method.radius": "0.5",
    "method.temperature": "0.2",
    "method.augment.erase": "0",
    "lr": "0.00035",
    "warmup": "0",
    "steps": "192",
}
AVERAGE = {**CLUSTERED, "method.clusters": "average", "method.negatives": "camera"}
# Of a quarter of the size.
DRAWN = {
    **CLUSTERED,
    "arguments": "{width: 8, stripes: 4}",
    "height": "32",
    "width": "16",
    "method.augment.padding": "1",
    "lr": "0.002",
    "method.k1": "8",
    "method.k2": "2",
    "steps": "320",
}
# MobileNetV2 from ImageNet.
LARGE = {"height": "128", "width": "64", "method.augment.padding": "5", "method.augment.erase": "0", **ADAM}
LARGE_SOURCE = {**LARGE, "lr": "0.00035", "steps": "300", "warmup": "0.1"}
LARGE_ADAPTED = {
    **LARGE,
    "method": "cluster_contrast",
    "method.images": "4",
    "method.phase_steps": "32",
    "method.clusters": "average",
    "method.negatives": "camera",
    "method.temperature": "0.2",
    "method.adapt_batch_norm": "yes",
    "lr": "0.00035",
    "warmup": "0",
    "steps": "96",
}
RESNET = {
    **SMALL,
    "backbone": "resnet18_ibn",
    "arguments": "{layers: [1, 1, 2, 1], channels: [16, 32, 64, 128]}",
}
# name: settings; its data, True = `--crops`; the arm or the folder of OUT that it starts from
ARMS: dict[str, tuple[dict[str, str], bool, str | None]] = {
    "transreid": (IMAGENET, True, "mobilenetv2_100"),
    "source": (SOURCE, False, None),
    "long source": ({**SOURCE, "steps": "1200"}, False, None),
    "long average": (AVERAGE, True, "long source"),
    "long adapted": ({**AVERAGE, "method.adapt_batch_norm": "yes"}, True, "long source"),
    "long adapted, z 2": ({**AVERAGE, "method.adapt_batch_norm": "yes", "method.z": "2"}, True, "long source"),
    "without labels": ({**AVERAGE, "method.adapt_batch_norm": "yes"}, True, "found-{part}-{seed}"),
    "dbscan": (CLUSTERED, True, "source"),
    "average": (AVERAGE, True, "source"),
    "dbscan, erasing, 0.05": (
        {**CLUSTERED, "method.temperature": "0.05", "method.augment.erase": "0.5"},
        True,
        "source",
    ),
    "average, erasing": ({**AVERAGE, "method.augment.erase": "0.5"}, True, "source"),
    "average, 0.05": ({**AVERAGE, "method.temperature": "0.05"}, True, "source"),
    "average, all cameras": ({**AVERAGE, "method.negatives": "all"}, True, "source"),
    "dbscan, own camera": ({**CLUSTERED, "method.negatives": "camera"}, True, "source"),
    "drawn dbscan": (DRAWN, True, None),
    "drawn average": ({**DRAWN, "method.clusters": "average"}, True, None),
    "drawn average, own camera": (
        {**DRAWN, "method.clusters": "average", "method.negatives": "camera"},
        True,
        None,
    ),
    "drawn dbscan, erasing, 0.05": (
        {**DRAWN, "method.temperature": "0.05", "method.augment.erase": "0.5"},
        True,
        None,
    ),
    "mobilenet adapted": (LARGE_ADAPTED, True, "mobilenet source"),
    "mobilenet without labels": ({**LARGE_ADAPTED, "steps": "64"}, True, "mobilenetv2_100"),
    "mobilenet source": (LARGE_SOURCE, False, "mobilenetv2_100"),
    "resnet": ({**SOURCE, **RESNET}, False, None),
    "resnet transreid": ({**SOURCE, **RESNET}, True, "resnet"),
    "resnet mgn": (
        {**SOURCE, **RESNET, "method": "mgn", "method.images": "4", "method.part_width": "32"},
        True,
        "resnet",
    ),
}
SHOWN = ("validation_map", "validation_rank_1", "pseudo_label_f1", "pseudo_label_precision", "clusters", "clustered")


def curve(folder: Path) -> Iterator[dict[str, Any]]:
    """Rows with a validation, and of clusters, where there are any."""
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "validation_map" in row:
            yield {"step": row["step"]} | {key: round(row[key], 4) for key in SHOWN if key in row}


def last_of(model: Path) -> Path:
    """The last weights, where these are not the highest, which nothing here may know."""
    return model / "last" if (model / "last").exists() else model


def name_of(arm: str) -> str:
    """Of its model."""
    return arm.replace(", ", "-").replace(" ", "-")


def run(asked: argparse.Namespace, arm: str, seed: int) -> dict[str, Any]:
    """Trains one model and scores its last weights."""
    given, of_crops, start = ARMS[arm]
    folder = asked.out / (f"drawn{10 + seed}" if asked.part == "drawn" else asked.part)
    if asked.part == "drawn":
        draw(folder, 80, 10 + seed)
    else:
        split_of_crops(asked.crops, folder, asked.part)
    scored, train = folder / "scored", folder / "train"
    origin = seed if asked.source_seed is None else asked.source_seed
    trained = Workspace(asked.out / f"source-seed{origin}")  # the same for all parts, so not scored while it is trained
    work = Workspace(asked.out / f"{asked.part}-seed{seed}") if of_crops else trained
    init = None
    if start is not None:
        init = (
            last_of(trained.model(name_of(start)))
            if start in ARMS
            else asked.out / start.format(part=asked.part, seed=seed)
        )
    settings = replace(
        resolve(FinetuneSettings, {}, {"validation_share": "0", "log_every": "16", **given}),
        init=init,
        validation=scored if of_crops else None,
        validation_every=(32 if "mobilenet" in arm else 64) if of_crops else 0,
        seed=seed,
    )
    name = name_of(arm)
    record = finetune(
        f"market1501:{train if of_crops else asked.source}", name, settings, out=work, progress=listener(True)
    )
    embedder = Embedder.load(last_of(work.model(name)))
    mean_ap, rank_1 = Validation.of_folder(scored, embedder.preprocessing).scores(embedder)
    figures = {"arm": arm, "seed": seed, "map": mean_ap, "rank1": rank_1, "seconds": record.seconds}
    return {**figures, "curve": list(curve(work.model(name)))}


def table_of(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and spread over seeds, in percent."""
    table = {}
    for arm in dict.fromkeys(row["arm"] for row in runs):
        each = [round(100 * row["map"], 2) for row in runs if row["arm"] == arm]
        table[arm] = {
            "map": round(statistics.mean(each), 2),
            "sd": round(statistics.stdev(each), 2) if len(each) > 1 else None,
            "each": each,
            "rank1": round(100 * statistics.mean(row["rank1"] for row in runs if row["arm"] == arm), 2),
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--crops", type=Path, help="CUHK03-NP")
    parser.add_argument("--source", type=Path, help="CUHK01")
    parser.add_argument("--part", choices=[*PARTS, "drawn"], default="crops_dev")
    parser.add_argument("--arms", nargs="+", choices=ARMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--source-seed", type=int, help="of the models that arms start from; each its own if not given")
    parser.add_argument("--name", help="of the file in results/; fine_tuning_PART if not given")
    asked = parser.parse_args()
    drawn = [arm for arm in ARMS if arm.startswith("drawn ")]
    arms = asked.arms or (drawn if asked.part == "drawn" else ["source", "dbscan", "average"])
    started_on, runs = measure.machine(), []
    for seed in asked.seeds:
        for arm in arms:
            runs.append(run(asked, arm, seed))
            print(json.dumps(runs[-1]), flush=True)
    print(json.dumps(table_of(runs), indent=1))
    name = asked.name or f"fine_tuning_{asked.part}"
    measure.keep(name, {"part": asked.part, "table": table_of(runs), "runs": runs}, started_on)


if __name__ == "__main__":
    main()
