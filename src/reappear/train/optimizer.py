"""Optimiser, its schedule, and gradient clipping."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from torch import Tensor, nn

from reappear.core import SettingsError

from .schedule import cosine, learning_rate
from .settings import OptimizerName, ScheduleSettings


@dataclass(frozen=True)
class Schedule:
    """Learning rate and weight decay of each step.

    Attributes:
        steps: In all.
        settings: Their shape.
    """

    steps: int
    settings: ScheduleSettings

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise SettingsError(f"steps: must be 0 or more, got {self.steps}")

    @classmethod
    def of(cls, settings: ScheduleSettings, images: int) -> "Schedule":
        """The schedule of a training on so many images."""
        steps = settings.steps
        if steps is None:
            steps = max(1, round(settings.epochs * images / settings.images_per_step))
        return cls(steps, settings)

    def lr_at(self, step: int) -> float:
        """Learning rate of a step."""
        settings = self.settings
        return learning_rate(
            step,
            steps=self.steps,
            warmup=int(settings.warmup * self.steps),
            peak=settings.lr,
            end=settings.final_lr,
            shape=settings.lr_schedule,
            falls=settings.lr_steps,
        )

    def weight_decay_at(self, step: int) -> float:
        """Weight decay of a step."""
        settings = self.settings
        return cosine(step, steps=self.steps, start=settings.weight_decay, end=settings.final_weight_decay)


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are updated alike.

    Attributes:
        parameters: Each is in one group.
        decays: Whether weight decay applies.
        lr_scale: Of the learning rate.
    """

    parameters: list[nn.Parameter]
    decays: bool = True
    lr_scale: float = 1.0


def decay_groups(named: Iterable[tuple[str, nn.Parameter]]) -> list[ParameterGroup]:
    """Weights decay; biases and vectors (norms) do not, as in DINO."""
    parameters = list(named)
    vectors = [p for name, p in parameters if p.ndim == 1 or name.endswith(".bias")]
    chosen = {id(p) for p in vectors}
    return [
        ParameterGroup([p for _, p in parameters if id(p) not in chosen]),
        ParameterGroup(vectors, decays=False),
    ]


def scale_layers(groups: list[ParameterGroup], backbone: nn.Module, decay: float) -> list[ParameterGroup]:
    """Groups with layer-wise learning rates: each layer learns `decay` times as fast as the next; heads are the last.

    Args:
        groups: Of the whole network.
        backbone: Part of it; timm knows the order of its layers.
        decay: 1 = all layers alike.
    """
    if decay == 1:
        return groups
    scale = {
        id(parameter): decay * group["lr_scale"]  # timm's last layer has 1, as the head has here
        for group in param_groups_layer_decay(backbone, layer_decay=decay)
        for parameter in group["params"]
    }
    made: list[ParameterGroup] = []
    for group in groups:
        alike: dict[float, list[nn.Parameter]] = {}
        for parameter in group.parameters:
            alike.setdefault(group.lr_scale * scale.get(id(parameter), 1.0), []).append(parameter)
        made += [ParameterGroup(parameters, group.decays, lr) for lr, parameters in alike.items()]
    return made


def make_optimizer(kind: OptimizerName, groups: list[ParameterGroup], lr: float) -> torch.optim.Optimizer:
    """AdamW, Adam, or SGD with momentum 0.9, or Nesterov's, in one fused kernel."""
    plain: list[dict[str, Any]] = [
        {"params": group.parameters, "decays": group.decays, "lr_scale": group.lr_scale} for group in groups
    ]
    if kind in ("sgd", "nesterov"):
        return torch.optim.SGD(plain, lr=lr, momentum=0.9, nesterov=kind == "nesterov", fused=True)
    if kind == "adam":
        return torch.optim.Adam(plain, lr=lr, fused=True)
    return torch.optim.AdamW(plain, lr=lr, fused=True)


def set_rates(optimizer: torch.optim.Optimizer, *, lr: float, weight_decay: float) -> None:
    """Sets the learning rate and weight decay of a step in every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
        group["weight_decay"] = weight_decay if group["decays"] else 0.0


def clip_each(parameters: list[nn.Parameter], largest: float) -> Tensor:
    """Clips the norm of each parameter's gradient by itself, as in DINO (not their joint norm).

    Args:
        parameters: Those without a gradient are skipped.
        largest: Norm; 0 = no clipping.

    Returns:
        The joint norm before, which is not finite if any gradient is not.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = torch._foreach_norm(gradients)
    joint: Tensor = torch.linalg.vector_norm(torch.stack([norm.float() for norm in norms]))
    if largest:
        factors = [largest / (norm + 1e-6) for norm in norms]
        torch._foreach_clamp_max_(factors, 1.0)
        torch._foreach_mul_(gradients, factors)
    return joint
