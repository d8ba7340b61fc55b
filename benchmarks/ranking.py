"""Compares time and memory of ranking with the matrix product alone, and with sorting every row.

    python benchmarks/ranking.py             # both sizes, about 4 minutes on two cores
    python benchmarks/ranking.py --quick     # a tenth of them, seconds

Each size runs in its own process, for its peak memory. The features take 0.2 and 0.8 GB.
"""

import argparse
import json
import time
from typing import Any

import numpy as np
from measure import apart, keep, machine, peak_mb, seconds

from reappear.core import Ranking
from reappear.metrics import RetrievalTask, rank, rank_task

WIDTH = 2048
SIZES = {"market1501": (3368, 19732, 751, 6), "msmt17": (11659, 82161, 3060, 15)}  # queries, gallery, people, cameras


def crowd(name: str, part: int) -> dict[str, np.ndarray]:
    """Random features of people with noise, drawn in chunks: mAP about a half."""
    queries, images, people, cameras = (max(2, size // part) for size in SIZES[name])
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((people, WIDTH), np.float32)
    out = {}
    for side, rows in (("query", queries), ("gallery", images)):
        out[f"{side}_ids"] = rng.integers(people, size=rows)
        out[f"{side}_cameras"] = rng.integers(cameras, size=rows)
        out[side] = np.empty((rows, WIDTH), np.float32)
        for begin in range(0, rows, 1024):
            who = out[f"{side}_ids"][begin : begin + 1024]
            out[side][begin : begin + 1024] = rng.standard_normal((len(who), WIDTH), np.float32) * 3.9
            out[side][begin : begin + 1024] += centres[who]
    return out


def product(query: np.ndarray, gallery: np.ndarray, memory_mb: int) -> None:
    """The matrix product alone, in the blocks of ranking."""
    step = max(1, (memory_mb << 20) // (8 * len(gallery)))
    room = np.empty((step, len(gallery)), np.float32)
    for begin in range(0, len(query), step):
        some = query[begin : begin + step]
        np.matmul(some, gallery.T, out=room[: len(some)])


def sorting(data: dict[str, np.ndarray]) -> float:
    """The straightforward evaluation: the whole distance matrix, every row sorted, a loop over queries."""
    unit = [data[side] / np.linalg.norm(data[side], axis=1, keepdims=True) for side in ("query", "gallery")]
    order = np.argsort(1 - unit[0] @ unit[1].T, axis=1)
    same = data["gallery_ids"][order] == data["query_ids"][:, None]
    precisions = []
    for number, row in enumerate(order):
        camera = data["gallery_cameras"][row] == data["query_cameras"][number]
        hits = same[number][~(same[number] & camera)]
        if hits.any():
            places = np.flatnonzero(hits) + 1
            precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
    return float(np.mean(precisions))


def alone(what: str, name: str, part: int, memory_mb: int) -> dict[str, float]:
    """One variant, in this process."""
    data = crowd(name, part)
    held = peak_mb()
    repeats = 3 if name == "market1501" else 1
    if what == "sorting":
        begun = time.perf_counter()
        mean_ap = sorting(data)
        return {"seconds": time.perf_counter() - begun, "mean_ap": mean_ap, "data_mb": held, "peak_mb": peak_mb()}
    rankings: list[Ranking] = []
    made = seconds(lambda: product(data["query"], data["gallery"], memory_mb), repeats)
    ranked = seconds(lambda: rankings.append(rank(**data, memory_mb=memory_mb)), repeats)
    return {
        "product_seconds": made,
        "seconds": ranked,
        "times_the_product": ranked / made,
        "mean_ap": rankings[0].mean_ap,
        "mean_inp": rankings[0].mean_inp,
        "data_mb": held,
        "peak_mb": peak_mb(),
    }


def on_gpu(part: int) -> dict[str, float]:
    """The large size where torch holds it."""
    import torch

    from reappear.pipeline.torch_gallery import TorchGallery

    task = RetrievalTask.of(**crowd("msmt17", part), protocol="market")
    query, gallery = (torch.tensor(side, device="cuda") for side in (task.query, task.gallery))

    def product_there() -> None:
        for some in query.split(1024):
            some @ gallery.T
        torch.cuda.synchronize()

    made = seconds(product_there)
    ranked = seconds(lambda: rank_task(task, memory_mb=2048, backend=TorchGallery))
    return {
        "device": torch.cuda.get_device_name(),
        "product_seconds": made,
        "seconds": ranked,
        "times_the_product": ranked / made,
        "peak_device_mb": torch.cuda.max_memory_allocated() / 1e6,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    options.add_argument("--memory-mb", type=int, default=256, help="as rank's")
    options.add_argument("--alone", nargs=2, metavar=("WHAT", "SIZE"), help=argparse.SUPPRESS)
    given = options.parse_args()
    part = 10 if given.quick else 1
    if given.alone:
        print(json.dumps(alone(*given.alone, part, given.memory_mb)))
        return
    started_on = machine()
    more = ["--memory-mb", str(given.memory_mb), *(["--quick"] if given.quick else [])]
    figures: dict[str, Any] = {name: apart("--alone", "ranking", name, *more) for name in SIZES}
    figures["market1501"]["sorting"] = apart("--alone", "sorting", "market1501", *more)
    figures["market1501"]["times_faster_than_sorting"] = (
        figures["market1501"]["sorting"]["seconds"] / figures["market1501"]["seconds"]
    )
    try:
        figures["gpu"] = on_gpu(part)
    except (ImportError, RuntimeError) as error:
        figures["gpu"] = f"not measured: {str(error).splitlines()[0]}"
    print(json.dumps(figures, indent=2))
    if not given.quick:
        keep("ranking", {"width": WIDTH, "sizes": SIZES, **figures}, started_on)


if __name__ == "__main__":
    main()
