"""ReIDZoo: the 32 backbones that CION pre-trains (Sec. 4, Tab. 3), as the public code defines them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
from timm.layers.squeeze_excite import SqueezeExcite
from torch import nn

from .ibn import resnet, resnet_ibn
from .vit import vit
from .volo import volo

Scores = tuple[float, float]  # mAP and rank 1, in percent


@dataclass(frozen=True)
class Family:
    """Backbones that are built alike.

    Attributes:
        build: Takes the name of a base and arguments of the architecture.
        differs: What is not as in timm.
    """

    build: Callable[..., nn.Module]
    differs: str


@dataclass(frozen=True)
class ZooModel:
    """One backbone.

    Attributes:
        name: As the public code's `--arch`.
        checkpoint: Name of the public file of weights, without its `.pth`.
        family: How it is built.
        base: From what: a name of timm's, where timm has it.
        features: Width of the feature vector.
        parameters: Without a classifier.
        market1501: As the paper prints them, fine-tuned by TransReID's baseline at 256×128.
        msmt17: The same.
    """

    name: str
    checkpoint: str
    family: Family
    base: str
    features: int
    parameters: int
    market1501: Scores
    msmt17: Scores

    def build(self, **kw: Any) -> nn.Module:
        """The network with random weights and without a classifier; `kw` are arguments of the architecture."""
        return self.family.build(self.base, **kw)


def _timm(name: str, **kw: Any) -> nn.Module:
    model: nn.Module = timm.create_model(name, **{"num_classes": 0, **kw})
    return model


def _ghostnet(name: str, **kw: Any) -> nn.Module:
    return _timm(name, **{"drop_rate": 0.0, **kw})


def _repvit(name: str, **kw: Any) -> nn.Module:
    model = _timm(name, **kw)
    blocks: list[Any] = [block for block in model.modules() if isinstance(getattr(block, "se", None), SqueezeExcite)]
    for block in blocks:
        channels = block.se.fc1.in_channels
        block.se = SqueezeExcite(channels, rd_channels=_quarter(channels), gate_layer="hard_sigmoid")
    return model


def _quarter(channels: int) -> int:
    return (channels // 4 + 2) // 4 * 4  # to the nearest multiple of 4


def _swin(name: str, **kw: Any) -> nn.Module:
    own = {"window_size": 8, "img_size": (256, 128), "always_partition": True, "strict_img_size": False}
    return _timm(name, **{**own, **kw})


_RESNET = Family(resnet, "stride 1 in the last stage, without dilation; no norm starts at zero")
_IBN = Family(resnet_ibn, f"IBN-a in the first three stages; {_RESNET.differs}")
_PLAIN = Family(_timm, "nothing")
_GHOSTNET = Family(_ghostnet, "no dropout before the feature (timm: 0.2)")
_REPVIT = Family(_repvit, "squeeze-excite of MobileNetV3: widths in multiples of 4, hard-sigmoid gate")
_VOLO = Family(volo, "any image size in multiples of 16, by interpolated position embedding; no token labelling")
_VIT = Family(
    vit,
    "convolutional stem with IBN; class token drawn with a standard deviation of 0.02; any image size in multiples of "
    "16, by interpolated position embedding",
)
_SWIN = Family(_swin, "windows of 8×8 in every stage; any image size, by padding")

# fmt: off
_ROWS: list[tuple[str, str, Family, str, int, int, Scores, Scores]] = [
    ("resnet18", "ResNet18", _RESNET, "resnet18", 512, 11_176_512, (89.3, 95.6), (55.6, 79.6)),
    ("resnet50", "ResNet50", _RESNET, "resnet50", 2048, 23_508_032, (92.8, 96.8), (67.7, 86.4)),
    ("resnet101", "ResNet101", _RESNET, "resnet101", 2048, 42_500_160, (94.0, 97.3), (73.2, 88.8)),
    ("resnet152", "ResNet152", _RESNET, "resnet152", 2048, 58_143_808, (94.2, 97.1), (74.5, 89.3)),
    ("resnet18_ibn", "ResNet18_IBN", _IBN, "resnet18", 512, 11_176_512, (90.0, 96.0), (56.1, 79.5)),
    ("resnet50_ibn", "ResNet50_IBN", _IBN, "resnet50", 2048, 23_508_032, (93.7, 96.9), (72.3, 88.5)),
    ("resnet101_ibn", "ResNet101_IBN", _IBN, "resnet101", 2048, 42_500_160, (94.3, 97.3), (75.8, 89.8)),
    ("resnet152_ibn", "ResNet152_IBN", _IBN, "resnet152", 2048, 58_143_808, (94.6, 97.6), (76.7, 90.3)),
    ("ghostnet_0_5", "GhostNet_0_5", _GHOSTNET, "ghostnet_050", 1280, 1_306_292, (81.0, 92.0), (39.6, 65.4)),
    ("ghostnet_1_0", "GhostNet_1_0", _GHOSTNET, "ghostnet_100", 1280, 3_901_508, (87.7, 95.1), (53.7, 76.9)),
    ("ghostnet_1_3", "GhostNet_1_3", _GHOSTNET, "ghostnet_130", 1280, 6_077_820, (88.8, 95.2), (55.4, 78.1)),
    ("edgenext_x_small", "EdgeNext_XSmall", _PLAIN, "edgenext_x_small", 192, 2_143_804, (88.7, 94.7), (57.9, 79.8)),
    ("edgenext_small", "EdgeNext_Small", _PLAIN, "edgenext_small", 304, 5_281_832, (91.3, 96.1), (63.2, 83.2)),
    ("edgenext_base", "EdgeNext_Base", _PLAIN, "edgenext_base", 584, 17_926_292, (92.4, 96.8), (68.6, 86.6)),
    ("repvit_m0_9", "RepViT_m0_9", _REPVIT, "repvit_m0_9", 384, 4_717_404, (92.8, 96.9), (68.4, 86.5)),
    ("repvit_m1_0", "RepViT_m1_0", _REPVIT, "repvit_m1_0", 448, 6_402_104, (93.1, 96.6), (69.5, 87.2)),
    ("repvit_m1_5", "RepViT_m1_5", _REPVIT, "repvit_m1_5", 512, 13_616_384, (92.8, 96.6), (69.5, 87.5)),
    ("fastvit_s12", "FastViT_S12", _PLAIN, "fastvit_s12", 1024, 8_448_576, (91.2, 96.4), (59.0, 81.4)),
    ("fastvit_sa12", "FastViT_SA12", _PLAIN, "fastvit_sa12", 1024, 10_555_968, (90.9, 95.8), (59.0, 81.6)),
    ("fastvit_sa24", "FastViT_SA24", _PLAIN, "fastvit_sa24", 1024, 20_529_216, (92.9, 96.9), (69.6, 87.6)),
    ("convnext_tiny", "ConvNext_Tiny", _PLAIN, "convnext_tiny", 768, 27_820_128, (92.0, 96.9), (68.9, 87.3)),
    ("convnext_small", "ConvNext_Small", _PLAIN, "convnext_small", 768, 49_454_688, (92.9, 96.8), (69.9, 88.0)),
    ("convnext_base", "ConvNext_Base", _PLAIN, "convnext_base", 1024, 87_566_464, (93.4, 96.9), (72.7, 89.0)),
    ("volo_d1", "VOLO_D1", _VOLO, "volo_d1", 384, 25_835_928, (93.0, 96.9), (73.9, 88.7)),
    ("volo_d2", "VOLO_D2", _VOLO, "volo_d2", 512, 57_617_520, (92.1, 96.4), (70.9, 87.5)),
    ("volo_d3", "VOLO_D3", _VOLO, "volo_d3", 512, 85_264_256, (90.5, 95.7), (62.8, 83.0)),
    ("vit_tiny", "ViT_Tiny", _VIT, "vit_tiny_patch16_224", 192, 6_233_856, (91.4, 96.3), (65.0, 84.6)),
    ("vit_small", "ViT_Small", _VIT, "vit_small_patch16_224", 384, 23_001_024, (92.8, 96.5), (70.3, 86.9)),
    ("vit_base", "ViT_Base", _VIT, "vit_base_patch16_224", 768, 88_385_856, (93.1, 96.9), (72.6, 88.5)),
    ("swin_tiny", "Swin_Tiny", _SWIN, "swin_tiny_patch4_window7_224", 768, 27_527_082, (92.5, 97.0), (71.1, 87.6)),
    ("swin_small", "Swin_Small", _SWIN, "swin_small_patch4_window7_224", 768, 48_853_050, (93.6, 96.8), (76.0, 89.6)),
    ("swin_base", "Swin_Base", _SWIN, "swin_base_patch4_window7_224", 1024, 86_764_280, (94.0, 96.9), (76.7, 90.3)),
]
# fmt: on

ZOO = {row[0]: ZooModel(*row) for row in _ROWS}
