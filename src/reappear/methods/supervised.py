"""Shared by methods that learn identities from whole images: classes, batches, the network in several processes."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from reappear.core import ImageTable
from reappear.train import parallel
from reappear.train.batch import ImageBatch
from reappear.train.datasets import ImageDataset, Images
from reappear.train.image_augment import ImageAugment, ImageAugmentSettings
from reappear.train.metrics_log import Row
from reappear.train.samplers import PKSampler
from reappear.train.task import Labels, Phase, Task

from .network import Head, Network
from .setup import Setup


class SupervisedTask(Task[ImageBatch]):
    """Batches of P identities with K images of each. Methods give the head and the loss.

    Args:
        setup: Settings, images, and where it runs.
        make_head: From the width of the features and the number of identities.
        augment: Augmentation of images.
        images: K.
        extend: See `build_network`.
    """

    student: Network

    def __init__(
        self,
        setup: Setup[Any],
        make_head: Callable[[int, int], Head],
        *,
        augment: ImageAugmentSettings,
        images: int,
        extend: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        people, identity = np.unique(setup.table.identity, return_inverse=True)
        camera = np.unique(setup.table.camera, return_inverse=True)[1]
        self._table = replace(setup.table, identity=identity, camera=camera)  # numbers without gaps
        self.setup, self._augment, self._images = setup, augment, images
        self.student = setup.network(lambda width: make_head(width, len(people)), extend=extend)
        self.student.backbone = parallel.convert_sync_batchnorm(self.student.backbone, setup.device)
        setup.compile(self.student)

    @cached_property
    def distributed(self) -> nn.Module:
        """The student from images to features, so that gradients are averaged over processes."""
        return parallel.wrap_ddp(_Pooled(self.student))

    def phase(self, step: int, labels: Labels | None) -> Phase:
        """One phase: P identities with K images of each."""
        identities = self.setup.training.images_per_step // self._images
        return Phase(0, self.setup.steps, self.dataset(self.setup.images, self._table, identities=identities))

    def dataset(
        self, images: Images, table: ImageTable, *, identities: int, camera: Int[np.ndarray, " n"] | None = None
    ) -> ImageDataset:
        """Steps of identities with K images of each, augmented.

        Args:
            images: Read by row of the table.
            table: Their labels.
            identities: P.
            camera: Where given, a group takes images of different cameras as far as there are any.
        """
        training = self.setup.training
        sampler = PKSampler(
            table.identity, identities=identities, images=self._images, seed=training.seed, camera=camera
        )
        augment = ImageAugment(self._augment, height=training.height, width=training.width)
        return ImageDataset(images, table, sampler, augment, seed=training.seed)


@torch.no_grad()
def classified_and_ranked(
    identity: Int[Tensor, " n"],
    cross_entropy: Float[Tensor, ""],
    triplet_loss: Float[Tensor, ""],
    scores: Float[Tensor, "n classes"],
    positive: Float[Tensor, " n"],
    negative: Float[Tensor, " n"],
) -> Row:
    """Both losses, the share of images whose class scores highest, and that of triplets in the right order."""
    return {
        "cross_entropy": cross_entropy.item(),
        "triplet_loss": triplet_loss.item(),
        "accuracy": (scores.argmax(1) == identity).float().mean().item(),
        "ordered_triplets": (positive < negative).float().mean().item(),
    }


class _Pooled(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: UInt8[Tensor, "n 3 h w"], *cameras: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        return self.network.pooled(images, *cameras)
