"""A whole step of CION, data to teacher, against a plain loop with the literal loss; N_id = 8, the paper's views.

    python benchmarks/train_step.py [--backbones resnet50_ibn vit_small] [--images 8] [--steps 3] [--rounds 5]
        [--prototypes 65536] [--device cpu] [--precision float32] [--compile] [--workers 0] [--threads 2]
        [--peak-tflops T] [--quick]
    on a CPU with avx512_bf16: --precision bfloat16 --compile
    on a GPU: --device cuda --images 120 --steps 30 --precision bfloat16 --compile --workers 14

- `plain`: eager float32, the way DINO's script goes: views by torchvision on PIL, two networks, Eq. 9 by a loop over
  pairs on logits, AdamW, a loop for clipping and one for the teacher. The same number of workers.
- `ours`: `train()` as `reappear pretrain` calls it.

Both see the same JPEGs of synthetic people, by turns, in rounds. Seconds for each step are the mean after a first one,
which warms up; of the rounds, the median.
`where`: shares of `ours` with the same model, each measured by itself. `flops_used` is the arithmetic of networks and
loss over that of the processor, where its peak is given (dense, of the precision that is used).
"""

import argparse
import copy
import io
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from views import decoded, photographs, public_views

from reappear.core import ImageTable
from reappear.methods.cion.settings import CionSettings
from reappear.methods.cion.task import Cion
from reappear.methods.setup import Setup
from reappear.models import create_model
from reappear.models.describe import describe_model
from reappear.train.loop import Run, train
from reappear.train.optimizer import Schedule, clip_each
from reappear.train.settings import TrainSettings
from reappear.train.teacher import update_teacher
from reappear.train.views import ViewSettings

EACH, SEEN = 8, 2


def setup_of(data: list[bytes], backbone: str, asked: argparse.Namespace, device: torch.device) -> Setup[CionSettings]:
    """As `reappear pretrain` makes it, with the paper's head and views."""
    settings = TrainSettings(
        backbone=backbone,
        height=256,
        width=128,
        local_height=128,
        local_width=64,
        views=ViewSettings(),
        steps=asked.steps + 1,
        images_per_step=asked.images,
        lr=1e-4,
        warmup=0.0,
        precision=asked.precision,
        compile=asked.compile,
        workers=asked.workers,
        log_every=asked.steps + 1,
        checkpoint_every=10**9,
    )
    method = CionSettings(
        head_hidden=2048,
        head_bottleneck=256,
        head_batch_norm=False,
        prototypes=asked.prototypes,
        curriculum=((0.0, EACH),),
        momentum=0.996,
    )
    rows = np.arange(len(data))
    table = ImageTable(rows.astype(str), rows // EACH, 0 * rows, rows // EACH, np.full(len(rows), "train"))
    return Setup(settings, method, Decoded(data), table, "found", asked.steps + 1, device)


class Decoded:
    """What `CropImages` does: decoded once, held."""

    def __init__(self, data: list[bytes]) -> None:
        self._held = [decoded(jpeg) for jpeg in data]

    def __getitem__(self, image: int) -> np.ndarray:
        return self._held[image]


def ours(data: list[bytes], backbone: str, asked: argparse.Namespace, device: torch.device) -> float:
    """Seconds for each step."""
    setup = setup_of(data, backbone, asked, device)
    with tempfile.TemporaryDirectory() as folder:
        schedule = Schedule(setup.steps, setup.training)
        rows = train(Cion(setup), schedule, setup.training, Run(Path(folder), device))
    return asked.images / rows[-1]["images_per_second"]


class Photographs(Dataset[list[Tensor]]):
    """One image in ten views."""

    def __init__(self, data: list[bytes], length: int) -> None:
        self.data, self.length, self.chains = data, length, public_views()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> list[Tensor]:
        image = Image.open(io.BytesIO(self.data[index % len(self.data)])).convert("RGB")
        return [chain(image) for chain in self.chains]


class PlainNetwork(nn.Module):
    """Backbone and head, one pass for each size of view."""

    def __init__(self, backbone: str, prototypes: int) -> None:
        super().__init__()
        self.backbone: Any = create_model(backbone)
        mlp = [nn.Linear(self.backbone.num_features, 2048), nn.GELU(), nn.Linear(2048, 2048), nn.GELU()]
        self.mlp = nn.Sequential(*mlp, nn.Linear(2048, 256))
        self.last = nn.Parameter(torch.randn(prototypes, 256))

    def forward(self, views: list[Tensor]) -> Tensor:
        features = [self.backbone(torch.cat(views[:SEEN]))]
        if len(views) > SEEN:
            features.append(self.backbone(torch.cat(views[SEEN:])))
        vectors = F.normalize(self.mlp(torch.cat(features)), dim=-1)
        return vectors @ F.normalize(self.last, dim=-1).T


def plain(data: list[bytes], backbone: str, asked: argparse.Namespace, device: torch.device) -> float:
    """Seconds for each step."""
    torch.manual_seed(0)
    student = PlainNetwork(backbone, asked.prototypes).to(device)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, weight_decay=0.04)
    center = torch.zeros(asked.prototypes, device=device)
    loader = DataLoader(
        Photographs(data, asked.images * (asked.steps + 1)),
        batch_size=asked.images,
        num_workers=asked.workers,
        pin_memory=device.type == "cuda",
    )
    taken, begun = [], time.perf_counter()
    for views in loader:
        views = [view.to(device, non_blocking=True) for view in views]
        with torch.no_grad():
            said = teacher(views[:SEEN])
        student_rows = student(views)
        rows = [
            [view[i] for i in range(asked.images)] for view in student_rows.view(len(views), asked.images, -1).unbind()
        ]
        target = F.softmax((said - center) / 0.04, dim=-1).view(SEEN, asked.images, -1)
        terms = []
        for first in range(0, asked.images, EACH):
            people = range(first, first + EACH)
            for i, j, g, v in itertools.product(people, people, range(SEEN), range(len(views))):
                if (i, g) != (j, v):
                    terms.append(-(target[g, i] * F.log_softmax(rows[v][j] / 0.1, dim=-1)).sum())
        loss = torch.stack(terms).mean()
        optimizer.zero_grad()
        loss.backward()
        for parameter in student.parameters():
            if parameter.grad is not None:
                norm = parameter.grad.norm()
                if norm > 3.0:
                    parameter.grad.mul_(3.0 / norm)
        optimizer.step()
        with torch.no_grad():
            center = 0.9 * center + 0.1 * said.mean(0)
            for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                old.mul_(0.996).add_(new, alpha=0.004)
        loss.item()
        taken.append(time.perf_counter() - begun)
        begun = time.perf_counter()
    return statistics.mean(taken[1:])


