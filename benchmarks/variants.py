"""Variants of SupCon that were tried beside its settings: each has a name here, and its figures in results/search.json.

What helped is a setting of the product; the rest stays here, so that the table of `objectives.py --search` can be made
again.
"""

import copy
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from reappear.core import settings
from reappear.losses import IdentityDistillationLoss
from reappear.methods.setup import Setup
from reappear.methods.supcon.settings import SupConSettings
from reappear.methods.supcon.task import SupCon
from reappear.models.heads import DistillationHead
from reappear.train.batch import ViewBatch
from reappear.train.datasets import ViewDataset
from reappear.train.samplers import IdentitySampler
from reappear.train.task import Phase, StepResult


@settings
class VariantSettings(SupConSettings):
    """What a variant changes."""

    kind: Literal["variant"] = "variant"  # type: ignore[assignment]
    distill: Annotated[float, "weight of CION's loss beside the contrast"] = 0.0
    masked: Annotated[float, "weight of iBOT's loss on masked patches (vision transformers)"] = 0.0
    uncertain: Annotated[float, "weight of negatives that were not seen at the same time as the anchor's person"] = 1.0
    alike: Annotated[float, "share of the most similar pairs of identities that are no negatives of each other"] = 0.0
    linked: Annotated[float, "weight of positives from other tracklets"] = 1.0
    by_similarity: Annotated[bool, "weigh positives from other tracklets by their similarity to the extractor"] = False
    by_probability: Annotated[bool, "weigh positives from other tracklets by the probability of the link"] = False
    spread: Annotated[bool, "images of a group are from as many tracklets and cameras as there are"] = False
    together: Annotated[
        Literal["no", "video", "camera"], "identities of a step were seen in the same video, or by the same camera"
    ] = "no"
    head: Annotated[Literal["mlp", "linear", "none"], "between features and vectors"] = "mlp"


@dataclass(frozen=True)
class Footage:
    """What is known of the crops beside their labels.

    Attributes:
        video: Of each crop; `start`, `end`: of its tracklet in the video, in seconds.
        vectors: Of the extractor.
        sure: Probability that two tracklets are one person; 0 where they are not linked.
    """

    video: Int[np.ndarray, " n"]
    start: Float[np.ndarray, " n"]
    end: Float[np.ndarray, " n"]
    vectors: Float[np.ndarray, "n d"]
    sure: Float[np.ndarray, "t t"]


@dataclass(frozen=True)
class RowBatch(ViewBatch):
    """Views with the rows of their images."""

    rows: Int[Tensor, "ids images"] = field(kw_only=True)


class RowDataset(ViewDataset):
    """Views with the rows of their images."""

    def __getitem__(self, step: int) -> RowBatch:
        batch = super().__getitem__(step)
        rows, _ = self.share(step)
        return RowBatch(batch.views, batch.identity, batch.color_params, rows=torch.from_numpy(rows))


