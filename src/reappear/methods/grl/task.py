"""GRL: global-guided reciprocal learning of clips (Liu et al. 2021), and two simpler poolings under the same losses."""

from dataclasses import replace
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from reappear.losses import BatchHardTripletLoss, IdentityMemory, verification_loss
from reappear.methods.network import Network
from reappear.methods.setup import Setup
from reappear.models.embedder import Embedder
from reappear.models.grl import VECTORS, ClipFeatures, ClipNetwork, PairVerifier
from reappear.train import parallel
from reappear.train.batch import ClipBatch
from reappear.train.datasets import ClipDataset
from reappear.train.image_augment import ImageAugment
from reappear.train.metrics_log import Row
from reappear.train.optimizer import ParameterGroup
from reappear.train.samplers import ClipSampler
from reappear.train.settings import Keep
from reappear.train.task import Labels, Phase, StepResult, Task

from .settings import GrlSettings

_PRETRAINED = ("backbone.network.", "backbone.correlation.")  # these learn at the learning rate of the training


class Grl(Task[ClipBatch]):
    """Pairs of clips: identities are classified by frame, clip and memory (OIM); clips are verified and ranked too.

    `OIM(frames) + OIM(clip) + 20 verification(clip) + triplets(clip) + OIM(memory)`. Several processes compare clips
    with those of all, and remembered vectors follow the clips and then the frames of all, after each step.

    Args:
        setup: Settings, images, and where it runs.
    """

    student: Network

    def __init__(self, setup: Setup[GrlSettings]) -> None:
        settings = setup.method
        self.settings, self.setup = settings, setup
        people, identity = np.unique(setup.table.identity, return_inverse=True)
        self._table = replace(setup.table, identity=identity)  # numbers without gaps
        parts = VECTORS[settings.pooling]
        self.student = setup.network(
            lambda width: PairVerifier(width // parts),
            extend=partial(ClipNetwork, pooling=settings.pooling, frames=settings.frames, compat=settings.compat),
        )
        self.student.backbone = parallel.convert_sync_batchnorm(self.student.backbone, setup.device)
        if setup.training.compile:
            backbone: Any = self.student.backbone
            backbone.clips = torch.compile(backbone.clips, dynamic=False)
        width = self._verifier.norm.num_features
        self.oim = nn.ModuleDict(
            {
                name: IdentityMemory(
                    len(people), width, temperature=1 / settings.oim_scale, momentum=settings.oim_momentum
                )
                for name in (("clip", "memory") if settings.pooling == "grl" else ("clip",))
            }
        ).to(setup.device)
        self.triplet_loss = BatchHardTripletLoss()
        self._seen: list[tuple[Tensor, ...]] = []  # of this step: identity, frames, clip, and memory if there is one

    @cached_property
    def distributed(self) -> nn.Module:
        """The student from clips to vectors, so that gradients are averaged over processes."""
        return parallel.wrap_ddp(_Clips(self.student))

    @property
    def _verifier(self) -> PairVerifier:
        return cast(PairVerifier, self.student.head)

    def _remembered(self, name: str) -> IdentityMemory:
        return cast(IdentityMemory, self.oim[name])

    def phase(self, step: int, labels: Labels | None) -> Phase:
        """One phase: pairs of clips of one person, from two cameras where there are."""
        settings, training = self.settings, self.setup.training
        sampler = ClipSampler(
            self._table,
            identities=training.images_per_step // (2 * settings.frames),
            clips=2,
            frames=settings.frames,
            seed=training.seed,
            pairs=True,
            compat=settings.compat,
        )
        augment = ImageAugment(settings.augment, height=training.height, width=training.width)
        data = ClipDataset(self.setup.images, self._table, sampler, augment, seed=training.seed)
        return Phase(0, self.setup.steps, data)

    def training_step(self, batch: ClipBatch, step: int) -> StepResult:
        """All losses of a step, or of a part of it."""
        settings, oim = self.settings, self._remembered("clip")
        found: ClipFeatures = self.distributed(batch.clips.flatten(0, 1))
        identity = batch.identity.repeat_interleave(2)
        of_frames = identity.repeat_interleave(settings.frames)
        self._seen.append((identity, *(part.detach() for part in found if part is not None)))

        others, other_identity = parallel.gather_others(found.clip), parallel.gather_others(identity)
        clips, people = torch.cat([found.clip, others]), torch.cat([identity, other_identity])[::2]
        logits = self._verifier(clips[::2], clips[1::2])[: len(batch.identity)]
        distances = self.triplet_loss.hardest(found.clip, identity, others=others, other_identity=other_identity)
        losses = {
            "frame_loss": oim(found.frames.flatten(0, 1), of_frames),
            "clip_loss": oim(found.clip, identity),
            "pair_loss": verification_loss(logits, batch.identity, people),
            "triplet_loss": self.triplet_loss.of(*distances),
        }
        if found.memory is not None:
            losses["memory_loss"] = self._remembered("memory")(found.memory, identity)
        loss = sum(losses.values()) + (settings.pair_weight - 1) * losses["pair_loss"]
        seen = {name: value.detach() for name, value in losses.items()}
        same = batch.identity[:, None] == people
        return StepResult(
            loss,
            partial(
                self._metrics,
                seen,
                found.clip.detach(),
                identity,
                logits.detach().argmax(-1) == same,
                distances[0].detach() < distances[1].detach(),
            ),
        )

    @torch.no_grad()
    def _metrics(
        self,
        losses: dict[str, Tensor],
        clips: Float[Tensor, "n d"],
        identity: Int[Tensor, " n"],
        verified: Tensor,
        ordered: Tensor,
    ) -> Row:
        """All losses, and the shares of clips nearest to their identity, of pairs told right, of triplets in order."""
        centroids = self._remembered("clip").centroids
        nearest = (clips.to(centroids.dtype) @ centroids.T).argmax(1)
        return {
            **{name: value.item() for name, value in losses.items()},
            "accuracy": (nearest == identity).float().mean().item(),
            "verified_pairs": verified.float().mean().item(),
            "ordered_triplets": ordered.float().mean().item(),
        }

    def after_step(self, step: int) -> None:
        """Remembered vectors follow the clips of all processes, then the frames, in the order of the whole step."""
        identity, frames, clips, *memory = (
            parallel.all_gather(torch.cat(parts).contiguous()) for parts in zip(*self._seen, strict=True)
        )
        oim = self._remembered("clip")
        oim.update(clips, identity)
        oim.update(frames.flatten(0, 1), identity.repeat_interleave(frames.shape[1]))
        for vectors in memory:
            self._remembered("memory").update(vectors, identity)
        self._seen.clear()

    def on_step_skipped(self) -> None:
        """Remembered vectors stay."""
        self._seen.clear()

    def parameter_groups(self) -> list[ParameterGroup]:
        """The backbone with its correlation map, and what follows with a learning rate of its own; all decay."""
        named = [(name, p) for name, p in self.student.named_parameters() if p.requires_grad]
        return [
            ParameterGroup([p for name, p in named if name.startswith(_PRETRAINED)]),
            ParameterGroup([p for name, p in named if not name.startswith(_PRETRAINED)], lr_scale=self.settings.new_lr),
        ]

    def export(self, keep: Keep) -> Embedder:
        """The network for clips; of an image it makes the vector of a clip of one frame."""
        super().export(keep)
        training, settings = self.setup.training, self.settings
        arguments: dict[str, Any] = {
            **training.arguments,
            "network": training.backbone,
            "pooling": settings.pooling,
            "frames": settings.frames,
            "compat": settings.compat,
        }
        config = {"architecture": settings.extended, "arguments": arguments}
        return Embedder(self.student.backbone, self.student.preprocessing, config=config)

    def state_dict(self) -> dict[str, Any]:
        """The network and the remembered vectors."""
        return {**super().state_dict(), "oim": self.oim.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        super().load_state_dict(state)
        self.oim.load_state_dict(state["oim"])


class _Clips(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: UInt8[Tensor, "b t 3 h w"]) -> ClipFeatures:
        return self.network.clips(clips)
