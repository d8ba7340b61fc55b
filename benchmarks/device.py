"""What a GPU does in each part of the work, against bars: views, loss, step, ranking, pairs, neighbours, identities.

    python benchmarks/device.py                      # 7 minutes at most
    python benchmarks/device.py --parts loss colours
    python benchmarks/device.py --small --device cpu # half a minute on a CPU, nothing kept

Each part runs in a process of its own (with `--small` in this one) and has a time limit; its figures are kept in
`results/device.json` as soon as they are there. A part that fails or takes too long is named, and the others go on.
Times are the shortest of some runs, ratios are taken in one process. `ceilings` are the products of 8192³ that the card
does in the same session: bars in seconds are those of one H200; on another card compare ratios.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import average
import identity_loss
import linking
import measure
import numpy as np
import ranking
import torch
import train_step
from views import CUTTER, photographs

from reappear.core import generator
from reappear.denoise import BLAS
from reappear.denoise.joining import components
from reappear.denoise.linking import find_links
from reappear.denoise.neighbors import Search, nearest_neighbors, neighbors_of_block
from reappear.metrics import RetrievalTask, rank_task
from reappear.pipeline.engines.torch_products import TorchProducts
from reappear.pipeline.torch_gallery import TorchGallery
from reappear.train.batch import ViewBatch

Figures = dict[str, Any]
NEIGHBORS = 62  # of each tracklet, as average linkage asks for


def shortest(work: Callable[[], Any], device: torch.device, repeats: int = 10) -> float:
    """Seconds until the device is done, after a run that warms up."""

    def once() -> None:
        work()
        synchronize(device)

    once()
    return measure.seconds(once, repeats if device.type == "cuda" else 1)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_mb(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else measure.peak_mb()


def ceilings(device: torch.device, small: bool) -> Figures:
    """TFLOP/s of a square product."""
    n = 512 if small else 8192
    out: Figures = {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}
    for name, kind, tf32 in (
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = torch.randn(2, n, n, device=device).to(kind)
        out[f"{name}_tflops"] = 2 * n**3 / shortest(partial(torch.mm, a, b), device, 5) / 1e12
    return out


def colours(device: torch.device, small: bool) -> Figures:
    """Colours of 120 images in 10 views; `launched` is when the host is free again."""
    rng = np.random.default_rng(0)
    images = 4 if small else 120
    cuts = [CUTTER.cut(rng.integers(0, 256, (280, 140, 3), np.uint8), generator(0, i)) for i in range(images)]
    views = [torch.from_numpy(np.stack([cut.views[k] for cut in cuts])).permute(0, 3, 1, 2) for k in range(10)]
    params = [torch.from_numpy(np.stack([cut.color_params[k] for cut in cuts])).float() for k in range(10)]
    batch = ViewBatch([view[:, None] for view in views], torch.arange(images), [x[:, None] for x in params]).to(device)
    seconds = shortest(batch.augmented, device)
    synchronize(device)
    begun = time.perf_counter()
    batch.augmented()
    launched = time.perf_counter() - begun
    return {"images": images, "seconds": seconds, "launched_seconds": launched, "peak_mb": peak_mb(device)}


def loss(device: torch.device, small: bool) -> Figures:
    """The loss at the bottleneck and from logits, forward and backward, against log-softmax."""
    out: Figures = {}
    for prototypes in (256, 512) if small else (8192, 65536):
        sizes = {"images": 16 if small else 120, "views": 10, "device": str(device)}
        case = identity_loss.Case(prototypes, **sizes, each=8, weighting="equation")
        forms = ("log_softmax", "logits", "layer_and_log_softmax", "bottleneck")
        seconds = {form: shortest(partial(case.run, form), device) for form in forms}
        logits = case.student.numel() * case.student.element_size()
        out[f"prototypes_{prototypes}"] = {
            "seconds": seconds,
            "bottleneck_over_layer_and_log_softmax": seconds["bottleneck"] / seconds["layer_and_log_softmax"],
            "logits_over_log_softmax": seconds["logits"] / seconds["log_softmax"],
            "held_over_logits": {form: identity_loss.held(case, form) / logits for form in forms},
        }
        del case
    return out


def step(device: torch.device, small: bool) -> Figures:
    """A step of ResNet50-IBN at the paper's sizes, eager; its parts; and how often the host waits in it."""
    asked = argparse.Namespace(
        images=8 if small else 120,
        prototypes=512 if small else 65536,
        precision="float32" if small else "bfloat16",
        compile=False,
        workers=0 if small else max(1, len(os.sched_getaffinity(0)) - 2),
        steps=1 if small else 12,
    )
    backbone = "resnet18" if small else "resnet50_ibn"
    data = photographs(16 if small else 120)[: asked.images]
    seconds = train_step.ours(data, backbone, asked, device)
    out: Figures = {"seconds": seconds, "images_per_second": asked.images / seconds, "peak_mb": peak_mb(device)}
    if device.type == "cuda":
        few, more = 3, 9
        waits = [synchronizations(data, backbone, asked, device, steps) for steps in (few, more)]
        out["waits_per_step"] = (waits[1] - waits[0]) / (more - few)
    out["parts"] = train_step.where(data, backbone, asked, device)
    return out