class SpreadSampler(IdentitySampler):
    """Groups with images of as many tracklets as there are: images of a tracklet are dealt over the groups."""

    def __init__(self, identity: Any, *, tracklet: Any, camera: Any, **rest: Any) -> None:
        super().__init__(identity, **rest)
        self._tracklet, self._camera = tracklet, camera

    def _make_pass(self, images: int, number: int) -> Any:
        groups = super()._make_pass(images, number)
        rng = np.random.default_rng([self._seed, images, number])
        identity = np.repeat(np.arange(len(self._counts)), self._counts)
        rows = self._by_identity
        draw = rng.random(len(rows))
        person = np.empty(len(rows), np.int64)
        person[rows] = identity
        order = np.lexsort((draw, self._tracklet[rows], identity))
        rows = rows[order]
        key = identity[order] * (self._tracklet.max() + 1) + self._tracklet[rows]
        begins = np.r_[0, np.flatnonzero(np.diff(key)) + 1]
        turn = np.arange(len(rows)) - np.repeat(begins, np.diff(np.r_[begins, len(rows)]))
        order = np.lexsort((rng.random(len(rows)), turn, person[rows]))
        rows = rows[order]
        first = np.r_[0, np.cumsum(self._counts)]
        out = []
        for p, count in enumerate(self._counts.tolist()):
            mine = rows[first[p] : first[p] + count]
            need = -(-count // images) * images
            out.append(mine[np.arange(need) % count].reshape(-1, images))
        made = np.concatenate(out)
        return made[rng.permutation(len(made))] if len(made) == len(groups) else groups


class TogetherSampler(IdentitySampler):
    """Groups of a pass in the order of the videos of their first images."""

    def __init__(self, identity: Any, *, video: Any, **rest: Any) -> None:
        super().__init__(identity, **rest)
        self._video = video

    def _make_pass(self, images: int, number: int) -> Any:
        groups = super()._make_pass(images, number)
        ids = self.images_per_step // images
        order = np.argsort(self._video[groups[:, 0]], kind="stable")
        blocks = np.array_split(order, max(1, len(order) // ids))
        turn = np.random.default_rng([self._seed, number]).permutation(len(blocks))
        return groups[np.concatenate([blocks[b] for b in turn])]


class SpreadTogetherSampler(TogetherSampler, SpreadSampler):
    """Both."""


class TwoHeads(nn.Module):
    """Vectors of two heads, side by side."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def embed(self, features: Tensor) -> Tensor:
        return torch.cat([self.first.embed(features), self.second.embed(features)], -1)


class PlainHead(nn.Module):
    """Unit features, after a linear layer or none."""

    def __init__(self, features: int, width: int | None) -> None:
        super().__init__()
        self.layer = nn.BatchNorm1d(features) if width is None else nn.Linear(features, width)

    def embed(self, features: Tensor) -> Tensor:
        return F.normalize(self.layer(features), dim=-1)


class Variant(SupCon):
    """SupCon with what `VariantSettings` changes; in one process, without chunks."""

    def __init__(self, setup: Setup[VariantSettings], footage: Footage | None) -> None:
        self.footage, s = footage, setup.method
        super().__init__(setup)
        if s.masked:
            self._prepare_masks()
        people, index = np.unique(setup.table.identity, return_inverse=True)
        self.person = torch.as_tensor(index, device=setup.device)
        certain = np.zeros((len(people), len(people)), bool)
        similar = certain.copy()
        if footage is not None:
            certain = seen_together(footage, index, len(people), setup.table.sequence)
            if s.alike:
                similar = most_similar(footage, index, len(people), s.alike) & ~certain
        self.certain = torch.as_tensor(certain, device=setup.device)
        self.similar = torch.as_tensor(similar, device=setup.device)
        self.tracklet = torch.as_tensor(setup.table.sequence, device=setup.device)
        if s.by_similarity:
            self.vectors = torch.as_tensor(tracklet_means(footage.vectors, setup.table.sequence), device=setup.device)
        if s.by_probability:
            self.sure = torch.as_tensor(footage.sure, device=setup.device)
        if s.distill:
            self.distillation = IdentityDistillationLoss(1024, teacher_temperature=0.04).to(setup.device)

    def _make_head(self, features: int) -> Any:
        s: Any = self.setup.method if hasattr(self, "setup") else self.settings
        head: nn.Module = super()._make_head(features)
        if s.head != "mlp":
            head = PlainHead(features, s.head_width if s.head == "linear" else None)
        if s.distill:
            head = TwoHeads(head, DistillationHead(features, prototypes=1024, prototype_length=0.577))
        return head

    def phase(self, step: int, labels: Any) -> Phase:
        """One phase, with the rows of the images."""
        base = super().phase(step, labels)
        s, table, data = self.setup.method, self.setup.table, base.data
        rest = {
            "images_per_step": self.setup.training.images_per_step,
            "steps": self.setup.steps,
            "stages": ((0.0, 1),) if self.setup.labels == "instance" else s.curriculum,
            "seed": self.setup.training.seed,
        }
        sampler = data.sampler
        if s.spread:
            sampler = SpreadSampler(table.identity, tracklet=table.sequence, camera=table.camera, **rest)
        if s.together != "no":
            place = self.footage.video if s.together == "video" else table.camera
            kind = SpreadTogetherSampler if s.spread else TogetherSampler
            more = {"tracklet": table.sequence, "camera": table.camera} if s.spread else {}
            sampler = kind(table.identity, video=place, **more, **rest)
        made = RowDataset(data.images, data.table, sampler, data.crop, seed=data.seed, defer_colors=data.defer_colors)
        return replace(base, data=made)

    def training_step(self, batch: RowBatch, step: int) -> StepResult:
        """The weighted contrast, and what is added to it."""
        s = self.setup.method
        extra = 0.0
        features, made = self.distributed(batch.views)
        width = s.head_width if s.head != "none" else features.shape[-1]
        views = len(made)
        vectors = made[..., :width].flatten(0, 2)
        if s.distill:
            with torch.no_grad():
                _, slow = self.teacher(batch.views[:2])
                logits = self.teacher.head.second.compare(slow[..., width:])
            extra = s.distill * self.distillation.at_bottleneck(
                made[..., width:], self.student.head.second.prototypes, logits
            )
            self._logits = logits
        if s.masked:
            extra = extra + s.masked * self._masked(batch)
        rows = batch.rows.expand(views, -1, -1).flatten()
        person, tracklet = self.person[rows], self.tracklet[rows]
        keys, key_person, key_tracklet = vectors, person, tracklet
        scores = (vectors @ keys.T).float() / s.temperature
        same = person[:, None] == key_person
        itself = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        certain = self.certain[person][:, key_person]
        weight = torch.where(same | certain, 1.0, s.uncertain)
        weight = weight.masked_fill(self.similar[person][:, key_person] & ~same, 0.0).masked_fill(itself, 0.0)
        partition = torch.logsumexp(scores + weight.log(), 1)
        pull = torch.where(tracklet[:, None] == key_tracklet, 1.0, s.linked)
        if s.by_similarity:
            between = (self.vectors[tracklet] @ self.vectors[key_tracklet].T).clamp(0, 1)
            pull = torch.where(tracklet[:, None] == key_tracklet, 1.0, between)
        if s.by_probability:
            pull = torch.where(tracklet[:, None] == key_tracklet, 1.0, self.sure[tracklet][:, key_tracklet])
        pull = pull * (same & ~itself)
        attraction = (pull * scores).sum(1) / pull.sum(1).clamp_min(1e-6)
        if self.centroids:
            extra = extra + s.memory_weight * self.centroids.loss(made[..., :width], batch.identity)
        loss = (partition - attraction).mean() + extra
        return StepResult(loss, dict)

    def after_step(self, step: int) -> None:
        """Moves the centre too."""
        if self.setup.method.distill:
            self.distillation.update_center(self._logits)
        if self.setup.method.masked:
            self.patches.update_center(self._patch_logits)
        super().after_step(step)

    def _prepare_masks(self) -> None:
        """A head for patches, a slow copy of it, and the vector that stands for a masked patch."""
        width = self.student.backbone.num_features
        self.student.patch_head = DistillationHead(width, prototypes=1024, prototype_length=0.577).to(self.setup.device)
        self.student.mask = nn.Parameter(torch.zeros(width, device=self.setup.device))
        self.teacher.patch_head = copy.deepcopy(self.student.patch_head).requires_grad_(False)
        self.teacher.mask = nn.Parameter(torch.zeros(width, device=self.setup.device), requires_grad=False)
        self.patches = IdentityDistillationLoss(1024, teacher_temperature=0.04).to(self.setup.device)
        self._hidden: Tensor | None = None

        def hide(_: nn.Module, __: Any, out: Tensor) -> Tensor:
            if self._hidden is None:
                return out
            flat = out.reshape(len(out), -1, out.shape[-1])
            return torch.where(self._hidden[..., None], self.student.mask.to(out.dtype), flat).view(out.shape)

        self.student.backbone.patch_embed.register_forward_hook(hide)

    def _masked(self, batch: RowBatch) -> Tensor:
        """IBOT's loss of patches: the masked patches of the first view against the teacher's of the same view."""
        images = batch.views[0].flatten(0, 1)
        prefix = self.student.backbone.num_prefix_tokens
        with torch.no_grad():
            tokens = self.teacher.backbone.forward_features(self.teacher._normalise(images))[:, prefix:]
            logits = self.teacher.patch_head.compare(self.teacher.patch_head.embed(tokens.flatten(0, 1)))
            target = self.patches.distribution(logits)
        hidden = torch.rand(tokens.shape[:2], device=tokens.device) < 0.3
        self._hidden = hidden
        shown = self.student.backbone.forward_features(self.student._normalise(images))[:, prefix:]
        self._hidden = None
        vectors = self.student.patch_head.embed(shown[hidden])
        scores = F.log_softmax(self.student.patch_head.compare(vectors).float() / 0.1, -1)
        self._patch_logits = logits[None, :, None]
        return -(target.float()[hidden.flatten()] * scores).sum(-1).mean()


def seen_together(
    footage: Footage, person: Int[np.ndarray, " n"], people: int, tracklet: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, "p p"]:
    """Pairs of identities of which some tracklets overlap in time in one video."""
    _, first = np.unique(tracklet, return_index=True)
    video, start, end, who = footage.video[first], footage.start[first], footage.end[first], person[first]
    out = np.zeros((people, people), bool)
    for number in np.unique(video):
        at = np.flatnonzero(video == number)
        meet = (start[at][:, None] <= end[at]) & (start[at] <= end[at][:, None])
        a, b = np.nonzero(meet)
        out[who[at[a]], who[at[b]]] = True
    np.fill_diagonal(out, False)
    return out


def most_similar(footage: Footage, person: Int[np.ndarray, " n"], people: int, share: float) -> Bool[np.ndarray, "p p"]:
    """The share of pairs of identities whose mean vectors are most similar."""
    total = np.zeros((people, footage.vectors.shape[1]), np.float64)
    np.add.at(total, person, footage.vectors - footage.vectors.mean(0))
    total /= np.linalg.norm(total, axis=1, keepdims=True)
    cosines = total @ total.T
    np.fill_diagonal(cosines, -2)
    return cosines > np.quantile(cosines[np.triu_indices(people, 1)], 1 - share)


def tracklet_means(vectors: Float[np.ndarray, "n d"], tracklet: Int[np.ndarray, " n"]) -> Float[np.ndarray, "t d"]:
    """Unit means of tracklets, each less the mean of all crops, by number of the tracklet."""
    total = np.zeros((tracklet.max() + 1, vectors.shape[1]), np.float32)
    np.add.at(total, tracklet, vectors - vectors.mean(0))
    return total / np.linalg.norm(total, axis=1, keepdims=True).clip(1e-9)
