"""CION: identity-guided self-distillation (NeurIPS 2024, Sec. 3.3). With one image per identity it is DINO."""

import math
from functools import cached_property, partial
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from reappear.losses import IdentityDistillationLoss, PatchVectors
from reappear.methods.network import Network, feature_spread
from reappear.methods.setup import Setup
from reappear.methods.upreid.regularization import IntraIdentity, regularization
from reappear.models.heads import DistillationHead
from reappear.train import parallel
from reappear.train.batch import PatchBatch, ViewBatch
from reappear.train.metrics_log import Row
from reappear.train.schedule import Stages, cosine, teacher_temperature
from reappear.train.task import Labels, Phase, StepResult, Task
from reappear.train.teacher import update_teacher

from .settings import CionSettings, DistillationSettings, IdentityDistillationSettings

GLOBAL_VIEWS = 2  # the teacher's; the student sees these and the local ones
_UNIFORM = 0.99  # share of ln K; trainings that learned ended below 0.96, see docs/results/pretraining.md


class Cion(Task[ViewBatch]):
    """A student distilled from an EMA teacher that sees other images of the same person.

    Args:
        setup: Settings, images, and where it runs.
    """

    student: Network
    teacher: Network

    def __init__(self, setup: Setup[DistillationSettings]) -> None:
        settings = setup.method
        self.settings, self.setup = settings, setup
        self.student, self.teacher = setup.student_and_teacher(self._make_head, sync_batch_norm=True)
        self._stages: Stages = ((0.0, 1),)
        weighting: Literal["equation", "official"] = "equation"
        if isinstance(settings, IdentityDistillationSettings):
            weighting = settings.weighting
            if setup.labels != "instance":
                self._stages = settings.curriculum
        self.objective = IdentityDistillationLoss(
            settings.prototypes,
            student_temperature=settings.student_temperature,
            teacher_temperature=settings.teacher_temperature,
            center_momentum=settings.center_momentum,
            weighting=weighting,
        ).to(setup.device)
        self.intra_identity: IntraIdentity | None = None
        if isinstance(settings, CionSettings):
            self.intra_identity = regularization(
                setup,
                settings.intra_identity,
                self.student,
                self.teacher,
                temperature=settings.student_temperature,
            )
        self._means: list[Tensor] = []  # of the teacher's logits, one for each part of this step's batch

    def _make_head(self, features: int) -> DistillationHead:
        settings = self.settings
        return DistillationHead(
            features,
            hidden=settings.head_hidden,
            bottleneck=settings.head_bottleneck,
            prototypes=settings.prototypes,
            batch_norm=settings.head_batch_norm,
            prototype_length=settings.prototype_length,
        )

    def phase(self, step: int, labels: Labels | None) -> Phase:
        """One phase: groups of N_id images of an identity, by the curriculum."""
        return self.intra_identity.phase(self._stages) if self.intra_identity else self.setup.views(self._stages)

    @cached_property
    def distributed(self) -> nn.Module:
        """The student, with its patches if there are any, as training steps call it."""
        return parallel.wrap_ddp(self.intra_identity.student if self.intra_identity else self.student)

    def momentum(self, step: int) -> float:
        """EMA momentum of the teacher at a step."""
        return cosine(step, steps=self.setup.steps, start=self.settings.momentum, end=1.0)

    def temperature(self, step: int) -> float:
        """tau_t at a step."""
        first = self.settings.first_teacher_temperature
        end = self.settings.teacher_temperature
        return teacher_temperature(
            step,
            start=end if first is None else first,
            end=end,
            warmup=int(self.settings.teacher_temperature_warmup * self.setup.steps),
        )

    def training_step(self, batch: ViewBatch, step: int) -> StepResult:
        """Eq. 9 on the views of one step, or of a part of it. Both networks stay in training mode."""
        if self.intra_identity is not None:
            return self._regularised_step(self.intra_identity, cast(PatchBatch, batch), step)
        with torch.no_grad():
            _, vectors = self.teacher(batch.views[:GLOBAL_VIEWS])
        features, student = self.distributed(batch.views)
        return self._distil(features[0], student, vectors, step)

    def _regularised_step(self, terms: IntraIdentity, batch: PatchBatch, step: int) -> StepResult:
        """Eq. 9, and intra-identity regularisation of the global views."""
        patches, visible = terms.locate(batch)
        views = batch.views[: len(batch.boxes)]
        with torch.no_grad():
            _, vectors, others = terms.teacher(views[:GLOBAL_VIEWS], patches)
            originals, original_patches = terms.originals(batch)
        features, student, parts = self.distributed(views, patches)
        result = self._distil(features[0], student, vectors, step)

        def pairs() -> list[tuple[PatchVectors, PatchVectors]]:
            first, second = (
                [PatchVectors(rows[k], visible[k]) for k in range(GLOBAL_VIEWS)] for rows in (parts, others)
            )
            return list(zip(first, reversed(second), strict=True))

        prototypes = F.normalize(_head(self.teacher).prototypes, dim=-1)
        added, values = terms.weigh(
            step,
            lambda: terms.consistency(
                student[:GLOBAL_VIEWS].flatten(1, 2), originals, prototypes, vectors[1].flatten(0, 1)
            ),
            lambda: terms.patch_contrast(pairs(), original_patches, batch),
        )
        return StepResult(result.loss + added, lambda: {**result.metrics(), **values()})

    def _distil(
        self,
        features: Float[Tensor, "ids images d"],
        student: Float[Tensor, "views ids images b"],
        vectors: Float[Tensor, "globals ids images b"],
        step: int,
    ) -> StepResult:
        """Eq. 9, from the vectors of the student and the teacher."""
        teacher = _head(self.teacher).compare(vectors)
        self._means.append(teacher.mean(dim=(0, 1, 2)).to(self.objective.center.dtype))
        loss = self.objective.at_bottleneck(
            student, _head(self.student).prototypes, teacher, teacher_temperature=self.temperature(step)
        )
        center = self.objective.center.clone()
        return StepResult(loss, partial(self._metrics, step, features.detach(), teacher, center))

    def after_step(self, step: int) -> None:
        """Updates the centre, then the teacher."""
        if not self._means:
            return
        self.objective.update_center(torch.stack(self._means)[:, None, None])
        self._means.clear()
        update_teacher(self.teacher, self.student, momentum=self.momentum(step), buffers=self.settings.teacher_buffers)

    def on_step_skipped(self) -> None:
        """Centre and teacher are not updated."""
        self._means.clear()

    @torch.no_grad()
    def _metrics(
        self,
        step: int,
        features: Float[Tensor, "ids images d"],
        teacher: Float[Tensor, "globals ids images k"],
        center: Float[Tensor, " k"],
    ) -> Row:
        """Signs of collapse. Entropies are in nats.

        All images alike: the entropy of the batch's mean distribution falls to that of one image, and few prototypes
        are ever the nearest. Uniform distribution: the entropy of one image rises to ln K. Spread of features: 1 on the
        whole sphere, 0 in one point.
        """
        centered = (teacher.float() - center).flatten(0, 2)
        probabilities = torch.softmax(centered / self.temperature(step), dim=-1)
        return {
            "teacher_entropy": _entropy(probabilities).mean().item(),
            "batch_entropy": _entropy(probabilities.mean(0)).item(),
            "prototypes_used": len(set(centered.argmax(-1).tolist())) / min(centered.shape),
            "center_norm": self.objective.center.norm().item(),
            "feature_spread": feature_spread(features),
            "images_per_identity": features.shape[1],
            "teacher_temperature": self.temperature(step),
            "momentum": self.momentum(step),
        }

    def warnings(self, rows: list[Row]) -> list[str]:
        """An end at the uniform distribution, in which the loss depends on no image."""
        uniform = math.log(self.settings.prototypes)
        entropy, loss = (rows[-1].get(name, 0.0) if rows else 0.0 for name in ("teacher_entropy", "loss"))
        if min(entropy, loss) < _UNIFORM * uniform:
            return []
        return [
            f"the training ended at the uniform distribution: teacher_entropy is {entropy:.3f} of at most "
            f"{uniform:.3f}; lower --method.teacher-temperature ({self.settings.teacher_temperature:g}), or take fewer "
            "local views or more steps"
        ]

    def is_frozen(self, parameter: str, step: int) -> bool:
        """True for the prototypes in the first steps, the share `freeze_prototypes` of the training."""
        return step < int(self.settings.freeze_prototypes * self.setup.steps) and parameter == "head.prototypes"

    def state_dict(self) -> dict[str, Any]:
        """Student, teacher and centre."""
        return {**super().state_dict(), "loss": self.objective.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        super().load_state_dict(state)
        self.objective.load_state_dict(state["loss"])


def _head(network: Network) -> DistillationHead:
    head = network.head
    if not isinstance(head, DistillationHead):
        raise TypeError(f"self-distillation needs a DistillationHead, got {type(head).__name__}")
    return head


def _entropy(rows: Float[Tensor, "*rows k"]) -> Float[Tensor, "*rows"]:
    entropy: Tensor = torch.special.entr(rows).sum(-1)
    return entropy
