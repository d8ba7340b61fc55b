"""TransReID's recipe (He et al. 2021; its baseline is that of Luo et al. 2019), by which CION fine-tunes."""

from dataclasses import replace
from functools import cached_property, partial
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from reappear.losses import BatchHardTripletLoss, smoothed_cross_entropy
from reappear.methods.network import Network
from reappear.methods.setup import Setup
from reappear.models.embedder import Embedder
from reappear.models.heads import ClassifierHead
from reappear.train import parallel
from reappear.train.batch import ImageBatch
from reappear.train.datasets import ImageDataset
from reappear.train.image_augment import ImageAugment
from reappear.train.metrics_log import Row
from reappear.train.optimizer import ParameterGroup
from reappear.train.samplers import PKSampler
from reappear.train.settings import Keep
from reappear.train.task import Labels, Phase, StepResult, Task

from .settings import TransReidSettings


class TransReid(Task[ImageBatch]):
    """Features are pulled apart by identity in triplets, and classified after a batch-norm neck; both count alike.

    Several processes mine triplets among the images of all, and the neck's batch statistics are those of all; gradients
    flow to all. The saved model has the neck, and its vector is the feature before it.

    Args:
        setup: Settings, images, and where it runs.
    """

    student: Network

    def __init__(self, setup: Setup[TransReidSettings]) -> None:
        self.settings, self.setup = setup.method, setup
        people, identity = np.unique(setup.table.identity, return_inverse=True)
        self._table = replace(setup.table, identity=identity)  # numbers of classes
        self.student = setup.network(partial(ClassifierHead, classes=len(people)))
        self.student.backbone = parallel.convert_sync_batchnorm(self.student.backbone, setup.device)
        setup.compile(self.student)
        self.triplet_loss = BatchHardTripletLoss(margin=self.settings.margin)

    @property
    def _head(self) -> ClassifierHead:
        return cast(ClassifierHead, self.student.head)

    @cached_property
    def distributed(self) -> nn.Module:
        """The student from images to features, so that gradients are averaged over processes."""
        return parallel.wrap_ddp(_Pooled(self.student))

    def phase(self, step: int, labels: Labels | None) -> Phase:
        """One phase: P identities with K images of each."""
        training, images = self.setup.training, self.settings.images
        sampler = PKSampler(
            self._table.identity, identities=training.images_per_step // images, images=images, seed=training.seed
        )
        augment = ImageAugment(self.settings.augment, height=training.height, width=training.width)
        data = ImageDataset(self.setup.images, self._table, sampler, augment, seed=training.seed)
        return Phase(0, self.setup.steps, data)

    def training_step(self, batch: ImageBatch, step: int) -> StepResult:
        """Cross-entropy and triplets of a step, or of a part of it."""
        features = self.distributed(batch.images.flatten(0, 1))
        identity = batch.identity.repeat_interleave(batch.images.shape[1])
        others, other_identity = parallel.gather_others(features), parallel.gather_others(identity)
        logits = self._head(torch.cat([features, others]))[: len(features)]
        classified = smoothed_cross_entropy(logits, identity, self.settings.label_smoothing)
        positive, negative = self.triplet_loss.hardest(features, identity, others=others, other_identity=other_identity)
        ranked = self.triplet_loss.of(positive, negative)
        seen = (classified, ranked, logits, identity, positive, negative)
        return StepResult(classified + ranked, partial(_metrics, *(tensor.detach() for tensor in seen)))

    def parameter_groups(self) -> list[ParameterGroup]:
        """Weights, and biases with a learning rate of their own; all decay."""
        named = [(name, p) for name, p in self.student.named_parameters() if p.requires_grad]
        biases = [p for name, p in named if name.endswith(".bias")]
        chosen = {id(p) for p in biases}
        weights = [p for _, p in named if id(p) not in chosen]
        return [ParameterGroup(weights), ParameterGroup(biases, lr_scale=self.settings.bias_lr)]

    def export(self, keep: Keep) -> Embedder:
        """The backbone with its neck; vectors are the features before it."""
        super().export(keep)
        return Embedder(self.student.backbone, self.student.preprocessing, neck=self._head.neck, feature="before")


class _Pooled(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return self.network.pooled(images)


def _metrics(
    classified: Float[Tensor, ""],
    ranked: Float[Tensor, ""],
    logits: Float[Tensor, "n classes"],
    identity: Int[Tensor, " n"],
    positive: Float[Tensor, " n"],
    negative: Float[Tensor, " n"],
) -> Row:
    """Both losses, the share of images whose class is found, and that of triplets in the right order."""
    return {
        "cross_entropy": classified.item(),
        "triplet_loss": ranked.item(),
        "accuracy": (logits.argmax(1) == identity).float().mean().item(),
        "ordered_triplets": (positive < negative).float().mean().item(),
    }