def synchronizations(
    data: list[bytes], backbone: str, asked: argparse.Namespace, device: torch.device, steps: int
) -> int:
    """Calls of a training after which the host waits for the device, by torch's own count."""
    shorter = argparse.Namespace(**{**vars(asked), "steps": steps})
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            train_step.ours(data, backbone, shorter, device)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in found)


def rank_gallery(device: torch.device, small: bool) -> Figures:
    """Ranking at the size of MSMT17 against its product, with the copy to the device."""
    task = RetrievalTask.of(**ranking.crowd("msmt17", 40 if small else 1), protocol="market")
    query, gallery = (torch.tensor(side, device=device) for side in (task.query, task.gallery))

    def product() -> None:
        for some in query.split(1024):
            some @ gallery.T

    made = shortest(product, device, 3)
    del query, gallery
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    backend = partial(TorchGallery, device=str(device))
    ranked = shortest(partial(rank_task, task, memory_mb=2048, backend=backend), device, 3)
    return {
        "product_seconds": made,
        "seconds": ranked,
        "times_the_product": ranked / made,
        "peak_mb": peak_mb(device),
    }


def pairs(device: torch.device, small: bool) -> Figures:
    """All pairs of 250,000 rows; components of the first 50,000 against the processor's, links against float64."""
    count, compared = (3000, 1000) if small else (linking.GPU, 50_000)
    with tempfile.TemporaryDirectory() as folder:
        linking.centroids(Path(folder) / "centers.npy", count)
        centers = np.load(Path(folder) / "centers.npy")
    products = TorchProducts(str(device))
    few = centers[:compared]
    there, here = find_links(few, linking.SIGMA, products=products), find_links(few, linking.SIGMA)
    same = np.array_equal(components(compared, there), components(compared, here))
    seconds = shortest(partial(find_links, centers, linking.SIGMA, products=products), device, 2)
    links = find_links(centers, linking.SIGMA, products=products)
    some = np.random.default_rng(0).permutation(len(links))[:100_000]
    first, second = (centers[side[some]].astype(np.float64) for side in (links.first, links.second))
    wrong = np.abs(1 - np.einsum("nd,nd->n", first, second) - links.distance[some]).max(initial=0.0)
    return {
        "rows": count,
        "seconds": seconds,
        "links": len(links),
        "same_components_as_the_processor": bool(same),
        "largest_error_of_a_distance": float(wrong),
    }


def neighbors(device: torch.device, small: bool) -> Figures:
    """The 62 nearest of each of 250,000 rows; those of 2,000 here and there against the processor's, bit for bit."""
    count, checked = (3000, 100) if small else (linking.GPU, 500)
    with tempfile.TemporaryDirectory() as folder:
        linking.centroids(Path(folder) / "centers.npy", count)
        centers = np.load(Path(folder) / "centers.npy")
    find = partial(nearest_neighbors, centers, NEIGHBORS, products=TorchProducts(str(device)))
    seconds = shortest(find, device, 2)
    found, same = find(), True
    for begin in np.linspace(0, count - checked, 4).astype(int).tolist():
        some = slice(begin, begin + checked)
        own = neighbors_of_block(centers, Search(some.start, some.stop, NEIGHBORS, count, BLAS))
        same &= found.index[some].tobytes() == own.index.tobytes()
        same &= found.cosine[some].tobytes() == own.cosine.tobytes()
    return {
        "rows": count,
        "k": NEIGHBORS,
        "seconds": seconds,
        "same_as_the_processor": same,
        "peak_mb": peak_mb(device),
    }


