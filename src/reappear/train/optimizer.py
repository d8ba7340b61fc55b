"""Optimiser, its schedule, and gradient clipping."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reappear.core import SettingsError

from .schedule import cosine, learning_rate

OptimizerName = Literal["adamw", "sgd"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Schedule of learning rate, weight decay and clipping.

    Attributes:
        steps: In all.
        lr: Peak learning rate.
        final_lr: At the end of the cosine.
        warmup_steps: Of linear rise.
        weight_decay: At the start; biases and vectors have none.
        final_weight_decay: At the end of its cosine.
        clip: Largest norm of each parameter's gradient; 0 = no clipping.
    """

    steps: int
    lr: float
    final_lr: float
    warmup_steps: int
    weight_decay: float
    final_weight_decay: float
    clip: float

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise SettingsError(f"steps: must be 0 or more, got {self.steps}")
        if self.warmup_steps < 0 or (self.steps and self.warmup_steps >= self.steps):
            raise SettingsError(
                f"warmup_steps: must be fewer than the {self.steps} steps of the training, got {self.warmup_steps}"
            )
        if not self.lr > 0:
            raise SettingsError(f"lr: must be above 0, got {self.lr}")
        if self.clip < 0:
            raise SettingsError(f"clip: must be 0 or more, got {self.clip}")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step."""
        return learning_rate(step, steps=self.steps, warmup=self.warmup_steps, peak=self.lr, end=self.final_lr)

    def weight_decay_at(self, step: int) -> float:
        """Weight decay of a step."""
        return cosine(step, steps=self.steps, start=self.weight_decay, end=self.final_weight_decay)


def make_optimizer(kind: OptimizerName, named: dict[str, nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum 0.9, in one fused kernel; weights decay, biases and vectors do not (as in DINO)."""
    groups = parameter_groups(named)
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=0.9, fused=True)
    return torch.optim.AdamW(groups, lr=lr, fused=True)


def parameter_groups(named: dict[str, nn.Parameter]) -> list[dict[str, Any]]:
    """Weights decay; biases and vectors (norms) do not, as in DINO."""
    vectors = [p for name, p in named.items() if p.ndim == 1 or name.endswith(".bias")]
    chosen = {id(p) for p in vectors}
    weights = [p for p in named.values() if id(p) not in chosen]
    return [{"params": weights, "decays": True}, {"params": vectors, "decays": False}]


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
