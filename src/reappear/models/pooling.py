"""Generalised-mean pooling."""

from typing import Any

import torch
from jaxtyping import Float
from timm.models import register_model
from torch import Tensor, nn

from .maps import feature_map, map_shape


class GeM(nn.Module):
    """Generalised-mean pooling of maps (n d rows columns) with a learnt exponent (Radenović et al. 2018)."""

    def __init__(self, exponent: float = 3.0) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor([exponent]))

    def forward(self, maps: Float[Tensor, "n d rows columns"]) -> Float[Tensor, "n d"]:
        """`(mean x^p)^(1/p)` of each channel, in single precision at least."""
        with torch.autocast(maps.device.type, enabled=False):
            maps = maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps
            return maps.clamp_min(1e-6).pow(self.exponent).mean((2, 3)).pow(1 / self.exponent)


class GeMBackbone(nn.Module):
    """A backbone whose features are its map, pooled by `GeM` instead of its own pooling.

    Args:
        network: Has a map of features; see `feature_map`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.pool = network, GeM()
        self.num_features = map_shape(network, 256, 128)[0]

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Pooled features."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d rows columns"]:
        """The map of the network."""
        return feature_map(self.network, images)

    def forward_head(self, maps: Float[Tensor, "n d rows columns"]) -> Float[Tensor, "n d"]:
        """Pools maps."""
        pooled: Tensor = self.pool(maps)
        return pooled

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """One layer: learning rates by layer are for a backbone's own pooling."""
        return {"stem": r"^network", "blocks": [(r"^pool", (99999,))]}


def gem(
    pretrained: bool = False,
    pretrained_cfg: object = None,
    pretrained_cfg_overlay: object = None,
    cache_dir: object = None,
    *,
    network: str = "resnet50",
    **kw: Any,
) -> GeMBackbone:
    """The backbone of this name with GeM. There are no weights; the first four arguments are timm's to all models."""
    from .registry import create_model

    return GeMBackbone(create_model(network, **kw))


OWN = [register_model(gem).__name__]
