"""Networks for small crops and a CPU, registered with timm like any other."""

from jaxtyping import Float
from timm.models import register_model
from torch import Tensor, nn

_PLAN = ((1, 2), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1))  # per convolution: width in units, stride


class SmallCNN(nn.Module):
    """Six 3×3 convolutions with batch norm, total stride 8: for crops of 64×32, where stride 32 leaves nothing.

    Args:
        width: Channels of the first convolution; the last has four times as many, and so has the feature.
        num_classes: 0 for features.
        in_chans: Channels of the images.
    """

    def __init__(self, *, width: int = 32, num_classes: int = 0, in_chans: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = in_chans
        for times, stride in _PLAN:
            after = times * width
            layers += [
                nn.Conv2d(before, after, 3, stride, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
            before = after
        self.features = nn.Sequential(*layers)
        self.num_features = before
        self.num_classes = num_classes
        self.classifier = nn.Linear(before, num_classes) if num_classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Mean over the map of the last convolution."""
        features: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return features


def cnn6(
    pretrained: bool = False,
    pretrained_cfg: object = None,
    pretrained_cfg_overlay: object = None,
    cache_dir: object = None,
    *,
    width: int = 32,
    num_classes: int = 0,
    in_chans: int = 3,
) -> SmallCNN:
    """See `SmallCNN`. There are no weights to download; the first four arguments are what timm passes to all models."""
    return SmallCNN(width=width, num_classes=num_classes, in_chans=in_chans)


OWN = [register_model(cnn6).__name__]
