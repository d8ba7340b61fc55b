"""Clusters that Cluster Contrast would begin with, by the features of some models, and their scores as they are.

    python benchmarks/clusters_of_starts.py OUT MODEL ... --crops CUHK03_NP [--part crops|crops_dev]

Crops are those of `fine_tuning.py`: clusters of the training images of CUHK03-NP, scores of the people that are scored,
by the features before the neck and after one that has just been calibrated, as when the training begins. Each model
with the batch norm statistics that it has ("own") and with those of the images that are clustered ("adapted": AdaBN, as
`--method.adapt-batch-norm`). "cross_camera": share of images of camera 0 that are nearest to the right person among
those of camera 1, with the means of cameras subtracted.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from objectives import PARTS, split_of_crops
from torch.optim.swa_utils import update_bn

from reappear.data import Images, read
from reappear.methods.cluster_contrast.clusters import cluster_by_average_linkage
from reappear.metrics import cluster_by_jaccard, score_identities
from reappear.models import Embedder
from reappear.pipeline.validation import Validation

DBSCAN = {"least": 4, "k1": 10, "k2": 3}


def center(features: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Unit features without the mean of their camera."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit - np.stack([unit[camera == place].mean(0) for place in np.unique(camera)])[camera]


def clusters(features: np.ndarray, identity: np.ndarray, camera: np.ndarray) -> dict[str, Any]:
    """Figures of each kind of clusters."""
    centered = center(features, camera)
    found = {
        "dbscan, radius 0.5": cluster_by_jaccard(features, radius=0.5, **DBSCAN),
        "dbscan, radius 0.5, camera means subtracted": cluster_by_jaccard(centered, radius=0.5, **DBSCAN),
        "dbscan, radius 0.6, camera means subtracted": cluster_by_jaccard(centered, radius=0.6, **DBSCAN),
    }
    for z in (3.0, 2.0, 1.5):
        found[f"average linkage, z {z:g}"] = cluster_by_average_linkage(features, camera, z=z)
    table = {}
    for name, cluster in found.items():
        scores = score_identities(identity, cluster)
        table[name] = {
            "clustered": float((cluster >= 0).mean()),
            "clusters": int(cluster.max()) + 1,
            "precision": scores.pairwise_precision,
            "f1": scores.pairwise_f1,
            "recall_between_cameras": between_cameras(identity, cluster, camera),
        }
    return table


def between_cameras(identity: np.ndarray, cluster: np.ndarray, camera: np.ndarray) -> float:
    """Of pairs of images of one person in two cameras, the share that lies in one cluster."""
    together = wanted = 0
    for person in np.unique(identity):
        one, other = (cluster[(identity == person) & (camera == place)] for place in (0, 1))
        together += int(((one[:, None] == other) & (one[:, None] >= 0)).sum())
        wanted += len(one) * len(other)
    return together / wanted


def measured(model: Path, adapted: bool, images: Images, scored: Path) -> dict[str, Any]:
    """Scores and clusters of one model."""
    embedder = Embedder.load(model)
    embedder.feature = "before"
    if adapted:
        order = np.random.default_rng(0).permutation(len(images))
        batches = np.array_split(order, -(-len(order) // 256))
        pixels = (torch.from_numpy(embedder.preprocessing([images[row] for row in part.tolist()])) for part in batches)
        update_bn(pixels, embedder.backbone)
    mean_ap, rank_1 = Validation.of_folder(scored, embedder.preprocessing).scores(embedder)
    features = embedder([images[row] for row in range(len(images))])
    neck = torch.nn.BatchNorm1d(features.shape[1]).eval()
    neck.running_mean.copy_(torch.from_numpy(features.mean(0)))  # as `ClusterContrast` calibrates its neck
    neck.running_var.copy_(torch.from_numpy(features.var(0)))
    after_neck = Embedder(embedder.backbone, embedder.preprocessing, neck=neck)
    neck_ap, neck_rank_1 = Validation.of_folder(scored, embedder.preprocessing).scores(after_neck)
    features = (features - features.mean(0)) / np.sqrt(features.var(0) + 1e-5)
    identity, camera = (
        np.unique(part, return_inverse=True)[1] for part in (images.table.identity, images.table.camera)
    )
    centered = center(features, camera)
    one, other = np.flatnonzero(camera == 0), np.flatnonzero(camera == 1)
    nearest = other[(centered[one] @ centered[other].T / np.linalg.norm(centered[other], axis=1)).argmax(1)]
    return {
        "model": str(model.name),
        "statistics": "adapted" if adapted else "own",
        "map": mean_ap,
        "rank1": rank_1,
        "map_after_neck": neck_ap,
        "rank1_after_neck": neck_rank_1,
        "cross_camera": float((identity[nearest] == identity[one]).mean()),
        "clusters": clusters(features, identity, camera),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", type=Path, nargs="+", help="model folders")
    parser.add_argument("--crops", type=Path, required=True, help="CUHK03-NP")
    parser.add_argument("--part", choices=PARTS, default="crops_dev")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started_on, folder, rows = measure.machine(), asked.out / asked.part, []
    split_of_crops(asked.crops, folder, asked.part)
    images = Images(read("market1501", folder / "train"))
    with torch.inference_mode():
        for model in asked.models:
            for adapted in (False, True):
                rows.append(measured(model, adapted, images, folder / "scored"))
                print(json.dumps(rows[-1], indent=1), flush=True)
    measure.keep(f"clusters_of_starts_{asked.part}", {"dbscan": DBSCAN, "rows": rows}, started_on)


if __name__ == "__main__":
    main()
