"""MGN: a ResNet with branches for the whole image, its halves and its thirds (Wang et al. 2018), as FastReID has it."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from timm.models import register_model
from timm.models._manipulate import checkpoint_seq
from timm.models.resnet import ResNet
from torch import Tensor, nn

from reappear.core import SettingsError, counted

from .necks import BNNeck
from .pooling import GeM

BRANCHES = 3  # branch i sees the whole image, and past the first its i stripes
PARTS = 8  # three wholes, two halves, three thirds: in this order in the vector


class PartHead(nn.Sequential):
    """Features of one part: GeM, a linear layer, and batch norm whose bias stays 0."""

    def __init__(self, channels: int, width: int) -> None:
        reduction = nn.Linear(channels, width, bias=False)
        nn.init.kaiming_normal_(reduction.weight)
        super().__init__(GeM(), reduction, BNNeck(width))


class MGN(nn.Module):
    """Three branches that share the first stages of a ResNet, and eight parts with a head each.

    Each branch has its own copy of what follows the first block of the third stage, and a batch norm. The vector is
    the parts' features after their batch norms, side by side: wholes, halves, thirds.

    Args:
        resnet: Copied as it is now.
        width: Of the features of a part.

    Raises:
        SettingsError: It is no ResNet.
    """

    def __init__(self, resnet: nn.Module, *, width: int = 256) -> None:
        super().__init__()
        network: Any = resnet if isinstance(resnet, ResNet) else None
        if network is None:
            raise SettingsError(f"{type(resnet).__name__}: MGN needs a ResNet, such as resnet50_ibn")
        first, *rest = network.layer3
        stem = (network.conv1, network.bn1, network.act1, network.maxpool)
        self.shared = nn.Sequential(*stem, *network.layer1, *network.layer2, first)
        self.branches = nn.ModuleList(
            nn.Sequential(*copy.deepcopy([*rest, *network.layer4]), nn.BatchNorm2d(network.num_features))
            for _ in range(BRANCHES)
        )
        self.heads = nn.ModuleList(PartHead(network.num_features, width) for _ in range(PARTS))
        self.num_features = PARTS * width
        self._checkpoint = bool(network.grad_checkpointing)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Features of the parts side by side."""
        shared = self._run(self.shared.children(), images)
        maps = [self._run(branch.children(), shared) for branch in self.branches]
        if maps[0].shape[2] < BRANCHES:
            raise ValueError(f"the map has {counted(maps[0].shape[2], 'row')}, and thirds need three")
        stripes = [part for number, one in enumerate(maps[1:], 2) for part in torch.tensor_split(one, number, dim=2)]
        return torch.cat([head(part) for head, part in zip(self.heads, [*maps, *stripes], strict=True)], 1)

    def _run(self, layers: Iterable[nn.Module], x: Tensor) -> Tensor:
        if self._checkpoint and self.training and torch.is_grad_enabled():
            return torch.as_tensor(checkpoint_seq(list(layers), x))
        for layer in layers:
            x = layer(x)
        return x

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Names of parameters by layer, for learning rates by layer."""
        return {"stem": r"^shared\.[01]\.", "blocks": [(r"^shared\.(\d+)", None), (r"^branches\.\d+\.(\d+)", (100,)),
                                                       (r"^heads", (99999,))]}  # fmt: skip


def mgn(
    pretrained: bool = False,
    pretrained_cfg: object = None,
    pretrained_cfg_overlay: object = None,
    cache_dir: object = None,
    *,
    resnet: str = "resnet50_ibn",
    part_width: int = 256,
    **kw: Any,
) -> MGN:
    """MGN on the ResNet of this name. There are no weights; the first four arguments are timm's to all models."""
    from .registry import create_model

    return MGN(create_model(resnet, **kw), width=part_width)


OWN = [register_model(mgn).__name__]
