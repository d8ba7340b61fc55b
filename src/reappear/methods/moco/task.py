"""MoCo-v2 (He et al. 2020, Chen et al. 2020) as LUP pre-trains people with it (Fu et al. 2021)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from reappear.core import SettingsError, generator
from reappear.methods.network import Network, feature_spread
from reappear.methods.setup import Setup
from reappear.models.heads import ProjectionHead
from reappear.train import parallel
from reappear.train.batch import ViewBatch
from reappear.train.metrics_log import Row
from reappear.train.task import Labels, Phase, StepResult, Task
from reappear.train.teacher import update_teacher

from .settings import MocoSettings


class Moco(Task[ViewBatch]):
    """Two views of an image contrasted with a queue of views of other images, encoded by an EMA copy (key network).

    The key network is updated after the optimiser's step, which equals an update before the next key pass; so a resumed
    training has nothing to catch up. With several processes each key batch is shuffled over all of them, so that batch
    norm does not reveal which key belongs to which query ("shuffling BN"); one process does not shuffle.

    Args:
        setup: Settings, images, and where it runs.
    """

    student: Network
    teacher: Network

    def __init__(self, setup: Setup[MocoSettings]) -> None:
        settings = setup.method
        self.settings, self.setup = settings, setup
        self.student, self.teacher = setup.student_and_teacher(self._make_head)
        drawn = generator(setup.training.seed, "queue").standard_normal((settings.queue, settings.head_width))
        weight = next(self.student.head.parameters())
        self.queue = F.normalize(torch.as_tensor(drawn).to(weight), dim=-1)
        self._next = 0  # where the queue is overwritten next
        self._keys: list[Tensor] = []  # of this step

    def _make_head(self, features: int) -> ProjectionHead:
        return ProjectionHead(features, hidden=self.settings.head_hidden or features, width=self.settings.head_width)

    def phase(self, step: int, labels: Labels | None) -> Phase:
        """One phase: each image by itself."""
        return self.setup.views()

    def training_step(self, batch: ViewBatch, step: int) -> StepResult:
        """InfoNCE: cross entropy of the other view of the same image against the queue."""
        if len(batch.views) != 2:
            raise SettingsError(
                f"{self.settings.kind} compares two views of an image, got {len(batch.views)}; set views.local_views=0"
            )
        with torch.no_grad():
            keys = self.shuffled(self._encode_keys, [batch.views[1].flatten(0, 1)], step)
        features, queries = self.distributed(batch.views[:1])
        return self.contrast(features[0], queries[0], keys)

    def contrast(
        self,
        features: Float[Tensor, "ids images d"],
        queries: Float[Tensor, "ids images width"],
        keys: Float[Tensor, "n width"],
    ) -> StepResult:
        """InfoNCE of the queries, whose keys take the place of the oldest in the queue after the step.

        Args:
            features: Of the same images, for the metrics.
            queries: Unit vectors.
            keys: Unit vectors of another view of each image, without gradient.
        """
        keys = keys.to(self.queue.dtype)
        with torch.autocast(keys.device.type, enabled=False):
            unit = queries.to(self.queue.dtype).flatten(0, 1)
            positive = (unit * keys).sum(-1, keepdim=True)
            negative = unit @ self.queue.T
            scores = torch.cat([positive, negative], dim=1)
            value = F.cross_entropy(scores / self.settings.temperature, scores.new_zeros(len(scores), dtype=torch.long))
        self._keys.append(keys)
        seen = features.detach(), positive.detach(), negative.detach().amax(1, keepdim=True)
        return StepResult(value, partial(self._metrics, *seen))

    def _encode_keys(self, view: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return self.teacher([view[:, None]])[1].flatten(0, 2)  # type: ignore[no-any-return]

    def shuffled(self, encode: Callable[..., Tensor], inputs: list[Tensor], step: int) -> Float[Tensor, "n d"]:
        """What a pass of the key network makes of images that are shuffled over all processes.

        Args:
            encode: From inputs to a row for each image.
            inputs: A row for each image of this process.
            step: Of the training.
        """
        rank, world = parallel.rank_and_world()
        if world == 1:
            return encode(*inputs)
        mine = len(inputs[0])
        gathered = [parallel.all_gather(rows.contiguous()) for rows in inputs]
        order = generator(self.setup.training.seed, "shuffle", step, len(self._keys)).permutation(world * mine)
        shuffled = torch.as_tensor(order, device=inputs[0].device)
        share = shuffled[rank * mine : (rank + 1) * mine]
        made = parallel.all_gather(encode(*(rows[share] for rows in gathered)).contiguous())
        return made[torch.argsort(shuffled)][rank * mine : (rank + 1) * mine]

    def after_step(self, step: int) -> None:
        """Updates the key network, then replaces the oldest keys of the queue by the keys of all processes."""
        if not self._keys:
            return
        update_teacher(
            self.teacher, self.student, momentum=self.settings.momentum, buffers=self.settings.teacher_buffers
        )
        fresh = parallel.all_gather(torch.cat(self._keys))
        self._keys.clear()
        if len(fresh) > len(self.queue):
            raise SettingsError(f"queue: must be at least the images of a step, {len(fresh)}, got {len(self.queue)}")
        places = (self._next + torch.arange(len(fresh), device=fresh.device)) % len(self.queue)
        self.queue[places] = fresh
        self._next = (self._next + len(fresh)) % len(self.queue)

    def on_step_skipped(self) -> None:
        """Queue and key network are not updated."""
        self._keys.clear()

    @torch.no_grad()
    def _metrics(
        self, features: Float[Tensor, "ids images d"], positive: Float[Tensor, "n 1"], nearest: Float[Tensor, "n 1"]
    ) -> Row:
        """Mean cosine with the positive and the nearest negative, share with the positive nearer, feature spread."""
        return {
            "positive_similarity": positive.mean().item(),
            "nearest_negative": nearest.mean().item(),
            "found": (positive > nearest).float().mean().item(),
            "feature_spread": feature_spread(features),
        }

    def state_dict(self) -> dict[str, Any]:
        """Both networks and the queue."""
        return {**super().state_dict(), "queue": self.queue, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        super().load_state_dict(state)
        self.queue.copy_(state["queue"])
        self._next = int(state["next"])
