"""IBN-Net's mixture of instance and batch norm (Pan et al. 2018), and ResNets with it."""

from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn


class IBN(nn.Module):
    """Instance norm on the first half of the channels, batch norm on the rest.

    Instance norm removes differences between cameras, batch norm keeps those between people.

    Args:
        channels: Of both halves together.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        instances = channels // 2
        self.IN = nn.InstanceNorm2d(instances, affine=True)
        self.BN = nn.BatchNorm2d(channels - instances)

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Both halves, normalised."""
        instances = self.IN.num_features
        return torch.cat([self.IN(maps[:, :instances]), self.BN(maps[:, instances:])], dim=1)


def resnet(name: str, **kw: Any) -> nn.Module:
    """A ResNet whose last stage keeps its resolution (stride 1, no dilation), as is usual in re-identification.

    Args:
        name: A ResNet of timm.
        kw: Its arguments.
    """
    model: Any = timm.create_model(name, **{"num_classes": 0, "zero_init_last": False, **kw})
    first = model.layer4[0]
    strided = first.conv1 if first.conv1.stride == (2, 2) else first.conv2
    strided.stride = first.downsample[0].stride = (1, 1)
    return model  # type: ignore[no-any-return]


def resnet_ibn(name: str, **kw: Any) -> nn.Module:
    """IBN-a: such a ResNet, with `IBN` after the first convolution of each block of its first three stages."""
    model: Any = resnet(name, **kw)
    for block in (*model.layer1, *model.layer2, *model.layer3):
        block.bn1 = IBN(block.bn1.num_features)
    return model  # type: ignore[no-any-return]
