"""One pass over the prototypes, some at a time, so that no table of rows × prototypes is ever whole in memory.

Both functions keep no softmax for the way back: they make each piece of it again, which costs less than storing it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# Scores at a time: what stays in a core's cache, and what fills a GPU.
_SCORES = {"cpu": 1 << 19, "cuda": 1 << 26}

Heard = Callable[[Tensor], Tensor]


class PrototypeStream(torch.autograd.Function):
    """Log-partition of rows over prototypes, and target distributions projected back through the prototypes.

    Inputs: vectors (n d), prototypes (k d), targets (m k) without gradient. Outputs: `logsumexp_k v_n . w_k` (n) and
    `sum_k t_mk w_k` (m d). Only n + m rows of width d go in and come out: n × k scores and m × n pairs never meet.
    """

    @staticmethod
    def forward(
        ctx: Any, vectors: Float[Tensor, "n d"], prototypes: Float[Tensor, "k d"], targets: Float[Tensor, "m k"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "m d"]]:
        """Both outputs."""
        partition = vectors.new_full((len(vectors),), -torch.inf)
        projected = vectors.new_zeros((len(targets), vectors.shape[1]))
        for part in _parts(len(prototypes), len(vectors), vectors.device):
            some = prototypes[part]
            partition = torch.logaddexp(partition, (vectors @ some.T).logsumexp(dim=1))
            projected.addmm_(targets[:, part], some)
        ctx.save_for_backward(vectors, prototypes, targets, partition)
        return partition, projected

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None]:
        """The prototypes' gradient comes from both outputs, and is written once."""
        of_partition, of_projected = slopes
        vectors, prototypes, targets, partition = ctx.saved_tensors
        to_vectors, to_prototypes = torch.zeros_like(vectors), torch.empty_like(prototypes)
        for part in _parts(len(prototypes), len(vectors), vectors.device):
            some = prototypes[part]
            share = (vectors @ some.T).sub_(partition[:, None]).exp_().mul_(of_partition[:, None])
            to_vectors.addmm_(share, some)
            torch.mm(share.T, vectors, out=to_prototypes[part])
            to_prototypes[part].addmm_(targets[:, part].T, of_projected)
        return to_vectors, to_prototypes, None


class LogitStream(torch.autograd.Function):
    """`sum over rows of mass * logsumexp(z) - heard . z`, with z the student's logits over the temperature.

    Inputs: student (views ids images k), targets (globals ids images k) without gradient, temperature, and `heard`,
    which turns targets into what each student row is told, at any width.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, targets: Tensor, temperature: float, heard: Heard) -> Tensor:
        """The sum, a number."""
        rows = student[..., 0].numel()
        partition = student.new_full(student.shape[:-1], -torch.inf)
        matched = student.new_zeros(())
        for part in _parts(student.shape[-1], rows, student.device):
            scores = student[..., part] / temperature
            partition = torch.logaddexp(partition, scores.logsumexp(dim=-1))
            matched += scores.mul_(heard(targets[..., part])).sum()
        mass = heard(torch.ones_like(targets[..., :1]))
        ctx.save_for_backward(student, targets, partition, mass)
        ctx.temperature, ctx.heard = temperature, heard
        return (mass[..., 0] * partition).sum() - matched

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None]:
        """`mass * softmax - heard`, piece by piece."""
        student, targets, partition, mass = ctx.saved_tensors
        scale = slopes[0] / ctx.temperature
        out = torch.empty_like(student)
        for part in _parts(student.shape[-1], partition.numel(), student.device):
            share = (student[..., part] / ctx.temperature).sub_(partition[..., None]).exp_().mul_(mass)
            torch.mul(share.sub_(ctx.heard(targets[..., part])), scale, out=out[..., part])
        return out, None, None, None


def _parts(prototypes: int, rows: int, device: torch.device) -> Iterator[slice]:
    step = max(1, _SCORES.get(device.type, _SCORES["cuda"]) // max(1, rows))
    return (slice(first, min(first + step, prototypes)) for first in range(0, prototypes, step))
