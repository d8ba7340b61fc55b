"""The two terms of intra-identity regularisation, as reconstructed from the abstract of UP-ReID (Yang et al. 2022)."""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from reappear.core import SettingsError

Divergence = Literal["kl", "sym_kl", "js"]
Positives = Literal["hardest", "mean"]


def relation_divergence(
    compared: Float[Tensor, "n k"], reference: Float[Tensor, "n k"], kind: Divergence = "kl"
) -> Float[Tensor, ""]:
    """Mean divergence of distributions over the same k anchors, in nats; 0 where they are the same.

    With P of the reference and Q of what is compared: `kl` is KL(P || Q), `sym_kl` the mean of KL(P || Q) and
    KL(Q || P), `js` the Jensen-Shannon divergence, at most ln 2.

    Args:
        compared: Logits.
        reference: Logits; no gradient flows into them.
        kind: See above.
    """
    with torch.autocast(compared.device.type, enabled=False):
        q = F.log_softmax(_single(compared), dim=-1)
        p = F.log_softmax(_single(reference.detach()), dim=-1)
        if kind == "kl":
            return _kl(p, q)
        if kind == "sym_kl":
            return (_kl(p, q) + _kl(q, p)) / 2
        middle = torch.logaddexp(p, q) - math.log(2)
        return (_kl(p, middle) + _kl(q, middle)) / 2


def _kl(p: Float[Tensor, "n k"], q: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    return (p.exp() * (p - q)).sum(-1).mean()


class PatchVectors(NamedTuple):
    """Vectors of the patches of images.

    Attributes:
        vectors: Of unit length.
        visible: Which of them count.
    """

    vectors: Float[Tensor, "*images patches d"]
    visible: Bool[Tensor, "*any patches"]


class PatchContrastLoss(nn.Module):
    """Contrast among the patches of one image, with hard mining.

    For a patch with vector `u`, positives are vectors of the same patch in other views, and negatives `N` those of the
    image's other patches: `L = log(1 + sum_{n in N} exp((u.n - s) / tau))`, where `s` is the least `u.p` of the
    positives. If all patches are alike it is `log(1 + |N|)`; with `s = 1` and all negatives at -1 it is
    `log(1 + |N| exp(-2 / tau))`.

    Args:
        adjacent: Pairs of patches that are no negatives of each other.
        temperature: tau, above 0.
        positives: `s` is the least similarity of the positives, or their mean.
        hardest: Number of negatives that count, the most similar ones; 0 = all.
        max_similarity: Negatives more similar than this are left out, as they may look the same.
    """

    same: Bool[Tensor, "patches patches"]

    def __init__(
        self,
        adjacent: Bool[Tensor, "patches patches"],
        *,
        temperature: float = 0.2,
        positives: Positives = "hardest",
        hardest: int = 0,
        max_similarity: float = 1.0,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise SettingsError(f"temperature: must be above 0, got {temperature}")
        if hardest < 0:
            raise SettingsError(f"hardest: must be 0 or more, got {hardest}")
        self.temperature, self.positives = temperature, positives
        self.hardest, self.max_similarity = hardest, max_similarity
        self.register_buffer("same", adjacent | torch.eye(len(adjacent), dtype=torch.bool), persistent=False)

    def forward(
        self,
        anchors: PatchVectors,
        positive: PatchVectors,
        negative: PatchVectors,
        strangers: PatchVectors | None = None,
    ) -> Float[Tensor, ""]:
        """Nats per image: the mean over its visible patches that have a positive; 0 if there are none.

        Args:
            anchors: Of n images (n patches d).
            positive: Of e views of the same identity (n e patches d): the same patches are positives.
            negative: Of c views of the same image (n c patches d): other patches are negatives.
            strangers: Of m images (m patches d), whose same patches are negatives too; which of them, for which anchor:
                `visible` (n m patches).
        """
        with torch.autocast(anchors.vectors.device.type, enabled=False):
            u = _single(anchors.vectors)
            similar = torch.einsum("npd,nepd->npe", u, positive.vectors.to(u))
            counts = positive.visible.transpose(1, 2)
            if self.positives == "hardest":
                s = similar.masked_fill(~counts, torch.inf).amin(-1)
            else:
                s = similar.masked_fill(~counts, 0.0).sum(-1) / counts.sum(-1)
            valid = anchors.visible & counts.any(-1)
            s = torch.where(valid, s, 0.0)
            scores = torch.einsum("npd,ncqd->npcq", u, negative.vectors.to(u))
            scores = scores.masked_fill(~(negative.visible[:, None] & ~self.same[:, None]), -torch.inf).flatten(2)
            if strangers is not None:
                others = torch.einsum("npd,mpd->npm", u, strangers.vectors.to(u))
                scores = torch.cat([scores, others.masked_fill(~strangers.visible.transpose(1, 2), -torch.inf)], -1)
            if self.max_similarity < 1:
                scores = scores.masked_fill(scores > self.max_similarity, -torch.inf)
            if self.hardest:
                scores = scores.topk(min(self.hardest, scores.shape[-1]), -1).values
            logits = torch.cat([s[..., None], scores], -1) / self.temperature
            losses = torch.where(valid, logits.logsumexp(-1) - logits[..., 0], 0.0)
            return (losses.sum(-1) / valid.sum(-1).clamp_min(1)).mean()


def _single(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
