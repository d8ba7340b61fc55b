"""What methods train: a backbone with a head, on pixels as they were decoded."""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from reappear.models.heads import DistillationHead, ProjectionHead

Head = DistillationHead | ProjectionHead


class Network(nn.Module):
    """A backbone with its head, and the colours that it expects.

    Args:
        backbone: Images (n 3 h w) to features (n d).
        head: Its `embed` turns features (n d) into the vectors (n b) that a loss compares.
        mean: Per channel, of pixels in [0, 1].
        std: Per channel, of pixels in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, head: Head, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.backbone = backbone.to(memory_format=torch.channels_last)
        _thin_before_convolving(backbone)
        self.head: Head = head
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1) * 255, persistent=False)

    def forward(
        self, views: list[UInt8[Tensor, "ids images 3 _ _"]]
    ) -> tuple[Float[Tensor, "views ids images d"], Float[Tensor, "views ids images b"]]:
        """Features and vectors of all views. The backbone runs once per resolution, the head once."""
        sizes: dict[torch.Size, list[int]] = {}
        for index, view in enumerate(views):
            sizes.setdefault(view.shape, []).append(index)
        features = [
            self.backbone(self._normalise(torch.cat([views[i].flatten(0, 1) for i in indices])))
            for indices in sizes.values()
        ]
        joined = torch.cat(features)
        shape = (len(views), *views[0].shape[:2], -1)
        features_of, vectors_of = joined.view(shape), self.head.embed(joined).view(shape)
        order = [i for indices in sizes.values() for i in indices]
        if order != sorted(order):  # views of one size did not follow each other
            back = sorted(range(len(order)), key=order.__getitem__)
            return features_of[back], vectors_of[back]
        return features_of, vectors_of

    def _normalise(self, images: Tensor) -> Tensor:
        # Pixels lie side by side in memory as they were decoded, which is also what convolutions are fastest on.
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def write_out_attention(backbone: nn.Module) -> None:
    """Attention of timm's networks as two products and a softmax, in place of torch's fused kernel.

    On a CPU in bfloat16, the kernel's way back through a few hundred tokens takes longer than theirs.
    """
    for layer in backbone.modules():
        if getattr(layer, "fused_attn", False):
            setattr(layer, "fused_attn", False)  # noqa: B010 - known to timm, not to the types of torch


def _thin_before_convolving(backbone: nn.Module) -> None:
    """1×1 convolutions with a stride take every other pixel first: the same numbers.

    On few channels that lie side by side, oneDNN writes beyond its memory on their way back (its issue 6035); such
    stand first in FastViT, MobileOne and RepVGG.
    """
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.in_channels < 16:
            (down, across), layer.stride = layer.stride, (1, 1)
            if (down, across) != (1, 1):
                layer.register_forward_pre_hook(partial(_thinned, down, across))


def _thinned(down: int, across: int, layer: nn.Module, given: tuple[Tensor]) -> Tensor:
    return given[0][:, :, ::down, ::across]


def spread(features: Float[Tensor, "ids images d"]) -> float:
    """How far unit features lie apart: 1 on the whole sphere, 0 in one point. A sign of collapse."""
    unit = F.normalize(features.float().flatten(0, 1), dim=-1)
    return unit.var(0, unbiased=False).sum().sqrt().item()
