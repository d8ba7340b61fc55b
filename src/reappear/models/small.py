"""Networks for small crops and a CPU, registered with timm like any other."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from timm.models import register_model
from torch import Tensor, nn

Plan = Sequence[tuple[int, int]]
_SIX: Plan = ((1, 2), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1))
_FOUR: Plan = ((1, 2), (2, 1), (2, 2), (4, 1))


class SmallCNN(nn.Module):
    """A few 3×3 convolutions with batch norm and little stride, for crops of 64×32, where stride 32 leaves nothing.

    Args:
        plan: Per convolution its channels in units of `width`, and its stride.
        width: The unit.
        stripes: The last map is cut into so many horizontal stripes, and the mean of each is a part of the feature
            (as in PCB, Sun et al. 2018): what is worn above stays apart from what is worn below. 1 = one mean.
        num_classes: 0 for features.
        in_chans: Channels of the images.
    """

    def __init__(
        self, plan: Plan, *, width: int = 16, stripes: int = 1, num_classes: int = 0, in_chans: int = 3
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = in_chans
        for times, stride in plan:
            after = times * width
            layers += [
                nn.Conv2d(before, after, 3, stride, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
            before = after
        self.features = nn.Sequential(*layers)
        self.stripes = stripes
        self.num_features = before * stripes
        self.num_classes = num_classes
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d rows columns"]:
        """The last map."""
        maps: Tensor = self.features(images)
        return maps

    def forward_head(self, maps: Float[Tensor, "n d rows columns"]) -> Float[Tensor, "n features"]:
        """The stripes' means side by side, channel by channel."""
        pooled = nn.functional.adaptive_avg_pool2d(maps, (self.stripes, 1))
        features: Tensor = self.classifier(pooled.flatten(1))
        return features

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """Features of images."""
        return self.forward_head(self.forward_features(images))


def cnn6(
    pretrained: bool = False,
    pretrained_cfg: object = None,
    pretrained_cfg_overlay: object = None,
    cache_dir: object = None,
    *,
    width: int = 32,
    **kw: Any,
) -> SmallCNN:
    """Six convolutions of total stride 8. There are no weights; the first four arguments are timm's to all models."""
    return SmallCNN(_SIX, width=width, **kw)


def stripes4(
    pretrained: bool = False,
    pretrained_cfg: object = None,
    pretrained_cfg_overlay: object = None,
    cache_dir: object = None,
    *,
    width: int = 16,
    stripes: int = 8,
    **kw: Any,
) -> SmallCNN:
    """Four convolutions of total stride 4, and a feature of horizontal stripes."""
    return SmallCNN(_FOUR, width=width, stripes=stripes, **kw)


OWN = [register_model(entry).__name__ for entry in (cnn6, stripes4)]
