"""What pre-training adds to ImageNet weights on real crops of people: as it is, and after fine-tuning with labels.

    STARTS=FOLDER python benchmarks/from_imagenet.py OUT --crops CUHK03_NP --extractor WEIGHTS  # the table
    STARTS=FOLDER python benchmarks/from_imagenet.py OUT --crops CUHK03_NP --extractor WEIGHTS --long  # ten passes
    STARTS=FOLDER python benchmarks/from_imagenet.py OUT --crops CUHK03_NP --extractor WEIGHTS --search  # rates
    parts: [--arms NAME ...] [--seeds N ...] [--jobs N] [--device cuda] [--set NAME=VALUE ...] [--tune NAME=VALUE ...]

MobileNetV2 with the ImageNet weights that `imagenet_starts.py` wrote in FOLDER, 128x64. Crops, their division and the
identities found are those of `objectives.py`; all arms have the same steps and images. Each model is then fine-tuned by
`transreid` with the true identities of the training images, with the same steps for all. `--search` chooses the
learning rate of each method on people 468-567, after training on 1-467. A run is kept in OUT/runs, and the same command
goes on after an interruption.
"""

import argparse
import json
import sys
from functools import partial
from typing import Any

import measure
import objectives
from intra_identity import CHOSEN, cion, run, table_of, upreid
from objectives import IMAGENET, METHODS, add_arguments, prepare

from reappear.pipeline.settings import parse_override

TUNING = {
    "height": 128,
    "width": 64,
    "method": {"augment": {"padding": 5}},
    "steps": 160,
    "lr": 0.003,  # of 0.001 and 0.003, on people 468-567; 0.01 halved the mAP of the best start on those scored here
}
LONG = {**TUNING, "steps": 860, "lr": 0.01}  # the rate of docs/results/fine-tuning.md
START = {**IMAGENET, "images_per_step": 72, "steps": 120, "validation_every": 40}


def arm(method: str, lr: float) -> dict[str, Any]:
    return {**START, **METHODS[method], "lr": lr}


PARTS: dict[str, Any] = {"global_weight": 0.0, "local_weight": 1.0, "negatives": "step"}  # best of docs/upreid.md's
RATES = {"moco": 1e-3, "dino": 3e-4, "cion": 3e-4, "supcon": 1e-3}  # by --search
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "ImageNet alone": ("image", {**START, "steps": 0, "validation_every": 0}),
    "MoCo-v2": ("image", arm("moco", RATES["moco"])),
    "DINO": ("image", arm("dino", RATES["dino"])),
    "CION, tracklets": ("tracklet", arm("cion", RATES["cion"])),
    "CION, identities found": ("found", arm("cion", RATES["cion"])),
    "CION, true identities": ("true", arm("cion", RATES["cion"])),
    "supcon, identities found": ("found", arm("supcon", RATES["supcon"])),
    "MoCo-v2 and global": ("image", {**upreid(**{**CHOSEN, "local_weight": 0.0}), **START, "lr": RATES["moco"]}),
    "MoCo-v2 and local": ("image", {**upreid(**{**CHOSEN, "global_weight": 0.0}), **START, "lr": RATES["moco"]}),
    "UP-ReID": ("image", {**upreid(**CHOSEN), **START, "lr": RATES["moco"]}),
    "CION and parts": ("found", {**cion(**PARTS), **START, "lr": RATES["cion"]}),
}
SEARCH = {
    f"{method}, lr {lr:g}": (labels, arm(method, lr))
    for method, labels in (("moco", "image"), ("dino", "image"), ("cion", "found"), ("supcon", "found"))
    for lr in (3e-4, 1e-3)
}


COMPARED = list(ARMS)[:7]  # the paper's claim


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument(
        "--long", action="store_true", help="ten passes of fine-tuning, of the arms of the paper's claim"
    )
    parser.add_argument("--tune", action="append", default=[], help="a setting of finetune for all arms, as steps=80")
    asked = parser.parse_args()
    arms, name = (SEARCH, "crops_dev") if asked.search else (ARMS, "crops")
    kind = "_search" if asked.search else "_long" if asked.long else ""
    if unknown := set(asked.arms or ()) - arms.keys():
        raise SystemExit(f"--arms: unknown {sorted(unknown)}; known: {', '.join(arms)}")
    whole = not (asked.arms or asked.seeds or asked.set or asked.tune)
    started_on, source, folder = measure.machine(), prepare(name, asked), asked.out / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    changes = {"device": asked.device, **dict(parse_override(text) for text in asked.set)}
    tuning = {**(LONG if asked.long else TUNING), **dict(parse_override(text) for text in asked.tune)}
    tasks = []
    for seed in asked.seeds or ([0] if kind else [0, 1, 2]):
        for chosen in asked.arms or (COMPARED if asked.long else arms):
            labels, settings = arms[chosen]
            job = {"set": name, "arm": chosen, "labels": labels, "seed": seed, "settings": {**settings, **changes}}
            tasks.append(
                (job, source, folder / f"{name} {labels} from ImageNet{kind}, {chosen} {seed}.json", float("inf"))
            )
    runs = objectives.work_through(tasks, asked.jobs, partial(run, tuning))
    figures = objectives.figures_of(runs, table_of(runs)) | {"fine_tuning": tuning}
    print(json.dumps(figures["table"], indent=1))
    if whole and len(runs) == len(tasks):
        measure.keep(f"from_imagenet{kind}", figures, started_on)
    if len(runs) < len(tasks):
        sys.exit(f"{len(tasks) - len(runs)} of {len(tasks)} runs are missing")


if __name__ == "__main__":
    main()
