"""Vision transformers with a convolutional stem that holds IBN (the ICS stem of TransReID-SSL, Luo et al. 2021)."""

from typing import Any

import timm
from jaxtyping import Float
from torch import Tensor, nn

from .ibn import IBN

_WIDTH = 64


class ConvStem(nn.Module):
    """Images to tokens by three convolutions of total stride 2 and a projection of stride 8.

    It stands where timm's VisionTransformer has a PatchEmbed, with those of its attributes that are read there.

    Args:
        img_size: Height and width in pixels that the position embedding is made for.
        patch_size: Pixels that a token stands for, in each direction.
        in_chans: Channels of the images.
        embed_dim: Width of the tokens.
        bias: Whether the projection has one.
        kw: Further arguments of a PatchEmbed, which are ignored.
    """

    def __init__(
        self, *, img_size: tuple[int, int], patch_size: int, in_chans: int, embed_dim: int, bias: bool, **kw: Any
    ) -> None:
        super().__init__()
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (img_size[0] // patch_size, img_size[1] // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.conv = nn.Sequential(
            nn.Conv2d(in_chans, _WIDTH, 7, 2, 3, bias=False),
            IBN(_WIDTH),
            nn.ReLU(inplace=True),
            nn.Conv2d(_WIDTH, _WIDTH, 3, 1, 1, bias=False),
            IBN(_WIDTH),
            nn.ReLU(inplace=True),
            nn.Conv2d(_WIDTH, _WIDTH, 3, 1, 1, bias=False),
            nn.BatchNorm2d(_WIDTH),
            nn.ReLU(inplace=True),
        )
        self.proj = nn.Conv2d(_WIDTH, embed_dim, patch_size // 2, patch_size // 2, bias=bias)

    def feat_ratio(self) -> int:
        """Pixels that a token stands for, in each direction."""
        return self.patch_size[0]

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n rows columns d"]:
        """Tokens where their patches are."""
        tokens: Tensor = self.proj(self.conv(images)).permute(0, 2, 3, 1)
        return tokens


def vit(name: str, **kw: Any) -> nn.Module:
    """A ViT behind `ConvStem`; the feature is the class token. Made for 256×128, takes any multiple of 16.

    Args:
        name: A ViT of timm.
        kw: Its arguments.
    """
    own = {"num_classes": 0, "img_size": (256, 128), "dynamic_img_size": True, "embed_layer": ConvStem}
    model: Any = timm.create_model(name, **{**own, **kw})
    nn.init.trunc_normal_(model.cls_token, std=0.02)  # timm draws it with 1e-6
    return model  # type: ignore[no-any-return]
