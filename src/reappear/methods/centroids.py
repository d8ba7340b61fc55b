"""Remembered centroids of all identities of a set, which the vectors of a step are compared with."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from reappear.losses import IdentityMemory
from reappear.train import parallel

from .network import Network
from .setup import Setup

_AT_ONCE = 256  # images of a forward pass that fills the memory


class Centroids:
    """A memory of identities in a training: filled at its begin, moved after each step by the vectors of all processes.

    Args:
        setup: The images and their identities.
        width: Of the vectors.
        temperature: Of the cross-entropy.
        momentum: Share of a centroid that an image of its identity leaves as it was.
    """

    def __init__(self, setup: Setup[Any], width: int, *, temperature: float, momentum: float) -> None:
        self._setup = setup
        people, self._identity = np.unique(setup.table.identity, return_inverse=True)
        self.memory = IdentityMemory(len(people), width, temperature=temperature, momentum=momentum).to(setup.device)
        self._names = torch.as_tensor(people, device=setup.device)
        self._seen: list[tuple[Tensor, Tensor]] = []  # of this step: vectors (ids views images b), and centroid (ids)

    @torch.no_grad()
    def fill(self, network: Network) -> None:
        """Sets the centroids to the means of what the network makes of all images, not augmented."""
        network.eval()
        vectors = [
            network.head.embed(network.pooled(self._setup.pixels(rows)))
            for rows in np.array_split(np.arange(len(self._identity)), -(-len(self._identity) // _AT_ONCE))
        ]
        network.train()
        self.memory.fill(torch.cat(vectors), torch.as_tensor(self._identity, device=self._setup.device))

    def loss(self, vectors: Float[Tensor, "views ids images b"], identity: Int[Tensor, " ids"]) -> Float[Tensor, ""]:
        """Cross-entropy of unit vectors to the centroids, in nats per vector. Keeps them for `update`."""
        centroid = torch.searchsorted(self._names, identity)
        self._seen.append((vectors.detach().transpose(0, 1).contiguous(), centroid))
        return torch.as_tensor(self.memory(*_rows(vectors, centroid)))

    def update(self) -> None:
        """Moves the centroids towards the vectors of this step, in the order of the whole step."""
        vectors, centroid = (parallel.all_gather(torch.cat(parts)) for parts in zip(*self._seen, strict=True))
        self.memory.update(*_rows(vectors.transpose(0, 1), centroid))
        self._seen.clear()

    def forget(self) -> None:
        """Leaves the centroids as they were before a step that was skipped."""
        self._seen.clear()

    @torch.no_grad()
    def nearness(
        self, vectors: Float[Tensor, "views ids images b"], identity: Int[Tensor, " ids"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Mean cosine with the own centroid, and the share of vectors that are nearest to it."""
        rows, centroid = _rows(vectors, torch.searchsorted(self._names, identity))
        cosines = rows.to(self.memory.centroids.dtype) @ self.memory.centroids.T
        return cosines.gather(1, centroid[:, None]).mean(), (cosines.argmax(1) == centroid).float().mean()


def _rows(
    vectors: Float[Tensor, "views ids images b"], centroid: Int[Tensor, " ids"]
) -> tuple[Float[Tensor, "n b"], Int[Tensor, " n"]]:
    views, _, images = vectors.shape[:3]
    return vectors.flatten(0, 2), centroid[:, None].expand(-1, images).expand(views, -1, -1).flatten()
