"""Small fine-tunings on real crops that learn: with labels, adapted from another set without labels, and MGN.

    python benchmarks/fine_tuning.py OUT --crops CUHK03_NP --source CUHK01 [--part crops|crops_dev] [--arms ARM ...]

`--crops` is divided as in `objectives.py`: nothing is chosen on `--part crops`. Starts are ImageNet's MobileNetV2
of `imagenet_starts.py`, which must lie in OUT. Curves are mAP and rank 1 on the scored people while it trained; no
weights are selected on them: the last are reported.

transreid: `--method transreid` with the labels of `--crops`.
source:    the same with the labels of `--source`; scored on `--crops`, it is direct transfer.
adapted:   from `source`, `--method cluster_contrast` on the training images of `--crops`, without their labels.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure
from objectives import PARTS, split_of_crops

from reappear.cli.progress import listener
from reappear.pipeline.finetune import FinetuneSettings, finetune
from reappear.pipeline.settings import resolve
from reappear.pipeline.workspace import Workspace

SMALL = {
    "height": "128",
    "width": "64",
    "method.augment.padding": "5",
    "validation_share": "0",
    "log_every": "16",
}
LABELLED = {**SMALL, "epochs": "10"}  # the learning rate is the best of 0.003, 0.01, 0.03 on validation people
# As the public code of Cluster Contrast, but for the numbers of steps and images, the learning rate (there: 0.00035),
# and neighbours and radius: good ones of 30, 20, 10 and 0.3 to 0.6 by F1 and precision of clusters of training images.
CLUSTERED = {
    **SMALL,
    "method": "cluster_contrast",
    "method.images": "4",
    "method.phase_steps": "64",
    "method.k1": "10",
    "method.k2": "3",
    "method.radius": "0.5",
    "optimizer": "adam",
    "lr": "0.0001",
    "lr_schedule": "step",
    "warmup": "0",
    "weight_decay": "0.0005",
    "final_weight_decay": "0.0005",
    "steps": "256",
}
ARMS = ("transreid", "source", "adapted")
SHOWN = ("validation_map", "validation_rank_1", "pseudo_label_f1", "pseudo_label_precision", "clusters", "clustered")


def curve(folder: Path) -> list[dict[str, Any]]:
    """Rows with a validation, and of clusters, where there are any."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        {"step": row["step"]} | {key: round(row[key], 4) for key in SHOWN if key in row}
        for row in rows
        if "validation_map" in row
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--crops", type=Path, required=True)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--part", choices=PARTS, default="crops_dev")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    started_on, folder = measure.machine(), asked.out / asked.part
    split_of_crops(asked.crops, folder, asked.part)
    work, start = Workspace(asked.out / f"{asked.part}-seed{asked.seed}"), asked.out / "mobilenetv2_100"
    plans = {
        "transreid": (folder / "train", LABELLED, start),
        "source": (asked.source, LABELLED, start),
        "adapted": (folder / "train", CLUSTERED, None),  # from the last weights of `source`
    }
    found: dict[str, Any] = {"part": asked.part, "seed": asked.seed}
    for arm in asked.arms:
        data, given, init = plans[arm]
        if init is None:
            last = work.model("source") / "last"  # where these are not the highest, which nothing here may know
            init = last if last.exists() else work.model("source")
        settings = replace(
            resolve(FinetuneSettings, {}, given),
            init=init,
            validation=folder / "scored",
            validation_every=64 if arm != "source" else 32,
            seed=asked.seed,
        )
        record = finetune(f"market1501:{data}", arm, settings, out=work, progress=listener(True))
        found[arm] = {"counts": record.counts, "seconds": record.seconds, "curve": curve(work.model(arm))}
        print(json.dumps({arm: found[arm]}, indent=2), flush=True)
    if set(asked.arms) == set(ARMS):
        measure.keep(f"fine_tuning_{asked.part}", found, started_on)


if __name__ == "__main__":
    main()
