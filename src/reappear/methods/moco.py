"""MoCo-v2 (He et al. 2020, Chen et al. 2020) as LUP pre-trains people with it (Fu et al. 2021)."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from reappear.core import SettingsError, generator
from reappear.train.batches import IdentityBatch
from reappear.train.parallel import all_gather, no_sync, rank_and_world
from reappear.train.teacher import BufferBackup, Buffers, update_teacher

from .network import Network, feature_spread


class Moco:
    """Two views of an image contrasted with a queue of views of other images, encoded by an EMA copy (key network).

    The key network is updated after the optimiser's step, which equals an update before the next key pass; so a resumed
    training has nothing to catch up. With several processes each key batch is shuffled over all of them, so that batch
    norm does not reveal which key belongs to which query ("shuffling BN"); one process does not shuffle.

    Args:
        network: The query network as it begins; the key network begins as its copy.
        queue: Number of stored keys; at least the images of a step.
        temperature: Of the contrastive loss.
        momentum: EMA momentum of the key network.
        seed: Of the queue's first, random entries, and of the shuffling.
        buffers: How the key network's batch norm statistics are updated.
        compiled: Whether torch compiles both backbones.
        distribute: Wraps the network so that gradients are averaged over processes.
    """

    def __init__(
        self,
        network: Network,
        *,
        queue: int,
        temperature: float = 0.1,
        momentum: float = 0.999,
        seed: int = 0,
        buffers: Buffers = "own",
        compiled: bool = False,
        distribute: Callable[[nn.Module], nn.Module] = lambda module: module,
    ) -> None:
        if queue < 1:
            raise SettingsError(f"queue: must be 1 or more, got {queue}")
        if not temperature > 0:
            raise SettingsError(f"temperature: must be above 0, got {temperature}")
        if not 0 <= momentum <= 1:
            raise SettingsError(f"momentum: must lie in 0..1, got {momentum}")
        weight = next(reversed(list(network.head.mlp.parameters())))  # the bias of the last layer
        drawn = torch.as_tensor(generator(seed, "queue").standard_normal((queue, len(weight))))
        self.queue = F.normalize(drawn.to(weight), dim=-1)
        self.teacher = copy.deepcopy(network).requires_grad_(False)
        if compiled:
            network.backbone.compile(dynamic=False)
            self.teacher.backbone.compile(dynamic=False)
        self._distributed = distribute(network)
        self._network = network
        self._temperature, self._momentum, self._seed = temperature, momentum, seed
        self._buffers: Buffers = buffers
        self._next = 0  # where the queue is overwritten next
        self._keys: list[Tensor] = []  # of this step
        self._seen: tuple[Tensor, Tensor, Tensor] | None = None
        self._backup = BufferBackup(network, self.teacher)

    @property
    def student(self) -> Network:
        """The query network: what the optimiser trains."""
        return self._network

    def loss(self, batch: IdentityBatch, step: int) -> Float[Tensor, ""]:
        """InfoNCE: cross entropy of the other view of the same image against the queue."""
        if len(batch.views) != 2:
            raise SettingsError(f"moco compares two views of an image, got {len(batch.views)}; set views.local_views=0")
        if not self._keys:
            self._backup.save()
        with torch.no_grad():
            keys = self._encode_keys(batch.views[1], step).to(self.queue.dtype)
        features, queries = self._distributed(batch.views[:1])
        with torch.autocast(keys.device.type, enabled=False):
            queries = queries.to(self.queue.dtype).flatten(0, 2)
            positive = (queries * keys).sum(-1, keepdim=True)
            negative = queries @ self.queue.T
            scores = torch.cat([positive, negative], dim=1)
            value = F.cross_entropy(scores / self._temperature, scores.new_zeros(len(scores), dtype=torch.long))
        self._keys.append(keys)
        self._seen = (features[0].detach(), positive.detach(), negative.detach().amax(1, keepdim=True))
        return value

    def _encode_keys(self, view: UInt8[Tensor, "ids images 3 h w"], step: int) -> Float[Tensor, "n d"]:
        rank, world = rank_and_world()
        if world == 1:
            return self.teacher([view])[1].flatten(0, 2)  # type: ignore[no-any-return]
        mine = view.shape[0] * view.shape[1]
        gathered = all_gather(view.flatten(0, 1).contiguous())
        order = generator(self._seed, "shuffle", step, len(self._keys)).permutation(len(gathered))
        shuffled = torch.as_tensor(order, device=view.device)
        share = gathered[shuffled[rank * mine : (rank + 1) * mine]]
        keys = all_gather(self.teacher([share[:, None]])[1].flatten(0, 2).contiguous())
        return keys[torch.argsort(shuffled)][rank * mine : (rank + 1) * mine]

    def no_sync(self) -> AbstractContextManager[None]:
        """Context in which gradients are not averaged over processes."""
        return no_sync(self._distributed)

    def after_step(self, step: int) -> None:
        """Updates the key network, then replaces the oldest keys of the queue by the keys of all processes."""
        if not self._keys:
            return
        update_teacher(self.teacher, self._network, momentum=self._momentum, buffers=self._buffers)
        fresh = all_gather(torch.cat(self._keys))
        self._keys.clear()
        if len(fresh) > len(self.queue):
            raise SettingsError(f"queue: must be at least the images of a step, {len(fresh)}, got {len(self.queue)}")
        places = (self._next + torch.arange(len(fresh), device=fresh.device)) % len(self.queue)
        self.queue[places] = fresh
        self._next = (self._next + len(fresh)) % len(self.queue)

    def on_step_skipped(self) -> None:
        """Restores batch norm statistics; queue and key network are not updated."""
        self._keys.clear()
        self._backup.restore()

    @torch.no_grad()
    def metrics(self, step: int) -> dict[str, int | float]:
        """Mean cosine with the positive and the nearest negative, share with the positive nearer, feature spread."""
        if self._seen is None:
            return {}
        features, positive, nearest = self._seen
        return {
            "positive_similarity": positive.mean().item(),
            "nearest_negative": nearest.mean().item(),
            "found": (positive > nearest).float().mean().item(),
            "feature_spread": feature_spread(features),
        }

    def is_frozen(self, parameter: str, step: int) -> bool:
        """False: no parameter is frozen."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """Both networks and the queue."""
        return {
            "student": self._network.state_dict(),
            "teacher": self.teacher.state_dict(),
            "queue": self.queue,
            "next": self._next,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        self._network.load_state_dict(state["student"])
        self.teacher.load_state_dict(state["teacher"])
        self.queue.copy_(state["queue"])
        self._next = int(state["next"])
