"""MGN (Wang et al. 2018) in FastReID's form, by which CION fine-tunes its six larger ResNets."""

from functools import partial
from typing import Any, cast

import torch
from torch import nn

from reappear.core import SettingsError
from reappear.losses import BatchHardTripletLoss, circle_logits, smoothed_cross_entropy
from reappear.methods.setup import Setup
from reappear.methods.supervised import SupervisedTask, classified_and_ranked
from reappear.models.embedder import Embedder
from reappear.models.heads import CosineHead
from reappear.models.mgn import BRANCHES, MGN, PARTS
from reappear.train import parallel
from reappear.train.batch import ImageBatch
from reappear.train.optimizer import ParameterGroup
from reappear.train.settings import Keep
from reappear.train.task import StepResult

from .settings import MgnSettings


class Mgn(SupervisedTask):
    """Each of eight parts is classified by circle loss; wholes, halves and thirds are pulled apart in triplets.

    Cross-entropy is the mean over the parts, the triplet loss that over five vectors: three wholes, the halves
    together, the thirds together. In the first steps the heads alone are trained, and batch norm of the rest stays.

    Args:
        setup: Settings, images, and where it runs.
    """

    def __init__(self, setup: Setup[MgnSettings]) -> None:
        self.settings = settings = setup.method
        super().__init__(
            setup,
            partial(CosineHead, parts=PARTS),
            augment=settings.augment,
            images=settings.images,
            extend=partial(_with_parts, width=settings.part_width),
        )
        self.triplet_loss = BatchHardTripletLoss(margin=settings.margin)
        self._frozen_steps = round(settings.freeze * setup.steps)

    def training_step(self, batch: ImageBatch, step: int) -> StepResult:
        """Circle loss and triplets of a step, or of a part of it."""
        network, settings = cast(MGN, self.student.backbone), self.settings
        for module in (network.shared, network.branches):
            module.train(step >= self._frozen_steps)
        features = self.distributed(batch.images.flatten(0, 1))
        identity = batch.identity.repeat_interleave(batch.images.shape[1])
        others, other_identity = parallel.gather_others(features), parallel.gather_others(identity)
        cosines = cast(CosineHead, self.student.head)(features)
        classified = torch.stack(
            [
                smoothed_cross_entropy(
                    circle_logits(
                        cosines[:, part], identity, margin=settings.circle_margin, scale=settings.circle_scale
                    ),
                    identity,
                    settings.label_smoothing,
                    share="others",
                )
                for part in range(PARTS)
            ]
        ).mean()
        distances = [
            self.triplet_loss.hardest(
                features[:, inside], identity, others=others[:, inside], other_identity=other_identity
            )
            for inside in _compared(settings.part_width)
        ]
        ranked = torch.stack([self.triplet_loss.of(*pair) for pair in distances]).mean()
        seen = (classified, ranked, cosines[:, 0], *distances[0])
        return StepResult(
            classified + ranked, partial(classified_and_ranked, identity, *(tensor.detach() for tensor in seen))
        )

    def is_frozen(self, parameter: str, step: int) -> bool:
        """True in the first steps for all but the heads."""
        return step < self._frozen_steps and parameter.startswith(("backbone.shared.", "backbone.branches."))

    def parameter_groups(self) -> list[ParameterGroup]:
        """All in one group; all decay."""
        return [ParameterGroup([p for p in self.student.parameters() if p.requires_grad])]

    def export(self, keep: Keep) -> Embedder:
        """The vector is the features of all parts after their batch norms."""
        super().export(keep)
        training = self.setup.training
        arguments: dict[str, Any] = {**training.arguments, "part_width": self.settings.part_width}
        if training.backbone != "mgn":
            arguments["resnet"] = training.backbone
        config = {"architecture": "mgn", "arguments": arguments}
        return Embedder(self.student.backbone, self.student.preprocessing, config=config)


def _with_parts(network: nn.Module, *, width: int) -> MGN:
    """An MGN on a ResNet, or one that is there already.

    Raises:
        SettingsError: It is neither, or the parts of the one that is there have another width.
    """
    if not isinstance(network, MGN):
        return MGN(network, width=width)
    if network.num_features != PARTS * width:
        raise SettingsError(
            f"method.part_width: must be {network.num_features // PARTS}, as in the model that init names, got {width}"
        )
    return network


def _compared(width: int) -> list[slice]:
    """What triplets compare of the vector: each whole, then the halves, then the thirds."""
    ends = [*range(1, BRANCHES + 1), BRANCHES + 2, PARTS]
    return [slice(first * width, last * width) for first, last in zip([0, *ends], ends, strict=False)]
