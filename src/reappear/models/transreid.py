"""TransReID: a vision transformer with jigsaw patches and side information (He et al. 2021, sections 3.2 and 3.3)."""

import copy
from typing import Any

import torch
from jaxtyping import Float, Int
from timm.models import register_model
from timm.models._manipulate import checkpoint_seq
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from reappear.core import SettingsError

JIGSAW_PARTS = 4
_SHIFT, _GROUPS = 5, 2


class TransReIDViT(nn.Module):
    """A vision transformer with jigsaw patches (JPM), side information of the camera (SIE), or both.

    With jigsaw patches the last block has a twin: the first sees all tokens; its twin sees the class token with each of
    four parts of the patches, shifted and shuffled so that each part covers the whole image. The vector is the class
    token of the first, then those of the parts divided by four.

    With cameras, a learnt vector of the camera is added to each token. Where a camera is not given, as when a saved
    model sees images of other cameras, it is the mean of all.

    Args:
        vit: With a class token. Its last block, and the norm after it, are copied as they are now.
        jigsaw: Whether there are jigsaw patches.
        cameras: Number of cameras; 0 = no side information.
        camera_weight: Of the vector of a camera (lambda).

    Raises:
        SettingsError: It is no vision transformer whose feature is its class token.
    """

    def __init__(self, vit: nn.Module, *, jigsaw: bool = True, cameras: int = 0, camera_weight: float = 3.0) -> None:
        super().__init__()
        network: Any = vit if isinstance(vit, VisionTransformer) else None
        if network is None or network.global_pool != "token" or network.attn_pool is not None:
            raise SettingsError(
                f"{type(vit).__name__}: jigsaw patches and side information need a vision transformer whose feature is "
                "its class token, such as vit_small"
            )
        self.vit = vit
        self.camera_weight = camera_weight
        self.num_features = network.num_features * (1 + JIGSAW_PARTS if jigsaw else 1)
        self.local_block = copy.deepcopy(network.blocks[-1]) if jigsaw else None
        self.local_norm = copy.deepcopy(network.norm) if jigsaw else None
        self.cameras = nn.Parameter(torch.empty(cameras, 1, network.embed_dim)) if cameras else None
        if self.cameras is not None:
            nn.init.trunc_normal_(self.cameras, std=0.02)

    def forward(
        self, images: Float[Tensor, "n 3 h w"], camera: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n d"]:
        """Class tokens of the whole, and of the parts divided by four.

        Args:
            images: Normalised.
            camera: Of each image; the mean of all if not given.
        """
        vit: Any = self.vit
        tokens = vit._pos_embed(vit.patch_embed(images))
        if self.cameras is not None:
            side = self.cameras.mean(0, keepdim=True) if camera is None else self.cameras[camera]
            tokens = tokens + self.camera_weight * side
        tokens = vit.norm_pre(vit.patch_drop(tokens))
        common, last = vit.blocks[:-1], vit.blocks[-1]
        tokens = checkpoint_seq(common, tokens) if vit.grad_checkpointing else common(tokens)
        whole = vit.fc_norm(vit.norm(last(tokens))[:, 0])
        if self.local_block is None or self.local_norm is None:
            return torch.as_tensor(whole)
        prefix = vit.num_prefix_tokens
        patches = shuffle_patches(tokens[:, prefix:])
        size = patches.shape[1] // JIGSAW_PARTS
        features = [whole]
        for part in torch.split(patches[:, : size * JIGSAW_PARTS], size, dim=1):
            seen = self.local_norm(self.local_block(torch.cat([tokens[:, :prefix], part], 1)))
            features.append(vit.fc_norm(seen[:, 0]) / JIGSAW_PARTS)
        return torch.cat(features, 1)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Names of parameters by layer, for learning rates by layer; as timm's of the transformer."""
        blocks = [(r"^vit\.blocks\.(\d+)", None), (r"^vit\.norm|^local_", (99999,))]
        return {"stem": r"^vit\.cls_token|vit\.reg_token|vit\.pos_embed|vit\.patch_embed|cameras", "blocks": blocks}


def shuffle_patches(patches: Float[Tensor, "n m d"]) -> Float[Tensor, "n m2 d"]:
    """Patches shifted by five, then dealt to groups in turn, so that any run of them covers the image.

    With an odd number the last but one is repeated, as in the public code.
    """
    shifted = torch.cat([patches[:, _SHIFT:], patches[:, :_SHIFT]], dim=1)
    if shifted.shape[1] % _GROUPS:
        shifted = torch.cat([shifted, shifted[:, -2:-1]], dim=1)
    n, m, d = shifted.shape
    return shifted.view(n, _GROUPS, m // _GROUPS, d).transpose(1, 2).reshape(n, m, d)


def transreid(
    pretrained: bool = False,
    pretrained_cfg: object = None,
    pretrained_cfg_overlay: object = None,
    cache_dir: object = None,
    *,
    vit: str = "vit_small",
    jigsaw: bool = True,
    cameras: int = 0,
    camera_weight: float = 3.0,
    **kw: Any,
) -> TransReIDViT:
    """TransReID on the vision transformer of this name. There are no weights; the first four arguments are timm's."""
    from .registry import create_model

    return TransReIDViT(create_model(vit, **kw), jigsaw=jigsaw, cameras=cameras, camera_weight=camera_weight)


OWN = [register_model(entry).__name__ for entry in (transreid,)]
