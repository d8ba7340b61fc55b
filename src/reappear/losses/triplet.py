"""Triplet loss with the hardest positive and the hardest negative of each anchor in the batch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from reappear.core import SettingsError

from .anchors import with_others


class BatchHardTripletLoss(nn.Module):
    """Batch-hard triplet loss (Hermans et al. 2017, Eq. 5) on Euclidean distances.

    For an anchor `a` with its farthest positive `p` and its nearest negative `n`: `max(0, margin + d(a, p) - d(a, n))`,
    or with a soft margin `ln(1 + exp(d(a, p) - d(a, n)))`; the loss is the mean over the anchors. An anchor without
    another image of its identity is its own positive.

    Args:
        margin: Above 0; None = soft.
    """

    def __init__(self, *, margin: float | None = None) -> None:
        super().__init__()
        if margin is not None and not margin > 0:
            raise SettingsError(f"margin: must be above 0, got {margin}; leave it out for a soft margin")
        self.margin = margin

    def forward(
        self,
        anchors: Float[Tensor, "n d"],
        identity: Int[Tensor, " n"],
        *,
        others: Float[Tensor, "m d"] | None = None,
        other_identity: Int[Tensor, " m"] | None = None,
    ) -> Float[Tensor, ""]:
        """The loss; infinite distances where an anchor has no negative, so give two identities.

        Args:
            anchors: Features, of any length.
            identity: Of each anchor.
            others: Further features that anchors are compared with, such as those of other processes; no anchors.
            other_identity: Of each of them.
        """
        return self.of(*self.hardest(anchors, identity, others=others, other_identity=other_identity))

    def of(self, positive: Float[Tensor, " n"], negative: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """The loss of the distances that `hardest` returns."""
        if self.margin is None:
            return F.softplus(positive - negative).mean()
        return F.relu(self.margin + positive - negative).mean()

    def hardest(
        self,
        anchors: Float[Tensor, "n d"],
        identity: Int[Tensor, " n"],
        *,
        others: Float[Tensor, "m d"] | None = None,
        other_identity: Int[Tensor, " m"] | None = None,
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Distances of each anchor to its farthest positive and to its nearest negative; arguments as `forward`."""
        with torch.autocast(anchors.device.type, enabled=False):  # distances of close features need all digits
            anchors, everyone, labels = with_others(anchors, identity, others, other_identity)
            distance = torch.cdist(anchors, everyone, compute_mode="donot_use_mm_for_euclid_dist")
            same = identity[:, None] == labels
            farthest = distance.masked_fill(~same, -torch.inf).amax(1)
            nearest = distance.masked_fill(same, torch.inf).amin(1)
            return farthest, nearest
