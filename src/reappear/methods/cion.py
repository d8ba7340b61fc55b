"""CION: identity-guided self-distillation (NeurIPS 2024, Sec. 3.3). With one image per identity it is DINO."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from reappear.core import SettingsError
from reappear.losses import IdentityDistillationLoss
from reappear.train.batches import IdentityBatch
from reappear.train.schedule import cosine, teacher_temperature
from reappear.train.teacher import Buffers, update_teacher

GLOBAL_VIEWS = 2  # the teacher's; the student sees these and the local ones


class Network(nn.Module):
    """A backbone with its head, and the colours that it expects.

    Args:
        backbone: Images (n 3 h w) to features (n d).
        head: Features to logits.
        mean: Per channel, of pixels in [0, 1].
        std: Per channel, of pixels in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, head: nn.Module, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.head = head
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1) * 255, persistent=False)

    def forward(
        self, views: list[UInt8[Tensor, "ids images 3 _ _"]]
    ) -> tuple[Float[Tensor, "views ids images d"], Float[Tensor, "views ids images k"]]:
        """Features and logits of all views. The backbone runs once per resolution, the head once."""
        sizes: dict[torch.Size, list[int]] = {}
        for index, view in enumerate(views):
            sizes.setdefault(view.shape, []).append(index)
        features = [
            self.backbone(self._normalise(torch.cat([views[i].flatten(0, 1) for i in indices])))
            for indices in sizes.values()
        ]
        joined = torch.cat(features)
        shape = (len(views), *views[0].shape[:2], -1)
        features_of, logits_of = joined.view(shape), self.head(joined).view(shape)
        order = [i for indices in sizes.values() for i in indices]
        if order != sorted(order):  # views of one size did not follow each other
            back = sorted(range(len(order)), key=order.__getitem__)
            return features_of[back], logits_of[back]
        return features_of, logits_of

    def _normalise(self, images: Tensor) -> Tensor:
        # Pixels lie side by side in memory as they were decoded, which is also what convolutions are fastest on.
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


class Cion:
    """A student that learns from views of other images of the same person, by way of a slow teacher.

    Args:
        network: The student as it begins; the teacher begins as its copy.
        loss: Eq. 8-9.
        steps: Of the training.
        momentum: Of the teacher at the start; it rises to 1 along a cosine.
        first_temperature: tau_t at step 0.
        temperature_warmup: Steps from there to the loss's own tau_t.
        freeze_steps: Steps in which the prototypes stay as they are.
        buffers: What happens to the teacher's batch norm statistics.
        distribute: Makes the student's gradients means over processes.
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
        distribute: Callable[[nn.Module], nn.Module] = lambda module: module,
    ) -> None:
        if not 0 <= momentum <= 1:
            raise SettingsError(f"momentum: must lie in 0..1, got {momentum}")
        if not first_temperature > 0:
            raise SettingsError(f"first_temperature: must be above 0, got {first_temperature}")
        self.teacher = copy.deepcopy(network).requires_grad_(False)
        self._distributed = distribute(network)
        self._network = network
        self.objective = loss
        self._steps, self._momentum, self._freeze_steps = steps, momentum, freeze_steps
        self._first_temperature, self._temperature_warmup = first_temperature, temperature_warmup
        self._buffers: Buffers = buffers
        self._seen: tuple[Tensor, Tensor] | None = None

    @property
    def student(self) -> Network:
        """What the optimiser trains."""
        return self._network

    def momentum(self, step: int) -> float:
        """Share of the teacher that stays after a step."""
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
        """Eq. 9 on the views of one step. Both networks stay in training mode."""
        with torch.no_grad():
            _, teacher = self.teacher(batch.views[:GLOBAL_VIEWS])
        features, student = self._distributed(batch.views)
        self._seen = (features[0].detach(), teacher)
        value: Tensor = self.objective(student.float(), teacher.float(), teacher_temperature=self.temperature(step))
        return value

    def after_step(self, step: int) -> None:
        """The centre, then the teacher."""
        if self._seen is None:
            return
        self._center_before = self.objective.center.clone()
        self.objective.update_center(self._seen[1].float())
        update_teacher(self.teacher, self._network, momentum=self.momentum(step), buffers=self._buffers)

    @torch.no_grad()
    def monitors(self, step: int) -> dict[str, int | float]:
        """Signs of collapse. Entropies are in nats.

        All images alike: the entropy of the batch's mean distribution falls to that of one image. Uniform
        distribution: the entropy of one image rises to ln K. Spread of features: 1 on the whole sphere, 0 in one point.
        """
        if self._seen is None:
            return {}
        features, teacher = self._seen
        said = torch.softmax((teacher.float() - self._center_before) / self.temperature(step), dim=-1)
        mean = said.flatten(0, 2).mean(0)
        unit = F.normalize(features.float().flatten(0, 1), dim=-1)
        return {
            "teacher_entropy": _entropy(said).mean().item(),
            "batch_entropy": _entropy(mean).item(),
            "center_norm": self.objective.center.norm().item(),
            "feature_spread": (unit.var(0, unbiased=False).sum()).sqrt().item(),
            "images_per_identity": features.shape[1],
            "teacher_temperature": self.temperature(step),
            "momentum": self.momentum(step),
        }

    def is_frozen(self, parameter: str, step: int) -> bool:
        """The prototypes, in the first steps."""
        return step < self._freeze_steps and parameter == "head.prototypes"

    def state_dict(self) -> dict[str, Any]:
        """Student, teacher and centre."""
        return {
            "student": self._network.state_dict(),
            "teacher": self.teacher.state_dict(),
            "loss": self.objective.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""
        self._network.load_state_dict(state["student"])
        self.teacher.load_state_dict(state["teacher"])
        self.objective.load_state_dict(state["loss"])


def _entropy(rows: Float[Tensor, "*rows k"]) -> Float[Tensor, "*rows"]:
    entropy: Tensor = torch.special.entr(rows).sum(-1)
    return entropy
