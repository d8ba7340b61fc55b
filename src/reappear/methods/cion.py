"""CION: identity-guided self-distillation (NeurIPS 2024, Sec. 3.3). With one image per identity it is DINO."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reappear.core import SettingsError
from reappear.losses import IdentityDistillationLoss
from reappear.models.heads import DistillationHead
from reappear.train.batches import IdentityBatch
from reappear.train.parallel import no_sync
from reappear.train.schedule import cosine, teacher_temperature
from reappear.train.teacher import BufferBackup, Buffers, update_teacher

from .network import Network, feature_spread

GLOBAL_VIEWS = 2  # the teacher's; the student sees these and the local ones


class Cion:
    """A student distilled from an EMA teacher that sees other images of the same person.

    Args:
        network: The student as it begins, with a `DistillationHead`; the teacher begins as its copy.
        loss: Eq. 8-9.
        steps: Of the training.
        momentum: Of the teacher at the start; it rises to 1 along a cosine.
        first_temperature: tau_t at step 0.
        temperature_warmup: Steps from there to the loss's own tau_t.
        freeze_steps: First steps in which the prototypes are frozen.
        buffers: How the teacher's batch norm statistics are updated.
        compiled: Whether torch compiles both backbones.
        distribute: Wraps the student so that gradients are averaged over processes.
    """

    def __init__(
        self,
        network: Network,
        loss: IdentityDistillationLoss,
        *,
        steps: int,
        momentum: float = 0.996,
        first_temperature: float = 0.04,
        temperature_warmup: int = 0,
        freeze_steps: int = 0,
        buffers: Buffers = "own",
        compiled: bool = False,
        distribute: Callable[[nn.Module], nn.Module] = lambda module: module,
    ) -> None:
        if not 0 <= momentum <= 1:
            raise SettingsError(f"momentum: must lie in 0..1, got {momentum}")
        if not first_temperature > 0:
            raise SettingsError(f"first_temperature: must be above 0, got {first_temperature}")
        self.teacher = copy.deepcopy(network).requires_grad_(False)
        if compiled:
            network.backbone.compile(dynamic=False)
            self.teacher.backbone.compile(dynamic=False)
        self._distributed = distribute(network)
        self._network = network
        self.objective = loss
        self._steps, self._momentum, self._freeze_steps = steps, momentum, freeze_steps
        self._first_temperature, self._temperature_warmup = first_temperature, temperature_warmup
        self._buffers: Buffers = buffers
        self._means: list[Tensor] = []  # of the teacher's logits, one for each part of this step's batch
        self._seen: tuple[Tensor, Tensor] | None = None
        self._center_before = loss.center.clone()
        self._backup = BufferBackup(network, self.teacher)

    @property
    def student(self) -> Network:
        """What the optimiser trains."""
        return self._network

    def momentum(self, step: int) -> float:
        """EMA momentum of the teacher at a step."""
        return cosine(step, steps=self._steps, start=self._momentum, end=1.0)

    def temperature(self, step: int) -> float:
        """tau_t at a step."""
        return teacher_temperature(
            step,
            start=self._first_temperature,
            end=self.objective.teacher_temperature,
            warmup=self._temperature_warmup,
        )

    def loss(self, batch: IdentityBatch, step: int) -> Float[Tensor, ""]:
        """Eq. 9 on the views of one step, or of a part of it. Both networks stay in training mode."""
        if not self._means:
            self._backup.save()
        with torch.no_grad():
            _, vectors = self.teacher(batch.views[:GLOBAL_VIEWS])
            teacher = _head(self.teacher).compare(vectors)
        features, student = self._distributed(batch.views)
        self._means.append(teacher.mean(dim=(0, 1, 2)).to(self.objective.center.dtype))
        self._seen = (features[0].detach(), teacher)
        return self.objective.at_bottleneck(
            student, _head(self._network).prototypes, teacher, teacher_temperature=self.temperature(step)
        )

    def no_sync(self) -> AbstractContextManager[None]:
        """Context in which gradients are not averaged over processes."""
        return no_sync(self._distributed)

    def after_step(self, step: int) -> None:
        """Updates the centre, then the teacher."""
        if not self._means:
            return
        self._center_before = self.objective.center.clone()
        self.objective.update_center(torch.stack(self._means)[:, None, None])
        self._means.clear()
        update_teacher(self.teacher, self._network, momentum=self.momentum(step), buffers=self._buffers)

    def on_step_skipped(self) -> None:
        """Restores batch norm statistics; centre and teacher are not updated."""
        self._means.clear()
        self._backup.restore()

    @torch.no_grad()
    def metrics(self, step: int) -> dict[str, int | float]:
        """Signs of collapse. Entropies are in nats.

        All images alike: the entropy of the batch's mean distribution falls to that of one image, and few prototypes
        are ever the nearest. Uniform distribution: the entropy of one image rises to ln K. Spread of features: 1 on the
        whole sphere, 0 in one point.
        """
        if self._seen is None:
            return {}
        features, teacher = self._seen
        centered = (teacher.float() - self._center_before).flatten(0, 2)
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

    def is_frozen(self, parameter: str, step: int) -> bool:
        """True for the prototypes in the first `freeze_steps` steps."""
        return step < self._freeze_steps and parameter == "head.prototypes"

    def state_dict(self) -> dict[str, Any]:
        """Student, teacher and centre."""
        return {
            "student": self._network.state_dict(),
            "teacher": self.teacher.state_dict(),
            "loss": self.objective.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        self._network.load_state_dict(state["student"])
        self.teacher.load_state_dict(state["teacher"])
        self.objective.load_state_dict(state["loss"])


def _head(network: Network) -> DistillationHead:
    head = network.head
    if not isinstance(head, DistillationHead):
        raise TypeError(f"self-distillation needs a DistillationHead, got {type(head).__name__}")
    return head


def _entropy(rows: Float[Tensor, "*rows k"]) -> Float[Tensor, "*rows"]:
    entropy: Tensor = torch.special.entr(rows).sum(-1)
    return entropy
