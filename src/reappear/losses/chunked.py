"""Cross entropy over many prototypes, computed in chunks: scores and their softmax are never stored whole."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_CACHE = 1 << 19  # scores per chunk of prototypes that fit the cache of a core

SumTargets = Callable[[Tensor, int], Tensor]


class ChunkedPrototypeCrossEntropy(torch.autograd.Function):
    """Log-partition of rows over unit prototypes, and target distributions projected back through them; for a CPU.

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
        for part in _parts(0, len(prototypes), max(1, _CACHE // max(1, len(vectors)))):
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
        for part in _parts(0, len(prototypes), max(1, _CACHE // max(1, len(vectors)))):
            some, by, out = prototypes[part], shrink[part], to_prototypes[part]
            share = (vectors @ some.T).mul_(by).sub_(partition[:, None]).exp_().mul_(of_partition[:, None])
            torch.mm(share.T, vectors, out=out)
            out.addmm_(targets[:, part].T, of_projected)
            along = (out * some).sum(1).mul_(by).mul_(by)
            out.addcmul_(some, along[:, None], value=-1).mul_(by[:, None])
            to_vectors.addmm_(share.mul_(by), some)
        return to_vectors, to_prototypes, None


class FusedPrototypeCrossEntropy(torch.autograd.Function):
    """`sum over rows of weight * logsumexp(z) - target_sum . z`, over `pairs`, with `z = u v`; for a GPU.

    Inputs: vectors `v` (views ids images d); prototypes (k d) of any length, unit ones are `u`; targets (globals ids
    images k) without gradient; the weight of each view's rows; pairs; and `sum_targets(rows, views)`, a sum over pairs
    that is its own transpose. Chunks are of views, so the forward pass has the whole softmax of each and computes the
    gradients there, with few launches: three products with the student's scores and two with the teacher's. Stored
    beside the gradients are the unit prototypes and two chunks of scores.
    """

    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        prototypes: Float[Tensor, "k d"],
        targets: Tensor,
        weight: list[float],
        pairs: int,
        sum_targets: SumTargets,
    ) -> Float[Tensor, ""]:
        """The weighted sum, a scalar."""
        views, seen, each = len(vectors), len(targets), vectors[0].numel() // vectors.shape[-1]
        rows, target = vectors.flatten(0, 2), targets.flatten(0, 2)
        norm = torch.linalg.vector_norm(prototypes, dim=1, keepdim=True).clamp_min_(1e-12)
        unit = prototypes / norm
        projected = target @ unit
        partners = sum_targets(vectors, seen).flatten(0, 2)  # of each row of the teacher
        to_vectors = sum_targets(projected.view(*targets.shape[:3], -1), views).flatten(0, 2)
        to_prototypes = torch.addmm(unit, target.T, partners, beta=0, alpha=-1)
        partition = rows.new_empty(len(rows))
        for part in _view_parts(views, seen, 4):
            some, by = slice(part.start * each, part.stop * each), weight[part.start]
            logits = rows[some] @ unit.T
            share = torch.log_softmax(logits, dim=1)
            torch.sub(logits[:, 0], share[:, 0], out=partition[some])
            del logits
            share.exp_()
            to_vectors[some].addmm_(share, unit, beta=-1, alpha=by)
            to_prototypes.addmm_(share.T, rows[some], alpha=by)
            del share
        along = (to_prototypes * unit).sum(1, keepdim=True)
        to_prototypes.addcmul_(unit, along, value=-1).div_(norm)
        ctx.gradients, ctx.pairs = (to_vectors.view_as(vectors), to_prototypes), pairs
        first, others = partition[: seen * each].sum() * weight[0], partition[seen * each :].sum() * weight[-1]
        return (first + others - torch.dot(projected.flatten(), partners.flatten())) / pairs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of the forward pass, scaled in place by the incoming gradient; once."""
        to_vectors, to_prototypes = _take_gradients(ctx)
        scale = slopes[0] / ctx.pairs
        return to_vectors.mul_(scale), to_prototypes.mul_(scale), None, None, None, None


class ChunkedCrossEntropy(torch.autograd.Function):
    """`sum over rows of weight * logsumexp(z) - target_sum . z`, over `pairs`, with `z = logits / temperature`.

    Inputs: logits (views ids images k); target_sum (kinds ids images k) without gradient: one entry for each view that
    the teacher saw, and one for all others; the weight of each view's rows, which is the sum of their target_sum;
    temperature, pairs. The gradient `weight * softmax - target_sum` is computed in the forward pass, which has the
    softmax, and is the only table of the size of the logits. `target_sum` is overwritten.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target_sum: Tensor, weight: list[float], temperature: float, pairs: int, seen: int
    ) -> Float[Tensor, ""]:
        """The weighted sum, a scalar."""
        slope = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        scale = 1 / (temperature * pairs)
        target_sum.mul_(-scale)
        total = []
        for part in _view_parts(len(logits), seen, 2):
            out = None if slope is None else slope[part]
            share = torch.log_softmax(torch.div(logits[part], temperature, out=out), dim=-1)
            own = part.start < seen  # targets of each view; the others have the same
            less = target_sum[part] if own else target_sum[seen]
            total.append(torch.dot((share if own else share.sum(0)).flatten(), less.flatten()))
            if out is not None:
                torch.add(less, share.exp_(), alpha=weight[part.start] * scale, out=out)
            del share
        ctx.gradients = (slope,)
        return torch.stack(total).sum() * temperature

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradient of the forward pass, scaled in place by the incoming gradient; once."""
        (slope,) = _take_gradients(ctx)
        one = slopes[0].is_cpu and slopes[0] == 1  # to look at it on a GPU would be to wait for it
        return slope if one else slope.mul_(slopes[0]), None, None, None, None, None


def _view_parts(views: int, seen: int, parts: int) -> Iterator[slice]:
    """The views that the teacher saw, then the others in some parts."""
    yield slice(0, seen)
    yield from _parts(seen, views, max(1, -(-(views - seen) // parts)))


def _parts(first: int, last: int, step: int) -> Iterator[slice]:
    return (slice(begin, min(begin + step, last)) for begin in range(first, last, step))


def _take_gradients(ctx: Any) -> tuple[Tensor, ...]:
    """The gradients of the forward pass, once: they are scaled in place."""
    gradients: tuple[Tensor, ...] | None = ctx.gradients
    if gradients is None:
        raise RuntimeError("the gradients of this loss were taken before; compute the loss again")
    ctx.gradients = None
    return gradients
