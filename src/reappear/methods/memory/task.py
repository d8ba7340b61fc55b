"""Contrast with a memory of identities, the objective of Cluster Contrast (Dai et al. 2022), on given identities."""

from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from reappear.losses import IdentityMemory
from reappear.methods.network import Network, feature_spread
from reappear.methods.setup import Setup
from reappear.models.heads import ProjectionHead
from reappear.train import parallel
from reappear.train.batch import ViewBatch
from reappear.train.metrics_log import Row
from reappear.train.task import Labels, Phase, StepResult, Task

from .settings import MemorySettings

_AT_ONCE = 256  # images of a forward pass that fills the memory


class Memory(Task[ViewBatch]):
    """Vectors attract the centroid of their identity, and repel those of all others in the set.

    Args:
        setup: Settings, images, and where it runs.
    """

    student: Network

    def __init__(self, setup: Setup[MemorySettings]) -> None:
        settings = setup.method
        self.settings, self.setup = settings, setup
        self.student = setup.network(self._make_head, sync_batch_norm=True)
        setup.compile(self.student)
        self._people, self._identity = np.unique(setup.table.identity, return_inverse=True)
        self.objective = IdentityMemory(
            len(self._people), settings.head_width, temperature=settings.temperature, momentum=settings.momentum
        ).to(setup.device)
        self._names = torch.as_tensor(self._people, device=setup.device)
        self._seen: list[tuple[Tensor, Tensor]] = []  # of this step: vectors (ids views images b), and centroid (ids)

    def _make_head(self, features: int) -> ProjectionHead:
        return ProjectionHead(features, hidden=self.settings.head_hidden, width=self.settings.head_width)

    def phase(self, step: int, labels: Labels | None) -> Phase:
        """One phase: groups of N_id images of an identity, by the curriculum. At its begin the memory is filled."""
        if step == 0:
            self._fill()
        return self.setup.views(((0.0, 1),) if self.setup.labels == "instance" else self.settings.curriculum)

    @torch.no_grad()
    def _fill(self) -> None:
        self.student.eval()
        vectors = [
            self.student.head.embed(self.student.pooled(self.setup.pixels(rows)))
            for rows in np.array_split(np.arange(len(self._identity)), -(-len(self._identity) // _AT_ONCE))
        ]
        self.student.train()
        self.objective.fill(torch.cat(vectors), torch.as_tensor(self._identity, device=self.setup.device))

    def training_step(self, batch: ViewBatch, step: int) -> StepResult:
        """Cross-entropy of all views of a step, or of a part of it."""
        features, vectors = self.distributed(batch.views)
        centroid = torch.searchsorted(self._names, batch.identity)
        loss = self.objective(*_rows(vectors, centroid))
        self._seen.append((vectors.detach().transpose(0, 1).contiguous(), centroid))
        return StepResult(loss, partial(self._metrics, features[0].detach(), *_rows(vectors.detach(), centroid)))

    def after_step(self, step: int) -> None:
        """Moves the centroids towards the vectors of all processes."""
        vectors, centroid = (parallel.all_gather(torch.cat(parts)) for parts in zip(*self._seen, strict=True))
        self.objective.update(*_rows(vectors.transpose(0, 1), centroid))  # in the order of the whole step
        self._seen.clear()

    def on_step_skipped(self) -> None:
        """The memory is not updated."""
        self._seen.clear()

    @torch.no_grad()
    def _metrics(
        self, features: Float[Tensor, "ids images d"], vectors: Float[Tensor, "n b"], centroid: Int[Tensor, " n"]
    ) -> Row:
        """Mean cosine with the own centroid, the share nearest to it, and the feature spread."""
        cosines = vectors.to(self.objective.centroids.dtype) @ self.objective.centroids.T
        return {
            "positive_similarity": cosines.gather(1, centroid[:, None]).mean().item(),
            "found": (cosines.argmax(1) == centroid).float().mean().item(),
            "feature_spread": feature_spread(features),
            "images_per_identity": features.shape[1],
        }

    def state_dict(self) -> dict[str, Any]:
        """Student and memory."""
        return {**super().state_dict(), "memory": self.objective.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        super().load_state_dict(state)
        self.objective.load_state_dict(state["memory"])


def _rows(
    vectors: Float[Tensor, "views ids images b"], centroid: Int[Tensor, " ids"]
) -> tuple[Float[Tensor, "n b"], Int[Tensor, " n"]]:
    views, _, images = vectors.shape[:3]
    return vectors.flatten(0, 2), centroid[:, None].expand(-1, images).expand(views, -1, -1).flatten()
