"""UP-ReID (Yang et al. 2022), rebuilt from its abstract: MoCo-v2 with intra-identity regularisation."""

from functools import cached_property
from typing import cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from reappear.losses import PatchVectors
from reappear.methods.moco.task import Moco
from reappear.methods.setup import Setup
from reappear.train import parallel
from reappear.train.batch import PatchBatch, ViewBatch
from reappear.train.task import Labels, Phase, StepResult

from .regularization import IntraIdentity, regularization
from .settings import UpReidSettings


class UpReid(Moco):
    """MoCo-v2, consistency of a view with the original image, and contrast among the patches of each image.

    `L = L_con + lambda_g L_global + lambda_l L_local`. Patches are those of the original image, followed into its
    views. With both weights 0 it is `Moco`, bit for bit.

    Args:
        setup: Settings, images, and where it runs.
    """

    settings: UpReidSettings

    def __init__(self, setup: Setup[UpReidSettings]) -> None:
        super().__init__(setup)
        settings = setup.method
        self.intra_identity = regularization(
            setup, settings, self.student, self.teacher, temperature=settings.temperature
        )

    @cached_property
    def distributed(self) -> nn.Module:
        """The student, with its patches, as training steps call it."""
        return parallel.wrap_ddp(self.intra_identity.student if self.intra_identity else self.student)

    def phase(self, step: int, labels: Labels | None) -> Phase:
        """One phase: each image by itself."""
        return self.intra_identity.phase() if self.intra_identity else super().phase(step, labels)

    def training_step(self, batch: ViewBatch, step: int) -> StepResult:
        """InfoNCE and the two terms."""
        terms = self.intra_identity
        if terms is None:
            return super().training_step(batch, step)
        whole = cast(PatchBatch, batch)
        patches, visible = terms.locate(whole)
        settings, view = self.settings, batch.views[1].flatten(0, 1)
        with torch.no_grad():
            made = self.shuffled(self._encode, [view] if patches is None else [view, patches[1]], step)
            keys, others = made[:, : settings.head_width], made[:, settings.head_width :]
            originals, original_patches = terms.originals(whole)
        views = batch.views[:2] if settings.both_views else batch.views[:1]
        features, vectors, parts = self.distributed(views, None if patches is None else patches[:1])
        result = self.contrast(features[0], vectors[0], keys)

        def pairs() -> list[tuple[PatchVectors, PatchVectors]]:
            other = others.view(parts.shape[1:])
            return [(PatchVectors(parts[0], visible[0]), PatchVectors(other, visible[1]))]

        added, values = terms.weigh(
            step,
            lambda: terms.consistency(vectors.flatten(1, 2), originals, self.queue, keys),
            lambda: terms.patch_contrast(pairs(), original_patches, whole),
        )
        return StepResult(result.loss + added, lambda: {**result.metrics(), **values()})

    def _encode(self, view: UInt8[Tensor, "n 3 h w"], *patches: Tensor) -> Float[Tensor, "n width"]:
        """Keys, and beside them the vectors of the patches of each image, by the key network."""
        terms = cast(IntraIdentity, self.intra_identity)
        _, vectors, parts = terms.teacher([view[:, None]], patches[0][None] if patches else None)
        keys: Tensor = vectors.flatten(0, 2)
        return keys if parts is None else torch.cat([keys, parts[0].flatten(1)], 1)
