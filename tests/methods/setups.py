"""What methods are built from, on a few images of noise."""

import numpy as np
import torch

from reappear.methods.registry import spec_of
from reappear.methods.settings import MethodSettings
from reappear.methods.setup import Setup
from reappear.train.settings import TrainSettings
from reappear.train.views import ViewSettings
from tests.train.tables import make_table


def make_setup(
    method: MethodSettings, *, images: int = 48, labels: str = "found", steps: int = 10, **changes: object
) -> Setup:
    """A setup of eight images, or 40 for DBSCAN, of each identity, for a small network of batch norm."""
    values = {"backbone": "cnn6", "arguments": {"width": 4}, "height": 16, "width": 8, "images_per_step": 48}
    if spec_of(method).command == "finetune":
        values |= {"images_per_step": 24}  # of four images of each identity
    if method.kind == "upreid":
        values |= {"height": 32, "width": 16}  # four rows of the map
    if method.kind == "mgn":
        network = {"layers": [1, 1, 2, 1], "channels": [4, 4, 8, 8]}
        values |= {"backbone": "resnet18_ibn", "arguments": network, "height": 64, "width": 32, "images_per_step": 64}
    views = ViewSettings(
        local_views=0 if method.kind in ("moco", "upreid") or spec_of(method).command == "finetune" else 1
    )
    if method.kind == "cluster_contrast":
        images, values["images_per_step"] = 240, 32
    if method.kind == "grl":
        values["images_per_step"] = 4 * 2 * method.frames
    training = TrainSettings(
        **{**values, "local_height": 8, "local_width": 8, "views": views, "steps": steps, **changes}
    )
    of_each = 40 if getattr(method, "clusters", None) == "dbscan" else 8
    identity = np.arange(images) if labels == "instance" else np.arange(images) // of_each
    photos = [np.random.default_rng(i).integers(0, 256, (20, 10, 3), dtype=np.uint8) for i in range(images)]
    if method.kind == "cluster_contrast":  # people in two colours
        colors = np.random.default_rng(0).integers(0, 256, (images // of_each, 2, 1, 1, 3))
        for i, photo in enumerate(photos):
            photo[:] = photo // 8 + np.repeat(colors[i // of_each], 10, 1)[:, :, 0].reshape(20, 1, 3) * 7 // 8
    tracklet = np.arange(images) // 2
    table = make_table(
        identity, camera=(tracklet if method.kind == "grl" else np.arange(images)) % 2, sequence=tracklet
    )
    return Setup(training, method, photos, table, labels, steps, torch.device("cpu"))
