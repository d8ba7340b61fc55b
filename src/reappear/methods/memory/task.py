"""Contrast with a memory of identities, the objective of Cluster Contrast (Dai et al. 2022), on given identities."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reappear.methods.centroids import Centroids
from reappear.methods.network import Network, feature_spread
from reappear.methods.setup import Setup
from reappear.models.heads import ProjectionHead
from reappear.train.batch import ViewBatch
from reappear.train.metrics_log import Row
from reappear.train.task import Labels, Phase, StepResult, Task

from .settings import MemorySettings


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
        self.centroids = Centroids(
            setup, settings.head_width, temperature=settings.temperature, momentum=settings.momentum
        )

    def _make_head(self, features: int) -> ProjectionHead:
        return ProjectionHead(features, hidden=self.settings.head_hidden, width=self.settings.head_width)

    def phase(self, step: int, labels: Labels | None) -> Phase:
        """One phase: groups of N_id images of an identity, by the curriculum. At its begin the memory is filled."""
        if step == 0:
            self.centroids.fill(self.student)
        return self.setup.views(((0.0, 1),) if self.setup.labels == "instance" else self.settings.curriculum)

    def training_step(self, batch: ViewBatch, step: int) -> StepResult:
        """Cross-entropy of all views of a step, or of a part of it."""
        features, vectors = self.distributed(batch.views)
        loss = self.centroids.loss(vectors, batch.identity)
        return StepResult(loss, partial(self._metrics, features[0].detach(), vectors.detach(), batch.identity))

    def after_step(self, step: int) -> None:
        """Moves the centroids towards the vectors of all processes."""
        self.centroids.update()

    def on_step_skipped(self) -> None:
        """The memory is not updated."""
        self.centroids.forget()

    @torch.no_grad()
    def _metrics(
        self,
        features: Float[Tensor, "ids images d"],
        vectors: Float[Tensor, "views ids images b"],
        identity: Int[Tensor, " ids"],
    ) -> Row:
        """Mean cosine with the own centroid, the share nearest to it, and the feature spread."""
        similarity, found = self.centroids.nearness(vectors, identity)
        return {
            "positive_similarity": similarity.item(),
            "found": found.item(),
            "feature_spread": feature_spread(features),
            "images_per_identity": features.shape[1],
        }

    def state_dict(self) -> dict[str, Any]:
        """Student and memory."""
        return {**super().state_dict(), "memory": self.centroids.memory.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        super().load_state_dict(state)
        self.centroids.memory.load_state_dict(state["memory"])
