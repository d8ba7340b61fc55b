"""Compares the 32 backbones: sizes, cost of pre-training, and one step of CION on this machine.

    python benchmarks/zoo.py            # all, about ten minutes on one core; rewrites the table in docs/zoo.md
    python benchmarks/zoo.py 'vit_*'    # some, to look at; writes nothing

Each runs in its own process. A step shows 2 people × 2 images in 2 global views (256×128) and 2 local ones
(128×64) to teacher and student, with 1,024 prototypes, and ends with the optimiser and the teacher's move. Then the
backbone is saved and loaded, and must give the same features.
"""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from torch import Tensor

from reappear.core import ImageTable
from reappear.methods.cion.settings import CionSettings
from reappear.methods.cion.task import Cion
from reappear.methods.setup import Setup
from reappear.models import create_model, describe_model, list_models, load_model, save_model
from reappear.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from reappear.train.batch import ViewBatch
from reappear.train.settings import TrainSettings

GLOBAL, LOCAL = (256, 128), (128, 64)
PROTOTYPES = 1024
PAGE = Path(__file__).parents[1] / "docs" / "zoo.md"
BEGIN, END = "<!-- what follows is written by benchmarks/zoo.py -->\n", "<!-- up to here -->\n"


def pretraining_gmacs(name: str) -> float:
    """Billions of multiply-adds for one image in one step at CION's sizes, without the head.

    The teacher sees 2 global views, the student these and 8 local ones; its way back costs twice its way there.
    """
    whole, part = (describe_model(name, height=height, width=width).gmacs for height, width in (GLOBAL, LOCAL))
    return 2 * whole + 3 * (2 * whole + 8 * part)


def activations_mb(name: str) -> float:
    """What the student keeps for its way back, for one image at CION's sizes in bfloat16, in MB."""
    with torch.device("meta"):
        model = create_model(name).to(torch.bfloat16).train()
        own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage.nbytes()
                alive.append(tensor)
            return tensor

        alive: list[Tensor] = []  # else an address would be used twice
        images = 4  # batch norm wants more than one
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = [
                model(torch.zeros(images * views, 3, *size, dtype=torch.bfloat16))
                for views, size in ((2, GLOBAL), (8, LOCAL))
            ]
        del out
    return sum(kept.values()) / images / 1e6


def one_step(name: str) -> dict[str, float]:
    """Seconds and peak memory of one step, with a first one to warm up."""
    settings = TrainSettings(
        backbone=name, height=GLOBAL[0], width=GLOBAL[1], local_height=LOCAL[0], local_width=LOCAL[1], device="cpu"
    )
    method = CionSettings(head_hidden=2048, head_bottleneck=256, head_batch_norm=False, prototypes=PROTOTYPES)
    none = np.zeros(0, np.int64)
    table = ImageTable(np.zeros(0, "U1"), none, none, none, np.zeros(0, "U5"))
    task = Cion(Setup(settings, method, [], table, "found", 10, torch.device("cpu")))
    optimizer = torch.optim.AdamW(task.student.parameters(), lr=1e-4, fused=True)
    views = [torch.randint(0, 256, (2, 2, 3, *size), dtype=torch.uint8) for size in (GLOBAL, GLOBAL, LOCAL, LOCAL)]
    batch = ViewBatch(views, torch.arange(2))

    def step() -> None:
        optimizer.zero_grad()
        task.training_step(batch, 0).loss.backward()
        optimizer.step()
        task.after_step(0)

    step()
    seconds = measure.seconds(step, repeats=1)
    if any(parameter.grad is None for parameter in task.student.parameters()):
        raise RuntimeError(f"{name}: a parameter has no gradient")
    image = torch.randn(1, 3, *GLOBAL)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        sizes = {"height": GLOBAL[0], "width": GLOBAL[1], "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
        config = {"architecture": name, "arguments": {}, **sizes}
        save_model(Path(folder), task.teacher.backbone, config, card="")
        back = load_model(folder)[0].to(memory_format=torch.channels_last)  # as it was trained, to the last bit
        if not torch.equal(back(image), task.teacher.backbone.eval()(image)):
            raise RuntimeError(f"{name}: not the same after saving and loading")
    return {"step_seconds": seconds, "step_peak_mb": measure.peak_mb()}


def row(name: str) -> dict[str, Any]:
    figures = dataclasses.asdict(describe_model(name))
    return {
        **{key: figures[key] for key in ("name", "features", "feature_map", "parameters", "gmacs")},
        "pretraining_gmacs": pretraining_gmacs(name),
        "activations_mb": activations_mb(name),
        **measure.apart("--one", name),
    }


def table(rows: list[dict[str, Any]]) -> str:
    head = (
        "| model | parameters (M) | features | map | GMACs | pre-training: GMACs an image | MB kept an image | "
        "CPU step (s) | peak (MB) |"
    )
    lines = [head, "|---|" + "--:|" * 8]
    for one in rows:
        shape = "×".join(map(str, one["feature_map"]))
        lines.append(
            f"| {one['name']} | {one['parameters'] / 1e6:.2f} | {one['features']} | {shape} | {one['gmacs']:.2f} "
            f"| {one['pretraining_gmacs']:.1f} | {one['activations_mb']:.0f} "
            f"| {one['step_seconds']:.2f} | {one['step_peak_mb']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        torch.set_num_threads(1)
        print(json.dumps(one_step(sys.argv[2])))
        return
    machine = measure.machine()
    rows = []
    for name in list_models(*sys.argv[1:]):
        rows.append(row(name))
        print(f"{name}: {rows[-1]['step_seconds']:.2f} s", file=sys.stderr)
    print(table(rows))
    if len(sys.argv) == 1:
        measure.keep("zoo", {"models": rows}, machine)
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(before + BEGIN + "\n" + table(rows) + "\n" + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
