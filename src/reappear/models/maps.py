"""Feature maps of backbones before pooling."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from reappear.core import InputError


def feature_map(model: nn.Module, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d rows columns"]:
    """Features where they are in the image, in one layout for all backbones; class tokens are left out.

    What pooling makes of it depends on the network: the mean (ResNet, RepViT, FastViT, Swin), a norm of the mean
    (ConvNeXt, EdgeNeXt), a layer after the mean (GhostNet, whose map is therefore narrower than its feature), or the
    class token beside it (ViT, VOLO).

    Raises:
        InputError: The network has no such map.
    """
    network: Any = model
    found = network.forward_features(images)
    if isinstance(found, Tensor) and found.ndim == 4:
        last = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")
        return found.permute(0, 3, 1, 2) if last else found
    if isinstance(found, Tensor) and found.ndim == 3:
        tokens = found[:, getattr(network, "num_prefix_tokens", 0) :]
        height, width = images.shape[-2:]
        stride = round((height * width / tokens.shape[1]) ** 0.5)
        if tokens.shape[1] == (height // stride) * (width // stride):
            return tokens.transpose(1, 2).reshape(len(tokens), -1, height // stride, width // stride)
    raise InputError(f"{type(network).__name__} has no map of features; take a network that has")
