"""Compares linking with the peak rate of the machine: sliding range, all pairs, an index, and a GPU if available.

    python benchmarks/linking.py             # all sizes, about 8 minutes on two cores, 3 GB of disk for a while
    python benchmarks/linking.py --quick     # a tenth of them, half a minute

Each run is a separate process, for its peak memory. Centroids are memory-mapped, as in `reappear correlate --memory`,
and represent people who appear two or three times. The machine's rate of
float32 matrix products is measured in the same process, between the runs, by square products of 2048.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from measure import apart, keep, machine
from threadpoolctl import threadpool_info

from reappear.denoise import Approximate
from reappear.denoise.approximate import approximate_links
from reappear.denoise.linking import find_links
from reappear.denoise.products import Blas
from reappear.pipeline.engines import LocalSettings, choose_products

WIDTH, REACH, SIGMA = 768, 1000, 0.18
SLIDING, ALL, INDEX, GPU = (20_000, 100_000, 500_000), (20_000, 50_000), (20_000, 50_000, 100_000), 250_000


def centroids(path: Path, count: int, kind: str = "float32") -> None:
    """Unit rows around a common mean in 48 directions; 2000 consecutive rows have about 800 people."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((48, WIDTH), np.float32) / 48**0.5
    middle = 0.65 * rng.standard_normal(WIDTH, np.float32)
    out = np.lib.format.open_memmap(path, "w+", kind, (count, WIDTH))
    for begin in range(0, count, 2000):
        end = min(begin + 2000, count)
        people = rng.standard_normal((800, 48), np.float32)
        seen = people[rng.integers(0, 800, end - begin)] + 0.35 * rng.standard_normal((end - begin, 48), np.float32)
        rows = seen @ basis + middle
        out[begin:end] = rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Counted(Blas):
    """Counts the floating point operations of its products, in all threads."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def at_least(self, rows: np.ndarray, columns: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
        self.done.append(2 * len(rows) * len(columns) * WIDTH)
        return super().at_least(rows, columns, limit)


class Watch:
    """Samples the peak anonymous memory of the process, a hundred times a second."""

    def __init__(self) -> None:
        self._begun = self._most = self._now()

    def __enter__(self) -> "Watch":
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def mb(self) -> float:
        """MB above the level at the start."""
        return round(self._most - self._begun, 1)

    def _look(self) -> None:
        while not self._over.wait(0.01):
            self._most = max(self._most, self._now())

    @staticmethod
    def _now() -> float:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("RssAnon:")[1].split()[0]) / 1e3


def product_rate() -> float:
    """Floating point operations of a float32 matrix product in a second, the best of five."""
    a, b = np.random.default_rng(0).standard_normal((2, 2048, WIDTH), np.float32)
    out = np.empty((2048, 2048), np.float32)
    best = float("inf")
    for _ in range(5):
        begun = time.perf_counter()
        np.matmul(a, b.T, out=out)
        best = min(best, time.perf_counter() - begun)
    time.sleep(0.5)  # threads of BLAS stay awake for a while, and would take part of what is timed next
    return 2 * 2048 * 2048 * WIDTH / best


def kernels() -> str:
    """CPU kernel of numpy's BLAS; OPENBLAS_CORETYPE can override it."""
    return next(str(library["architecture"]) for library in threadpool_info() if library["user_api"] == "blas")


def one_exact(path: Path, reach: int | None, repeats: int) -> dict[str, Any]:
    """Times links of one file: the minimum over runs, each between two measurements of the machine."""
    centers = np.load(path, mmap_mode="r")
    count = len(centers)
    centers.max()  # the file is in memory before the clock starts
    watch = Watch()
    with watch:  # in a run of its own, for to look costs time
        links = find_links(centers, SIGMA, reach=reach)
    rates, times = [product_rate()], []
    for _ in range(repeats):
        products = Counted()
        begun = time.perf_counter()
        find_links(centers, SIGMA, reach=reach, products=products)
        times.append(time.perf_counter() - begun)
        rates.append(product_rate())
    pairs = count * (count - 1) // 2 if reach is None else reach * count - reach * (reach + 1) // 2
    seconds, rate = min(times), max(rates)
    return {
        "n": count,
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "kernels": kernels(),
        "seconds": round(seconds, 3),
        "links": len(links),
        "machine_gflops": round(rate / 1e9, 1),
        "share_of_machine": round(sum(products.done) / seconds / rate, 3),
        "share_of_machine_for_pairs_in_range": round(2 * pairs * WIDTH / seconds / rate, 3),
        "memory_beyond_matrix_mb": watch.mb,
        "all_seconds": [round(t, 3) for t in times],
    }


