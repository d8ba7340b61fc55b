"""VOLO (Yuan et al. 2021) for images of any size."""

from typing import Any

from jaxtyping import Float
from timm.layers.pos_embed import resample_abs_pos_embed_nhwc
from timm.models import volo as timm_volo
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "volo_d1": {"layers": (4, 4, 8, 2), "embed_dims": (192, 384, 384, 384), "num_heads": (6, 12, 12, 12)},
    "volo_d2": {"layers": (6, 4, 10, 4), "embed_dims": (256, 512, 512, 512), "num_heads": (8, 16, 16, 16)},
    "volo_d3": {"layers": (8, 8, 16, 4), "embed_dims": (256, 512, 512, 512), "num_heads": (8, 16, 16, 16)},
}


class VOLO(timm_volo.VOLO):
    """timm's VOLO, whose position embedding fits one size of images only, with one that is interpolated to any."""

    num_prefix_tokens = 1

    def forward_tokens(self, x: Float[Tensor, "n rows columns d"]) -> Float[Tensor, "n tokens _"]:
        """Outlookers, then the position embedding, then transformers."""
        for index, block in enumerate(self.network):
            if index == 2:
                x = self.pos_drop(x + resample_abs_pos_embed_nhwc(self.pos_embed, list(x.shape[1:3])))
            x = checkpoint(block, x, use_reentrant=False) if self.grad_checkpointing else block(x)
        return x.flatten(1, 2)


def volo(name: str, **kw: Any) -> nn.Module:
    """A VOLO; the feature is the class token. Made for 256×128, takes any multiple of 16.

    Args:
        name: `volo_d1`, `volo_d2` or `volo_d3`.
        kw: Arguments of timm's VOLO.
    """
    model: nn.Module = VOLO(**{"num_classes": 0, "img_size": (256, 128), **_SHAPES[name], **kw})
    return model
