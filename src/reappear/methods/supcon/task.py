"""SupCon: supervised contrast (Khosla et al. 2020) over the identities, with the curriculum of CION."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from reappear.core import generator
from reappear.losses import IdentityContrastLoss
from reappear.methods.centroids import Centroids
from reappear.methods.network import Network, feature_spread
from reappear.methods.setup import Setup
from reappear.models.heads import ProjectionHead
from reappear.train import parallel
from reappear.train.batch import ViewBatch
from reappear.train.metrics_log import Row
from reappear.train.schedule import cosine
from reappear.train.task import Labels, Phase, StepResult, Task
from reappear.train.teacher import update_teacher

from .settings import SupConSettings


class SupCon(Task[ViewBatch]):
    """Vectors of all views of an identity attract each other, and repel those of all other identities in the step.

    Several processes compare the vectors of all, and gradients flow to all. The teacher is a moving average of the
    student, which may be saved in its place; with a queue its vectors of earlier steps are compared with too. A memory
    adds the cross-entropy to a centroid of every identity, so that identities of other steps are negatives too.

    Args:
        setup: Settings, images, and where it runs.
    """

    student: Network
    teacher: Network

    def __init__(self, setup: Setup[SupConSettings]) -> None:
        settings = setup.method
        self.settings, self.setup = settings, setup
        self.student, self.teacher = setup.student_and_teacher(self._make_head, sync_batch_norm=True)
        self.objective = IdentityContrastLoss(temperature=settings.temperature)
        self.centroids: Centroids | None = None
        if settings.memory_weight:
            self.centroids = Centroids(
                setup, settings.head_width, temperature=settings.memory_temperature, momentum=settings.memory_momentum
            )
        drawn = generator(setup.training.seed, "queue").standard_normal((settings.queue, settings.head_width))
        weight = next(self.student.head.parameters())
        self.queue = F.normalize(torch.as_tensor(drawn).to(weight), dim=-1)
        self.queue_identity = torch.full((settings.queue,), -1, device=setup.device)
        self._next = 0  # where the queue is overwritten next
        self._keys: list[tuple[Tensor, Tensor]] = []  # of this step

    def _make_head(self, features: int) -> ProjectionHead:
        return ProjectionHead(features, hidden=self.settings.head_hidden, width=self.settings.head_width)

    def phase(self, step: int, labels: Labels | None) -> Phase:
        """One phase: groups of N_id images of an identity, by the curriculum."""
        if self.centroids and step == 0:
            self.centroids.fill(self.student)
        stages = ((0.0, 1),) if self.setup.labels == "instance" else self.settings.curriculum
        return self.setup.views(stages, by_camera=self.settings.negatives == "camera")

    def training_step(self, batch: ViewBatch, step: int) -> StepResult:
        """The contrast of all views of a step, or of a part of it."""
        features, made = self.distributed(batch.views)
        views, _, images = made.shape[:3]
        vectors = made.flatten(0, 2)
        identity = batch.identity[:, None].expand(-1, images).expand(views, -1, -1).flatten()
        others, labels = parallel.gather_others(vectors), parallel.gather_others(identity)
        if self.settings.queue:
            with torch.no_grad():
                keys = self.teacher(batch.views[:1])[1].flatten(0, 2).to(self.queue.dtype)
            self._keys.append((keys, batch.identity[:, None].expand(-1, images).flatten()))
            others = torch.cat([others, self.queue.to(others.dtype)])
            labels = torch.cat([labels, self.queue_identity])
        loss = self.objective(vectors, identity, others=others, other_identity=labels)
        if self.centroids:
            loss = loss + self.settings.memory_weight * self.centroids.loss(made, batch.identity)
        seen = features[0].detach(), vectors.detach(), identity
        return StepResult(loss, partial(self._metrics, *seen))

    def after_step(self, step: int) -> None:
        """Updates the teacher, then replaces the oldest vectors of the queue by those of all processes."""
        momentum = cosine(step, steps=self.setup.steps, start=self.settings.momentum, end=1.0)
        update_teacher(self.teacher, self.student, momentum=momentum, buffers=self.settings.teacher_buffers)
        if self.centroids:
            self.centroids.update()
        if not self._keys:
            return
        keys, labels = (
            parallel.all_gather(torch.cat(parts))[: len(self.queue)] for parts in zip(*self._keys, strict=True)
        )
        self._keys.clear()
        places = (self._next + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places], self.queue_identity[places] = keys, labels
        self._next = (self._next + len(keys)) % len(self.queue)

    def on_step_skipped(self) -> None:
        """Teacher, queue and memory are not updated."""
        self._keys.clear()
        if self.centroids:
            self.centroids.forget()

    @torch.no_grad()
    def _metrics(
        self, features: Float[Tensor, "ids images d"], vectors: Float[Tensor, "n b"], identity: Int[Tensor, " n"]
    ) -> Row:
        """Mean cosine with positives and with negatives, the share nearest to a positive, and the feature spread."""
        cosines = (vectors @ vectors.T).float()
        itself = torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
        same = (identity[:, None] == identity) & ~itself
        other = identity[:, None] != identity
        nearest = cosines.masked_fill(itself, -2.0).argmax(1)
        row: Row = {
            "positive_similarity": cosines[same].mean().item(),
            "found": same.gather(1, nearest[:, None]).float().mean().item(),
            "feature_spread": feature_spread(features),
            "images_per_identity": features.shape[1],
        }
        return {**row, "negative_similarity": cosines[other].mean().item()} if bool(other.any()) else row

    def state_dict(self) -> dict[str, Any]:
        """Both networks, the queue and the memory."""
        queue = {"queue": self.queue, "queue_identity": self.queue_identity, "next": self._next}
        memory = {"memory": self.centroids.memory.state_dict()} if self.centroids else {}
        return {**super().state_dict(), **queue, **memory}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        super().load_state_dict(state)
        self.queue.copy_(state["queue"])
        self.queue_identity.copy_(state["queue_identity"])
        self._next = int(state["next"])
        if self.centroids:
            self.centroids.memory.load_state_dict(state["memory"])
