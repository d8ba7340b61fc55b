"""TransReID's recipe (He et al. 2021; its baseline is that of Luo et al. 2019), by which CION fine-tunes."""

from functools import partial
from typing import Any, cast

import numpy as np
import torch

from reappear.core import InputError
from reappear.losses import BatchHardTripletLoss, smoothed_cross_entropy
from reappear.methods.setup import Setup
from reappear.methods.supervised import SupervisedTask, classified_and_ranked
from reappear.models.embedder import Embedder
from reappear.models.heads import ClassifierHead
from reappear.models.transreid import JIGSAW_PARTS, TransReIDViT
from reappear.train import parallel
from reappear.train.batch import ImageBatch
from reappear.train.optimizer import ParameterGroup
from reappear.train.settings import Keep
from reappear.train.task import StepResult

from .settings import TransReidSettings


class TransReid(SupervisedTask):
    """Features are pulled apart by identity in triplets, and classified after a batch-norm neck; both count alike.

    With jigsaw patches each part has its own triplets and classifier: the whole counts as much as all parts together.

    Several processes mine triplets among the images of all, and the neck's batch statistics are those of all; gradients
    flow to all. The saved model has the neck, and its vector is the feature before it.

    Args:
        setup: Settings, images, and where it runs.
    """

    def __init__(self, setup: Setup[TransReidSettings]) -> None:
        self.settings = settings = setup.method
        if settings.sie and setup.table.camera.min() < 0:
            raise InputError("method.sie: the set has images without a camera; leave side information out")
        self._more: dict[str, Any] = {}  # arguments of `TransReIDViT`
        if settings.jpm or settings.sie:
            cameras = len(np.unique(setup.table.camera)) if settings.sie else 0
            self._more = {"jigsaw": settings.jpm, "cameras": cameras, "camera_weight": settings.sie_weight}
        # Weight of each part in the loss, and what its features are multiplied by, as they are divided in the vector.
        self._parts = [(1.0, 1.0)]
        if settings.jpm:
            self._parts = [(0.5, 1.0), *[(0.5 / JIGSAW_PARTS, float(JIGSAW_PARTS))] * JIGSAW_PARTS]
        super().__init__(
            setup,
            partial(ClassifierHead, parts=len(self._parts)),
            augment=settings.augment,
            images=settings.images,
            extend=partial(TransReIDViT, **self._more) if self._more else None,
        )
        self.triplet_loss = BatchHardTripletLoss(margin=settings.margin)

    @property
    def _head(self) -> ClassifierHead:
        return cast(ClassifierHead, self.student.head)

    def training_step(self, batch: ImageBatch, step: int) -> StepResult:
        """Cross-entropy and triplets of a step, or of a part of it."""
        cameras = (batch.camera.flatten(),) if self.settings.sie else ()
        features = self.distributed(batch.images.flatten(0, 1), *cameras)
        identity = batch.identity.repeat_interleave(batch.images.shape[1])
        others, other_identity = parallel.gather_others(features), parallel.gather_others(identity)
        logits = self._head(torch.cat([features, others]))[: len(features)]
        loss, seen, width = torch.zeros((), device=features.device), [], features.shape[1] // len(self._parts)
        for part, (weight, scale) in enumerate(self._parts):
            mine, theirs = (scale * rows[:, part * width : (part + 1) * width] for rows in (features, others))
            classified = smoothed_cross_entropy(logits[:, part], identity, self.settings.label_smoothing)
            distances = self.triplet_loss.hardest(mine, identity, others=theirs, other_identity=other_identity)
            ranked = self.triplet_loss.of(*distances)
            loss = loss + weight * (classified + ranked)
            seen.append((classified, ranked, logits[:, part], *distances))
        return StepResult(loss, partial(classified_and_ranked, identity, *(tensor.detach() for tensor in seen[0])))

    def parameter_groups(self) -> list[ParameterGroup]:
        """Weights, and biases with a learning rate of their own; all decay."""
        named = [(name, p) for name, p in self.student.named_parameters() if p.requires_grad]
        return [
            ParameterGroup([p for name, p in named if not name.endswith(".bias")]),
            ParameterGroup([p for name, p in named if name.endswith(".bias")], lr_scale=self.settings.bias_lr),
        ]

    def export(self, keep: Keep) -> Embedder:
        """The backbone with its neck; vectors are the features before it."""
        super().export(keep)
        training, network, config = self.setup.training, self.student, {}
        if self._more:
            arguments = {"vit": training.backbone, **training.arguments, **self._more}
            config = {"architecture": "transreid", "arguments": arguments}
        return Embedder(network.backbone, network.preprocessing, neck=self._head.neck, feature="before", config=config)