def identities(device: torch.device, small: bool) -> Figures:
    """From 250,000 vectors to identities by average linkage, with the neighbours of all pairs."""
    count, products = 3000 if small else linking.GPU, TorchProducts(str(device))
    average.to_identities(count, products)  # warms up
    return {**average.to_identities(count, products), "peak_mb": peak_mb(device)}


PARTS: dict[str, tuple[Callable[[torch.device, bool], Figures], int]] = {  # and seconds at most
    "ceilings": (ceilings, 30),
    "colours": (colours, 30),
    "loss": (loss, 60),
    "step": (step, 120),
    "ranking": (rank_gallery, 60),
    "pairs": (pairs, 60),
    "neighbors": (neighbors, 90),
    "identities": (identities, 120),
}


def bars(figures: Figures) -> Iterator[tuple[str, float, float]]:
    """What is held against what: name, figure, and the most it should be."""
    if "seconds" in figures.get("colours", {}):
        yield "colours of 120 images x 10 views, ms", 1000 * figures["colours"]["seconds"], 6
    for name, row in figures.get("loss", {}).items():
        if isinstance(row, dict):
            yield f"loss, {name}: times layer + log-softmax", row["bottleneck_over_layer_and_log_softmax"], 1.5
            yield f"loss, {name}: memory over logits", row["held_over_logits"]["bottleneck"], 1
            yield f"loss, {name}: logit form, times log-softmax", row["logits_over_log_softmax"], 3
    if "waits_per_step" in figures.get("step", {}):
        yield "step: times the host waits", figures["step"]["waits_per_step"], 0
    if "seconds" in figures.get("ranking", {}):
        yield "ranking: times its product", figures["ranking"]["times_the_product"], 3
        yield "ranking: peak memory, GB", figures["ranking"]["peak_mb"] / 1000, 4
    if "seconds" in figures.get("pairs", {}):
        yield "all pairs of 250,000, s", figures["pairs"]["seconds"], 1.0
        yield (
            "all pairs: other components than the processor's",
            not figures["pairs"]["same_components_as_the_processor"],
            0,
        )
    if "seconds" in figures.get("neighbors", {}):
        yield "neighbours: other than the processor's", not figures["neighbors"]["same_as_the_processor"], 0
    if "seconds" in figures.get("identities", {}):
        yield "from vectors to identities of 250,000, s", figures["identities"]["seconds"], 5.0


def run_part(name: str, flags: list[str]) -> Figures:
    """The figures of a part, from a process of its own; why there are none, if there are none."""
    limit, begun = PARTS[name][1], time.perf_counter()
    try:
        command = [sys.executable, __file__, "--part", name, *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {limit} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "part_seconds": time.perf_counter() - begun}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small sizes, nothing kept")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        print(json.dumps(PARTS[asked.part][0](torch.device(asked.device), asked.small)))
        return
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("device: there is no GPU here; give --device cpu --small to try the script")
    started_on = measure.machine()
    figures: Figures = {"device": asked.device}
    for name in asked.parts:
        if asked.small:
            figures[name] = PARTS[name][0](torch.device(asked.device), True)
        else:
            figures[name] = run_part(name, ["--device", asked.device])
        print(name, json.dumps(figures[name]), flush=True)
        if not asked.small:
            measure.keep("device", figures, started_on)
    if asked.small:
        print("small sizes: the table is complete, and its bars do not apply")
    for name, figure, bar in bars(figures):
        print(f"{name:<58} {figure:>9.3f}  {'<=' if figure <= bar else '> '} {bar:g}")
    failed = [name for name in asked.parts if "failed" in figures[name]]
    if failed:
        raise SystemExit(f"parts without figures: {', '.join(failed)}")


if __name__ == "__main__":
    main()
