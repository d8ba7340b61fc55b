"""Time and memory of clusters by DBSCAN on the k-reciprocal Jaccard distance: sparse, and dense as published.

    python benchmarks/jaccard_dbscan.py            # 12,936 images both ways, 32,621 sparse: some minutes, 4 GB

Sizes are those of the training sets of Market-1501 and MSMT17; features are random, of width 2,048, around as many
centres as there are people. Dense: the public code of Cluster Contrast, with its matrices of all images by all images
and its loops over rows, on the same neighbours (there: faiss). Each run is a process of its own; `beyond_features_mb`
is its peak memory less that before the first step. `after_search` is the share of the processor time of the sparse form
that is not the search for neighbours, in the same run.
"""

import json
import sys
import time
from typing import Any

import measure
import numpy as np
from sklearn.cluster import DBSCAN

from reappear.core import unit_rows
from reappear.metrics import cluster_by_jaccard, jaccard
from reappear.metrics.reranking import nearest_rows

WIDTH, K1, K2, RADIUS = 2048, 30, 6, 0.6
SIZES = {12_936: 751, 32_621: 1_041}  # images: people
MEMORY_MB = 256


def features_of(images: int) -> np.ndarray:
    random = np.random.default_rng(0)
    centers = random.standard_normal((SIZES[images], WIDTH), np.float32)
    made = centers[random.integers(0, SIZES[images], images)]
    made += 1.5 * random.standard_normal((images, WIDTH), np.float32)
    return made


def dense(features: np.ndarray) -> np.ndarray:
    """Labels by the published algorithm."""
    unit = unit_rows(features, name="image")
    near = nearest_rows(unit, K1, MEMORY_MB)[0]
    count = len(unit)

    def mutual(row: int, k: int) -> np.ndarray:
        forward = near[row, : k + 1]
        return forward[(near[forward, : k + 1] == row).any(1)]

    first = [mutual(row, K1) for row in range(count)]
    half = [mutual(row, int(np.around(K1 / 2))) for row in range(count)]
    shares = np.zeros((count, count), np.float32)
    for row in range(count):
        wider = first[row]
        for other in first[row]:
            if len(np.intersect1d(half[other], first[row])) > 2 / 3 * len(half[other]):
                wider = np.append(wider, half[other])
        wider = np.unique(wider)
        part = np.exp(2 * (unit[row] @ unit[wider].T) - 2)
        shares[row, wider] = part / part.sum()
    averaged = np.empty_like(shares)
    for row in range(count):
        averaged[row] = shares[near[row, :K2]].mean(0)
    shares = averaged
    columns = [np.flatnonzero(shares[:, column]) for column in range(count)]
    distance = np.zeros((count, count), np.float32)
    for row in range(count):
        common = np.zeros(count, np.float32)
        for column in np.flatnonzero(shares[row]):
            at = columns[column]
            common[at] += np.minimum(shares[row, column], shares[at, column])
        distance[row] = 1 - common / (2 - common)
    np.maximum(distance, 0, out=distance)
    return DBSCAN(eps=RADIUS, min_samples=4, metric="precomputed").fit(distance).labels_


def one(kind: str, images: int) -> None:
    """One run in this process; prints its figures as JSON."""
    features = features_of(images)
    before = measure.peak_mb()
    begun, used = time.perf_counter(), time.process_time()

    def spent() -> dict[str, float]:
        return {
            "seconds": round(time.perf_counter() - begun, 1),
            "processor_seconds": round(time.process_time() - used, 1),
        }

    search = 0.0

    def timed(*arguments: Any) -> Any:
        nonlocal search
        before_search = time.process_time()
        found = nearest_rows(*arguments)
        search = time.process_time() - before_search
        return found

    jaccard.nearest_rows = timed
    labels = dense(features) if kind == "dense" else cluster_by_jaccard(
        features, radius=RADIUS, k1=K1, k2=K2, memory_mb=MEMORY_MB
    )  # fmt: skip
    found = spent()
    if kind == "sparse":
        found["after_search"] = round(1 - search / found["processor_seconds"], 3)
    found = {**found, "beyond_features_mb": round(measure.peak_mb() - before)}
    kept = labels[labels >= 0]
    digest = int(np.sum((labels + 1) * np.arange(1, len(labels) + 1)) % (1 << 31))
    print(
        json.dumps({**found, "clusters": len(np.unique(kept)), "outliers": int((labels < 0).sum()), "digest": digest})
    )


def main() -> None:
    if len(sys.argv) > 1:
        one(sys.argv[1], int(sys.argv[2]))
        return
    started_on, rows = measure.machine(), []
    for images in SIZES:
        row = {"images": images, "sparse": measure.apart("sparse", str(images))}
        if images == min(SIZES):
            row["dense"] = measure.apart("dense", str(images))
            row["same_labels"] = row["dense"]["digest"] == row["sparse"]["digest"]
        rows.append(row)
        print(json.dumps(row, indent=2), flush=True)
    measure.keep("jaccard_dbscan", {"width": WIDTH, "k1": K1, "k2": K2, "radius": RADIUS, "rows": rows}, started_on)


if __name__ == "__main__":
    main()
