"""Circle loss, among images of a batch and against the weights of a classifier."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from reappear.core import InputError, SettingsError

from .anchors import with_others


class CircleLoss(nn.Module):
    """Circle loss on pairs (Sun et al. 2020, Eq. 6).

    For an anchor with cosines `s_p` to its positives and `s_n` to its negatives, of optima `1 + m` and `-m`, and
    `a_p = max(0, 1 + m - s_p)`, `a_n = max(0, s_n + m)` without gradient:
    `ln(1 + sum_n exp(scale a_n (s_n - m)) sum_p exp(-scale a_p (s_p - 1 + m)))`; the loss is the mean over the anchors
    that have both.

    Args:
        margin: m, in (0, 1).
        scale: gamma, above 0.
    """

    def __init__(self, *, margin: float = 0.25, scale: float = 128.0) -> None:
        super().__init__()
        _check(margin, scale)
        self.margin, self.scale = margin, scale

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
            anchors: Features, of any length.
            identity: Of each anchor.
            others: Further features that anchors are compared with, such as those of other processes; no anchors.
            other_identity: Of each of them.

        Raises:
            InputError: No anchor has both a positive and a negative.
        """
        with torch.autocast(anchors.device.type, enabled=False):
            anchors, everyone, labels = with_others(anchors, identity, others, other_identity)
            cosine = F.normalize(anchors, dim=-1) @ F.normalize(everyone, dim=-1).T
            itself = torch.eye(*cosine.shape, dtype=torch.bool, device=cosine.device)
            same = identity[:, None] == labels
            toward, away = _circle(cosine, margin=self.margin, scale=self.scale)
            positive = (-toward).masked_fill(~same | itself, -torch.inf).logsumexp(1)
            negative = away.masked_fill(same, -torch.inf).logsumexp(1)
            compared = positive.isfinite() & negative.isfinite()
            if not bool(compared.any()):
                raise InputError(
                    "no image of the step has a positive and a negative; give two images of two identities"
                )
            return F.softplus(positive[compared] + negative[compared]).mean()


def circle_logits(
    cosine: Float[Tensor, "n classes"], target: Int[Tensor, " n"], *, margin: float = 0.35, scale: float = 64.0
) -> Float[Tensor, "n classes"]:
    """Logits whose cross-entropy is circle loss in its classification form (Sun et al. 2020, Eq. 7).

    Args:
        cosine: Of features with the weights of each class.
        target: Class of each feature.
        margin: m, in (0, 1).
        scale: gamma, above 0.
    """
    _check(margin, scale)
    toward, away = _circle(cosine, margin=margin, scale=scale)
    own = F.one_hot(target, cosine.shape[1]).bool()
    return torch.where(own, toward, away)


def _circle(cosine: Tensor, *, margin: float, scale: float) -> tuple[Tensor, Tensor]:
    """`scale a_p (s - 1 + m)` for each cosine as a positive, and `scale a_n (s - m)` as a negative."""
    fixed = cosine.detach()
    toward = scale * (1 + margin - fixed).clamp_min(0) * (cosine - 1 + margin)
    away = scale * (fixed + margin).clamp_min(0) * (cosine - margin)
    return toward, away


def _check(margin: float, scale: float) -> None:
    if not 0 < margin < 1:
        raise SettingsError(f"margin: must lie in 0..1, got {margin}")
    if not scale > 0:
        raise SettingsError(f"scale: must be above 0, got {scale}")
