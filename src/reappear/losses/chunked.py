"""Cross entropy over many prototypes, computed in chunks that fit the cache."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# Scores per chunk: on a CPU as many as fit the cache of a core, on a GPU as many as keep it busy.
_SCORES = {"cpu": 1 << 19, "cuda": 1 << 26}

SumTargets = Callable[[Tensor], Tensor]


class ChunkedPrototypeCrossEntropy(torch.autograd.Function):
    """Log-partition of rows over unit prototypes, and target distributions projected back through them.

    Inputs: vectors (n d), prototypes (k d) of any length, targets (m k) without gradient. Outputs, where `u_k` is
    `w_k / |w_k|`: `logsumexp_k v_n . u_k` (n) and `sum_k t_mk u_k` (m d). Only n + m rows of width d go in and come
    out: n × k scores, k × d unit rows and m × n pairs are never stored. The backward pass computes each chunk of the
    softmax again, which costs less than storing it.
    """

    @staticmethod
    def forward(
        ctx: Any, vectors: Float[Tensor, "n d"], prototypes: Float[Tensor, "k d"], targets: Float[Tensor, "m k"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "m d"]]:
        """Both outputs."""
        partition = vectors.new_full((len(vectors),), -torch.inf)
        projected = vectors.new_zeros((len(targets), vectors.shape[1]))
        shrink = 1 / torch.linalg.vector_norm(prototypes, dim=1).clamp_min_(1e-12)
        for part in _parts(len(prototypes), len(vectors), vectors.device):
            some, by = prototypes[part], shrink[part]
            partition = torch.logaddexp(partition, (vectors @ some.T).mul_(by).logsumexp(dim=1))
            projected.addmm_(targets[:, part] * by, some)
        ctx.save_for_backward(vectors, prototypes, targets, partition, shrink)
        return partition, projected

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None]:
        """The prototypes' gradient comes from both outputs, across each row only, and is written once."""
        of_partition, of_projected = slopes
        vectors, prototypes, targets, partition, shrink = ctx.saved_tensors
        to_vectors, to_prototypes = torch.zeros_like(vectors), torch.empty_like(prototypes)
        for part in _parts(len(prototypes), len(vectors), vectors.device):
            some, by, out = prototypes[part], shrink[part], to_prototypes[part]
            share = (vectors @ some.T).mul_(by).sub_(partition[:, None]).exp_().mul_(of_partition[:, None])
            torch.mm(share.T, vectors, out=out)
            out.addmm_(targets[:, part].T, of_projected)
            along = (out * some).sum(1).mul_(by).mul_(by)
            out.addcmul_(some, along[:, None], value=-1).mul_(by[:, None])
            to_vectors.addmm_(share.mul_(by), some)
        return to_vectors, to_prototypes, None


class ChunkedCrossEntropy(torch.autograd.Function):
    """`sum over rows of weight * logsumexp(z) - target_sum . z`, over `pairs`; z are logits over the temperature.

    Inputs: student (views ids images k), targets (globals ids images k) without gradient, temperature, pairs, and
    `sum_targets`, which sums the targets of the student's views, of any width: one entry for each view that the teacher
    saw, and one for all others. The gradient `weight * softmax - target_sum` is computed in the forward pass, which has
    the exponentials, and is the only table of the size of the logits.
    """

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, targets: Tensor, temperature: float, pairs: int, sum_targets: SumTargets
    ) -> Float[Tensor, ""]:
        """The weighted sum, a scalar."""
        views, ids, images, width = student.shape
        slope = torch.empty_like(student) if ctx.needs_input_grad[0] else None
        scale = 1 / (temperature * pairs)
        weight = sum_targets(torch.ones_like(targets[:, :1, :, :1]))[:, 0]
        at_once = max(1, _scores(student.device) // (images * width))
        total = []
        for person in range(ids):
            target_sum = sum_targets(targets[:, person : person + 1])[:, 0].mul_(-scale)
            for kind in range(len(target_sum)):
                last = kind + 1 if kind + 1 < len(target_sum) else views
                for first in range(kind, last, at_once):
                    part = slice(first, min(first + at_once, last))
                    logits = student[part, person]
                    total.append(torch.mv(logits.reshape(len(logits), -1), target_sum[kind].flatten()).sum())
                    top = logits.amax(-1, keepdim=True) / temperature
                    share = torch.add(-top, logits, alpha=1 / temperature).exp_()
                    whole = share.sum(-1, keepdim=True)
                    total.append((weight[kind] * (top + whole.log())).sum() / pairs)
                    if slope is not None:
                        torch.addcmul(target_sum[kind], share, weight[kind] / whole * scale, out=slope[part, person])
        ctx.save_for_backward(*([] if slope is None else [slope]))
        return torch.stack(total).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Returns the gradient of the forward pass, scaled by the incoming gradient unless that is 1."""
        (slope,) = ctx.saved_tensors
        return slope if slopes[0] == 1 else slope * slopes[0], None, None, None, None


def _scores(device: torch.device) -> int:
    return _SCORES.get(device.type, _SCORES["cuda"])


def _parts(prototypes: int, rows: int, device: torch.device) -> Iterator[slice]:
    step = max(1, _scores(device) // max(1, rows))
    return (slice(first, min(first + step, prototypes)) for first in range(0, prototypes, step))
