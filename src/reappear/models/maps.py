"""Feature maps of backbones before pooling."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import roi_align

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
    return _as_map(network, network.forward_features(images), images)


def feature_and_map(
    model: nn.Module, images: Float[Tensor, "n 3 h w"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n channels rows columns"]]:
    """The feature, as `model(images)` gives it, and the map that it is pooled from, in one pass.

    Raises:
        InputError: The network has no such map.
    """
    network: Any = model
    if not (hasattr(network, "forward_features") and hasattr(network, "forward_head")):
        raise InputError(f"{type(network).__name__} has no map of features; take a network that has")
    found = network.forward_features(images)
    return network.forward_head(found), _as_map(network, found, images)


def map_shape(model: nn.Module, height: int, width: int) -> tuple[int, int, int]:
    """Channels, rows and columns of the map of an image of this size in pixels.

    Raises:
        InputError: The network has no such map.
    """
    was_training = model.training
    model.eval()
    with torch.no_grad():
        _, maps = feature_and_map(model, next(model.parameters()).new_zeros(1, 3, height, width))
    model.train(was_training)
    _, channels, rows, columns = maps.shape
    return channels, rows, columns


def pool_patches(
    maps: Float[Tensor, "n d rows columns"], boxes: Float[Tensor, "n patches 4"]
) -> Float[Tensor, "n patches d"]:
    """Mean feature of each patch: ROI align (He et al. 2017) with one bin, in single precision at least.

    Args:
        maps: Of images.
        boxes: Left, top, right and bottom as shares of the image's width and height.
    """
    n, patches, _ = boxes.shape
    with torch.autocast(maps.device.type, enabled=False):
        maps = maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps
        rows, columns = maps.shape[-2:]
        corners = boxes.to(maps) * boxes.new_tensor([columns, rows, columns, rows]).to(maps)
        image = torch.arange(n, device=maps.device).repeat_interleave(patches).to(maps)
        pooled: Tensor = roi_align(maps, torch.cat([image[:, None], corners.flatten(0, 1)], 1), 1, aligned=True)
    return pooled.view(n, patches, -1)


def _as_map(network: Any, found: object, images: Tensor) -> Tensor:
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
