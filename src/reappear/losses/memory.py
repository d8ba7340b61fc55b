"""Contrast of vectors with one remembered vector per identity."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from reappear.core import InputError, SettingsError


class IdentityMemory(nn.Module):
    """Cross-entropy of vectors to centroids of all identities, which follow them slowly (Cluster Contrast, Eq. 4, 6).

    The loss of a vector `q` of identity `y` is `-log softmax_k(q.c_k / tau)[y]` over all identities `k`, also those
    that are not in the step. Then `c_y <- m c_y + (1 - m) q`, normalised, for one vector after the other.

    Args:
        identities: How many.
        width: Of the vectors.
        temperature: tau, above 0.
        momentum: m in [0, 1].
    """

    centroids: Float[Tensor, "k d"]

    def __init__(self, identities: int, width: int, *, temperature: float = 0.05, momentum: float = 0.1) -> None:
        super().__init__()
        if identities < 2:
            raise InputError(f"the memory needs 2 identities or more, got {identities}; choose other labels")
        if not temperature > 0:
            raise SettingsError(f"temperature: must be above 0, got {temperature}")
        if not 0 <= momentum <= 1:
            raise SettingsError(f"momentum: must lie in 0..1, got {momentum}")
        self.temperature, self.momentum = temperature, momentum
        self.register_buffer("centroids", torch.zeros(identities, width))

    @torch.no_grad()
    def fill(self, vectors: Float[Tensor, "n d"], identity: Int[Tensor, " n"]) -> None:
        """Sets each centroid to the normalised mean of its identity's vectors."""
        total = torch.zeros_like(self.centroids).index_add_(0, identity, vectors.to(self.centroids.dtype))
        self.centroids.copy_(F.normalize(total, dim=-1))

    def forward(
        self, vectors: Float[Tensor, "n d"], identity: Int[Tensor, " n"], among: Bool[Tensor, "n k"] | None = None
    ) -> Float[Tensor, ""]:
        """The loss in nats per vector; does not move the centroids.

        Args:
            vectors: Of unit length.
            identity: Index of the centroid of each.
            among: Identities that each is compared with, its own among them; all if not given.
        """
        with torch.autocast(vectors.device.type, enabled=False):  # logits reach 1 / tau: half precision is too coarse
            scores = vectors.to(self.centroids.dtype) @ self.centroids.T / self.temperature
            if among is not None:
                scores = scores.masked_fill(~among, -torch.inf)
            return F.cross_entropy(scores, identity)

    @torch.no_grad()
    def update(self, vectors: Float[Tensor, "n d"], identity: Int[Tensor, " n"]) -> None:
        """Moves each centroid towards the vectors of its identity, in their order."""
        order = torch.argsort(identity, stable=True)
        people, counts = torch.unique_consecutive(identity[order], return_counts=True)
        begins = counts.cumsum(0) - counts
        centroids = self.centroids[people]
        for turn in range(int(counts.max()) if len(counts) else 0):  # one vector of every identity at a time
            vector = vectors[order[(begins + turn).clamp_max(len(order) - 1)]].to(centroids.dtype)
            moved = F.normalize(centroids * self.momentum + vector * (1 - self.momentum), dim=-1)
            centroids = torch.where((turn < counts)[:, None], moved, centroids)
        self.centroids[people] = centroids

    @torch.no_grad()
    def update_hardest(self, vectors: Float[Tensor, "n d"], identity: Int[Tensor, " n"]) -> None:
        """Moves each centroid once, towards the vector of its identity that is the least similar to it."""
        cosine = (self.centroids[identity] * vectors.to(self.centroids.dtype)).sum(1)
        order = torch.argsort(cosine, stable=True)
        order = order[torch.argsort(identity[order], stable=True)]  # by identity, the least similar first
        is_first = torch.ones_like(order, dtype=torch.bool)
        is_first[1:] = identity[order][1:] != identity[order][:-1]
        self.update(vectors[order[is_first]], identity[order[is_first]])
