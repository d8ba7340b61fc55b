"""Contrast of vectors over identities, with every other vector of the identity as a positive."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from reappear.core import InputError, SettingsError

from .anchors import with_others

# Similarities at a time: on a CPU as many as fit the cache of a core, on a GPU as many as keep it busy.
_AT_ONCE = {"cpu": 1 << 19, "cuda": 1 << 25}


class IdentityContrastLoss(nn.Module):
    """Supervised contrastive loss (SupCon, Khosla et al. 2020, Eq. 2).

    For an anchor `i` with positives `P(i)`, all other vectors of its identity, and all vectors `A(i)` but itself:
    `L_i = logsumexp_{a in A(i)} z_i.z_a / tau - mean_{p in P(i)} z_i.z_p / tau`; the loss is the mean over the anchors
    that have a positive.

    Similarities are computed in chunks of rows, and again in the backward pass, so no table of all pairs is stored:
    memory is linear in the number of vectors.

    Args:
        temperature: tau, above 0.
    """

    def __init__(self, *, temperature: float = 0.1) -> None:
        super().__init__()
        if not temperature > 0:
            raise SettingsError(f"temperature: must be above 0, got {temperature}")
        self.temperature = temperature

    def forward(
        self,
        anchors: Float[Tensor, "n d"],
        identity: Int[Tensor, " n"],
        *,
        others: Float[Tensor, "m d"] | None = None,
        other_identity: Int[Tensor, " m"] | None = None,
    ) -> Float[Tensor, ""]:
        """The loss in nats per anchor.

        Args:
            anchors: Unit vectors.
            identity: Of each anchor.
            others: Further unit vectors that anchors are compared with, such as those of other processes (with
                gradient) or of a queue (without). They are no anchors.
            other_identity: Of each of them; -1 = a negative for all.

        Raises:
            InputError: No anchor has a positive.
        """
        with torch.autocast(anchors.device.type, enabled=False):  # logits reach 1 / tau: half precision is too coarse
            anchors, everyone, labels = with_others(anchors, identity, others, other_identity)
            rows, positives = _AnchorLoss.apply(anchors / self.temperature, everyone, identity, labels)
            compared = positives > 0
            if anchors.device.type == "cpu" and not bool(compared.any()):  # a GPU is not waited for: the loss is NaN
                raise InputError("no image of the step has a positive; give two images of an identity, or two views")
            return torch.as_tensor(torch.where(compared, rows, 0.0).sum() / compared.sum())


class _AnchorLoss(torch.autograd.Function):
    """`L_i` of each row of `x` (n d), and its number of positives; row `i` of `y` (m d), m >= n, is the same vector."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, identity: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and number of positives of each row."""
        losses, partitions, counts = [], [], []
        for part in _parts(len(x), len(y), x.device):
            scores, positive = _compare(x, y, identity, labels, part)
            partitions.append(scores.logsumexp(1))
            counts.append(positive.sum(1))
            attraction = torch.where(positive, scores, 0.0).sum(1) / counts[-1].clamp_min(1)
            losses.append(partitions[-1] - attraction)
        count = torch.cat(counts)
        ctx.save_for_backward(x, y, identity, labels, torch.cat(partitions), count)
        ctx.mark_non_differentiable(count)
        return torch.cat(losses), count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Computes each chunk of the similarities again."""
        x, y, identity, labels, partition, count = ctx.saved_tensors
        to_x, to_y = torch.empty_like(x), torch.zeros_like(y)
        for part in _parts(len(x), len(y), x.device):
            scores, positive = _compare(x, y, identity, labels, part)
            slope = scores.sub_(partition[part, None]).exp_()
            slope.sub_(positive.to(slope.dtype) / count[part, None].clamp_min(1)).mul_(slopes[0][part, None])
            torch.mm(slope, y, out=to_x[part])
            to_y.addmm_(slope.T, x[part])
        return to_x, to_y, None, None


def _compare(x: Tensor, y: Tensor, identity: Tensor, labels: Tensor, part: slice) -> tuple[Tensor, Tensor]:
    """Similarities of some rows, and which of them are positives; a row is not compared with itself."""
    scores = x[part] @ y.T
    positive = identity[part, None] == labels
    rows = torch.arange(len(scores), device=x.device)
    scores[rows, rows + part.start], positive[rows, rows + part.start] = -torch.inf, False
    return scores, positive


def _parts(rows: int, columns: int, device: torch.device) -> Iterator[slice]:
    step = max(1, _AT_ONCE.get(device.type, _AT_ONCE["cuda"]) // max(1, columns))
    return (slice(first, min(first + step, rows)) for first in range(0, rows, step))