def one_index(path: Path, exact: bool) -> dict[str, Any]:
    centers = np.load(path, mmap_mode="r")
    centers.max()
    with Watch() as watch:
        begun = time.perf_counter()
        links, recall = approximate_links(centers, SIGMA, Approximate(recall=0.99))
        seconds = time.perf_counter() - begun
    out = {"n": len(centers), "seconds": round(seconds, 2), "links": len(links), "recall_of_sample": recall}
    out["memory_beyond_matrix_mb"] = watch.mb
    if exact:
        out["recall_of_all"] = len(links) / len(find_links(centers, SIGMA))
    return out


def one_gpu(path: Path) -> dict[str, Any]:
    centers = np.load(path, mmap_mode="r")
    products = choose_products("cuda", LocalSettings())
    few = centers[:20_000]
    same = find_links(few, SIGMA, products=products).distance.tobytes() == find_links(few, SIGMA).distance.tobytes()
    begun = time.perf_counter()
    links = find_links(centers, SIGMA, products=products)
    return {
        "n": len(centers),
        "seconds": round(time.perf_counter() - begun, 2),
        "links": len(links),
        "first_20000_have_the_links_of_the_processor": same,
    }


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def line(x: list[float], y: list[float]) -> dict[str, float]:
    """Least-squares line of relative errors."""
    slope, start = np.polyfit(x, y, 1, w=1 / np.asarray(y))
    worst = max(abs(slope * n + start - t) / t for n, t in zip(x, y, strict=True))
    return {"seconds_for_each_1000": slope * 1000, "seconds_at_0": start, "largest_relative_error": worst}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", nargs=4, metavar=("WHAT", "FILE", "REACH", "REPEATS"), help="a single run")
    asked = parser.parse_args()
    if asked.one:
        what, file, reach, repeats = asked.one
        path, reach = Path(file), None if reach == "all" else int(reach)
        runs = {
            "exact": lambda: one_exact(path, reach, int(repeats)),
            "index": lambda: one_index(path, bool(int(repeats))),
            "gpu": lambda: one_gpu(path),
        }
        print(json.dumps(runs[what]()))
        return

    part = 10 if asked.quick else 1
    started_on = machine()
    cores = started_on["cores"]
    figures: dict[str, Any] = {
        "width": WIDTH,
        "radius": REACH,
        "sigma_drm": SIGMA,
        "sliding": [],
        "all": [],
        "index": [],
    }

    def run(what: str, path: Path, reach: int | None, repeats: int, threads: int, **environment: str) -> dict[str, Any]:
        with patch.dict(os.environ, OMP_NUM_THREADS=str(threads), **environment):
            row = apart("--one", what, str(path), "all" if reach is None else str(reach), str(repeats))
        print(what, json.dumps(row), flush=True)
        return row

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "centers.npy"
        for size in SLIDING:
            centroids(path, size // part)
            for threads in sorted({1, cores}):
                figures["sliding"].append(run("exact", path, REACH, 3, threads))
        centroids(path, SLIDING[1] // part)
        figures["sliding_by_kernels"] = [
            run("exact", path, REACH, 3, cores, OPENBLAS_CORETYPE=name) for name in ("Haswell", "SkylakeX")
        ]
        centroids(path, SLIDING[1] // part, "float16")
        figures["sliding_from_float16"] = run("exact", path, REACH, 3, cores)
        for size in sorted({*ALL, *INDEX}):
            centroids(path, size // part)
            if size in ALL:
                figures["all"].append(run("exact", path, None, 2, cores))
            if size in INDEX:
                figures["index"].append(run("index", path, None, int(size in ALL), cores))
        if has_gpu():
            centroids(path, GPU // part)
            figures["gpu"] = run("gpu", path, None, 1, cores)

    for threads in sorted({1, cores}):
        rows = [row for row in figures["sliding"] if row["threads"] == threads]
        fit = line([row["n"] for row in rows], [row["seconds"] for row in rows])
        figures[f"sliding_fit_{threads}_threads"] = fit
        print(
            f"{threads} threads: {fit['seconds_for_each_1000']:.4f} s for each 1000 nodes "
            f"and {fit['seconds_at_0']:.3f} s, off by {fit['largest_relative_error']:.1%} at most"
        )
    # Seconds for all pairs = N² d / rate, since each of N² / 2 pairs costs 2 d operations.
    rate = figures["all"][-1]["n"] ** 2 * WIDTH / figures["all"][-1]["seconds"]
    figures["all_on_paper"] = {
        "formula": f"N² · {WIDTH} / {rate / 1e9:.0f}e9 seconds",
        **{f"{n:,}": round(n**2 * WIDTH / rate) for n in (250_000, 1_000_000, 10_000_000)},
    }
    print("all pairs on paper, in seconds:", figures["all_on_paper"])
    keep("linking", figures, started_on)


if __name__ == "__main__":
    main()