def where(data: list[bytes], backbone: str, asked: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Seconds of the parts of a step, one by one."""
    task = Cion(setup_of(data, backbone, asked, device))
    data_of, network, teacher, loss = task.phase(0, None).data, task.student, task.teacher, task.objective
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    views = data_of[0].to(device).augmented().views
    half = torch.autocast(device.type, getattr(torch, asked.precision), enabled=asked.precision != "float32")

    def timed(work: Callable[[], Any]) -> float:
        def once() -> None:
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()

        once()
        return round(measure.seconds(once, 2), 4)

    def student(back: bool) -> None:
        with half:
            _, vectors = network(views)
        if back:
            vectors.float().square().sum().backward()

    def compare() -> None:
        vectors = F.normalize(torch.randn(10, asked.images // EACH, EACH, 256, device=device), dim=-1).requires_grad_()
        logits = torch.rand(SEEN, asked.images // EACH, EACH, asked.prototypes, device=device)
        loss.at_bottleneck(vectors, network.head.prototypes, logits).backward()

    def follow() -> None:
        clip_each(list(network.parameters()), 3.0)
        update_teacher(teacher, network, momentum=0.996)

    def see() -> None:
        with torch.no_grad(), half:
            teacher(views[:SEEN])

    return {
        "views_on_the_host": timed(lambda: data_of[0]),
        "views_on_the_device": timed(lambda: data_of[0].to(device).augmented()) if device.type == "cuda" else 0.0,
        "teacher": timed(see),
        "student_forward": timed(lambda: student(False)),
        "student_forward_and_back": timed(lambda: student(True)),
        "loss": timed(compare),
        "optimizer": timed(optimizer.step),
        "clipping_and_teacher_move": timed(follow),
    }


def flops(backbone: str, images: int, prototypes: int) -> float:
    """Of one step: the student there and back, the teacher there, and the last layer of both."""
    large = describe_model(backbone, height=256, width=128).gmacs * 2e9
    small = describe_model(backbone, height=128, width=64).gmacs * 2e9
    last = 2.0 * 256 * prototypes
    return images * (3 * (2 * large + 8 * small + 10 * last) + 2 * (large + last))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["resnet50_ibn", "vit_small"])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5, help="ours and plain by turns; ratios are medians of these")
    parser.add_argument("--prototypes", type=int, default=65536)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak-tflops", type=float)
    parser.add_argument("--quick", action="store_true", help="ResNet-18, K = 1,024, 1 step, nothing kept")
    asked = parser.parse_args()
    if asked.quick:
        asked.backbones, asked.prototypes, asked.steps, asked.rounds = ["resnet18"], 1024, 1, 1
    started_on, device = measure.machine(), torch.device(asked.device)
    torch.set_num_threads(asked.threads)
    data = photographs(max(48, asked.images))[: max(48 // EACH, asked.images // EACH) * EACH]
    figures: dict[str, Any] = {"asked": {k: v for k, v in vars(asked).items() if k != "quick"}}
    for backbone in asked.backbones:
        rounds = [
            (ours(data, backbone, asked, device), plain(data, backbone, asked, device)) for _ in range(asked.rounds)
        ]
        mine, theirs = (statistics.median(side) for side in zip(*rounds, strict=True))
        ratios = [second / first for first, second in rounds]
        figures[backbone] = {
            "seconds_ours": round(mine, 4),
            "seconds_plain": round(theirs, 4),
            "plain_over_ours": round(statistics.median(ratios), 2),
            "plain_over_ours_by_round": [round(ratio, 2) for ratio in ratios],
            "images_per_second": round(asked.images / mine, 2),
            "where": where(data, backbone, asked, device),
        }
        tflops = flops(backbone, asked.images, asked.prototypes) / mine / 1e12
        figures[backbone]["tflops"] = round(tflops, 3)
        if asked.peak_tflops:
            figures[backbone]["flops_used"] = round(tflops / asked.peak_tflops, 3)
        if device.type == "cuda":
            figures[backbone]["gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
        print(json.dumps({backbone: figures[backbone]}, indent=2), flush=True)
    if not asked.quick:
        measure.keep("train_step" + ("" if asked.device == "cpu" else "_gpu"), figures, started_on)


if __name__ == "__main__":
    main()
