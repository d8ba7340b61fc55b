"""Compares time and memory of ranking with the matrix product alone, and with sorting every row.

    python benchmarks/ranking.py             # both sizes, about 4 minutes on two cores
    python benchmarks/ranking.py --weak      # weak features of a small width, 2 minutes
    python benchmarks/ranking.py --quick     # a tenth of them, seconds

Each size runs in its own process, for its peak memory. The features take 0.2 and 0.8 GB.
"""

import argparse
import json
import os
import time
from typing import Any

import numpy as np
from measure import apart, keep, machine, peak_mb, seconds
from threadpoolctl import threadpool_limits

from reappear.core import Ranking
from reappear.metrics import RetrievalTask, rank_task

WIDTH, WEAK_WIDTH, TURNS = 2048, 256, 5
SIZES = {"market1501": (3368, 19732, 751, 6), "msmt17": (11659, 82161, 3060, 15)}  # queries, gallery, people, cameras


def crowd(name: str, part: int, width: int = WIDTH, noise: float = 3.9) -> dict[str, np.ndarray]:
    """Random features of people with noise, drawn in chunks: mAP a fifth to a third; without people, infinite noise."""
    queries, images, people, cameras = (max(2, size // part) for size in SIZES[name])
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((people, width), np.float32) / np.float32(noise)
    out = {}
    for side, rows in (("query", queries), ("gallery", images)):
        out[f"{side}_ids"] = rng.integers(people, size=rows)
        out[f"{side}_cameras"] = rng.integers(cameras, size=rows)
        out[side] = np.empty((rows, width), np.float32)
        for begin in range(0, rows, 1024):
            who = out[f"{side}_ids"][begin : begin + 1024]
            out[side][begin : begin + 1024] = rng.standard_normal((len(who), width), np.float32)
            out[side][begin : begin + 1024] += centres[who]
    return out


def rank_market(data: dict[str, np.ndarray], memory_mb: int) -> Ranking:
    """Under the protocol of Market-1501."""
    return rank_task(RetrievalTask.of(**data), memory_mb=memory_mb)


def product(data: dict[str, np.ndarray], memory_mb: int) -> None:
    """The matrix product alone, in the blocks of ranking."""
    query, gallery = data["query"], data["gallery"]
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
    made = seconds(lambda: product(data, memory_mb), repeats)
    ranked = seconds(lambda: rankings.append(rank_market(data, memory_mb)), repeats)
    return {
        "product_seconds": made,
        "seconds": ranked,
        "times_the_product": ranked / made,
        "mean_ap": rankings[0].mean_ap,
        "mean_inp": rankings[0].mean_inp,
        "data_mb": held,
        "peak_mb": peak_mb(),
    }


def weak(name: str, part: int, memory_mb: int) -> dict[str, Any]:
    """A quarter of the queries at a small width, where the product is cheap and, without people, every row is near."""
    out: dict[str, Any] = {}
    for noise, kind in ((np.inf, "random"), (3.9, "people")):
        data = crowd(name, part, WEAK_WIDTH, noise)
        data |= {column: rows[: len(rows) // 4] for column, rows in data.items() if column.startswith("query")}
        for threads in sorted({1, len(os.sched_getaffinity(0))}):
            with threadpool_limits(threads, "blas"):
                out[f"{kind}_{threads}_threads"] = in_turns(data, memory_mb)
    return out


def in_turns(data: dict[str, np.ndarray], memory_mb: int) -> dict[str, float]:
    """Product and ranking one after the other, again and again, for the machine may be shared; the best of each."""
    clocks = {"": time.perf_counter, "processor_": time.process_time}
    best = dict.fromkeys((f"{what}{clock}seconds" for what in ("product_", "") for clock in clocks), float("inf"))
    for _ in range(TURNS):
        for what, work in (("product_", product), ("", rank_market)):
            begun = {clock: now() for clock, now in clocks.items()}
            work(data, memory_mb)
            for clock, now in clocks.items():
                name = f"{what}{clock}seconds"
                best[name] = min(best[name], now() - begun[clock])
    return {
        **best,
        "times_the_product": best["seconds"] / best["product_seconds"],
        "times_its_processor_time": best["processor_seconds"] / best["product_processor_seconds"],
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

    def upload() -> None:
        TorchGallery(task.gallery, task.scale)
        torch.cuda.synchronize()

    made = seconds(product_there)
    del query, gallery
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    ranked = seconds(lambda: rank_task(task, memory_mb=2048, backend=TorchGallery))
    return {
        "device": torch.cuda.get_device_name(),
        "product_seconds": made,
        "upload_seconds": seconds(upload),
        "host_seconds": seconds(lambda: list(task.blocks(2048))),
        "seconds": ranked,
        "times_the_product": ranked / made,
        "peak_device_mb": torch.cuda.max_memory_allocated() / 1e6,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    options.add_argument("--weak", action="store_true", help="weak features of a small width instead, two minutes")
    options.add_argument("--memory-mb", type=int, default=256, help="as rank's")
    options.add_argument("--alone", nargs=2, metavar=("WHAT", "SIZE"), help=argparse.SUPPRESS)
    given = options.parse_args()
    part = 10 if given.quick else 1
    if given.alone:
        what, name = given.alone
        figures = weak(name, part, given.memory_mb) if what == "weak" else alone(what, name, part, given.memory_mb)
        print(json.dumps(figures))
        return
    started_on = machine()
    more = ["--memory-mb", str(given.memory_mb), *(["--quick"] if given.quick else [])]
    sizes = {"width": WEAK_WIDTH if given.weak else WIDTH, "sizes": SIZES}
    if given.weak:
        figures = {name: apart("--alone", "weak", name, *more) for name in SIZES}
        print(json.dumps(figures, indent=2))
        if not given.quick:
            keep("ranking_weak", {**sizes, **figures}, started_on)
        return
    figures = {name: apart("--alone", "ranking", name, *more) for name in SIZES}
    figures["market1501"]["sorting"] = apart("--alone", "sorting", "market1501", *more)
    figures["market1501"]["times_faster_than_sorting"] = (
        figures["market1501"]["sorting"]["seconds"] / figures["market1501"]["seconds"]
    )
    try:
        figures["gpu"] = on_gpu(part)
    except (ImportError, RuntimeError) as error:
        figures["gpu"] = {"not_measured": str(error).splitlines()[0]}
    print(json.dumps(figures, indent=2))
    if not given.quick:
        keep("ranking", {**sizes, **figures}, started_on)


if __name__ == "__main__":
    main()
