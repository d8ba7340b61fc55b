from typing import Literal

import torch
from torch import nn

Buffers = Literal["own", "average", "copy"]


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, *, momentum: float, buffers: Buffers = "own") -> None:
    """Exponential moving average of the student: `t <- m t + (1 - m) s`.

    Args:
        teacher: Changed in place.
        student: Of the same architecture.
        momentum: m in [0, 1].
        buffers: Running statistics of batch norm: `"own"` leaves those that the teacher gathers in its own forward
            passes (as the public code does), `"average"` treats them like weights, `"copy"` takes the student's.
    """
    theirs = [p.detach() for p in teacher.parameters()]
    torch._foreach_lerp_(theirs, [p.detach() for p in student.parameters()], 1 - momentum)
    if buffers == "own":
        return
    for old, new in zip(teacher.buffers(), student.buffers(), strict=True):
        if buffers == "average" and old.is_floating_point():
            old.lerp_(new, 1 - momentum)
        else:
            old.copy_(new)


class BufferBackup:
    """The buffers of modules (running statistics of batch norm) before a step, to restore if it is skipped.

    Args:
        modules: Whose buffers; forward passes change them.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self._buffers = [buffer for module in modules for buffer in module.buffers()]
        self._kept = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def save(self) -> None:
        """Saves the current buffers."""
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            kept.copy_(buffer)

    @torch.no_grad()
    def restore(self) -> None:
        """Restores the buffers saved last."""
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            buffer.copy_(kept)
