"""Compares sparse, blocked k-reciprocal re-ranking with the dense published algorithm.

    python benchmarks/rerank.py             # 3,368 queries and 15,913 images, about 2 minutes on two cores, 7 GB
    python benchmarks/rerank.py --quick     # a tenth of both, seconds

Each variant runs in its own process, for its peak memory. `published` has the matrices and loops
of the public code: all distances, divided by the largest of their column and transposed, all orders, the encoding
of every image as a row of all images.
"""

import argparse
import json
import time
from typing import Any

import numpy as np
from measure import apart, keep, machine, peak_mb

from reappear.metrics import k_reciprocal_rerank

WIDTH, QUERIES, IMAGES, PEOPLE = 2048, 3368, 15913, 751
K1, K2, WEIGHT = 20, 6, 0.3


def crowd(part: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of people whose images are mostly mutual neighbours, as from a trained network."""
    rng = np.random.default_rng(0)
    count, people = (QUERIES + IMAGES) // part, PEOPLE // part
    rows = rng.standard_normal((people, WIDTH), np.float32)[rng.integers(people, size=count)]
    for begin in range(0, count, 1024):
        rows[begin : begin + 1024] += rng.standard_normal(rows[begin : begin + 1024].shape, np.float32)
    return rows[: QUERIES // part], rows[QUERIES // part :]


def published(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    features = np.concatenate([query, gallery])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    original = 2 - 2 * features @ features.T
    original = (original / original.max(axis=0)).T
    order = np.argsort(original, axis=1).astype(np.int32)
    count, half = len(features), round(K1 / 2)
    encoded = np.zeros_like(original)

    def mutual(image: int, k: int) -> np.ndarray:
        forward = order[image, : k + 1]
        return forward[(order[forward, : k + 1] == image).any(axis=1)]

    for image in range(count):
        mine = mutual(image, K1)
        wider = [mine]
        for other in mine:
            theirs = mutual(other, half)
            if len(np.intersect1d(theirs, mine)) > 2 / 3 * len(theirs):
                wider.append(theirs)
        columns = np.unique(np.concatenate(wider))
        shares = np.exp(-original[image, columns])
        encoded[image, columns] = shares / shares.sum()
    original = original[: len(query)].copy()
    averaged = np.empty_like(encoded)
    for image in range(count):
        averaged[image] = encoded[order[image, :K2]].mean(axis=0)
    encoded = averaged
    owners = [np.flatnonzero(encoded[:, column]) for column in range(count)]
    jaccard = np.empty_like(original)
    for number in range(len(query)):
        common = np.zeros(count, np.float32)
        for column in np.flatnonzero(encoded[number]):
            common[owners[column]] += np.minimum(encoded[number, column], encoded[owners[column], column])
        jaccard[number] = 1 - common / (2 - common)
    final = (1 - WEIGHT) * jaccard + WEIGHT * original
    return final[:, len(query) :]


def alone(what: str, part: int) -> dict[str, float]:
    query, gallery = crowd(part)
    held = peak_mb()
    begun = time.perf_counter()
    if what == "sparse":
        distance = k_reciprocal_rerank(query, gallery, k1=K1, k2=K2, weight=WEIGHT)
    else:
        distance = published(query, gallery)
    spent = time.perf_counter() - begun
    sample = distance[:: max(1, len(distance) // 50), :: max(1, distance.shape[1] // 50)]
    return {"seconds": spent, "data_mb": held, "peak_mb": peak_mb(), "sample": sample.astype(float).tolist()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="a tenth of the size")
    options.add_argument("--alone", help=argparse.SUPPRESS)
    given = options.parse_args()
    part = 10 if given.quick else 1
    if given.alone:
        print(json.dumps(alone(given.alone, part)))
        return
    started_on = machine()
    more = ["--quick"] if given.quick else []
    figures: dict[str, Any] = {what: apart("--alone", what, *more) for what in ("sparse", "published")}
    samples = {what: np.array(figure.pop("sample")) for what, figure in figures.items()}
    ours, theirs = figures["sparse"], figures["published"]
    apart_by = np.abs(samples["published"] - samples["sparse"])
    figures |= {
        "times_faster": theirs["seconds"] / ours["seconds"],
        "share_of_memory": ours["peak_mb"] / theirs["peak_mb"],
        "largest_difference_in_a_sample": float(apart_by.max()),
        "median_difference_in_a_sample": float(np.median(apart_by)),
    }
    print(json.dumps(figures, indent=2))
    if not given.quick:
        size = {"queries": QUERIES, "images": IMAGES, "width": WIDTH, "k1": K1, "k2": K2, "weight": WEIGHT}
        keep("rerank", {**size, **figures}, started_on)


if __name__ == "__main__":
    main()
