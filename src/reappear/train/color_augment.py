"""Colour augmentation of batches on any device; `views` does the same per image on the CPU."""

from functools import lru_cache

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from .views import ERASED, LUMA


def augment_colors(
    views: UInt8[Tensor, "n 3 h w"], color_params: Float[Tensor, "n params"]
) -> UInt8[Tensor, "n 3 h w"]:
    """Colour matrix, blur, solarising and erasing, each image its own; rounded to whole numbers after each, as OpenCV.

    The same operations run whatever the parameters, so the host never waits for the device.

    Args:
        views: RGB 0-255.
        color_params: See `MultiCrop.cut`.
    """
    n, _, height, width = views.shape
    luma, filling, x, y = _constants(height, width, views.device)
    matrix = color_params[:, :12].view(n, 3, 4)
    pixels = views.float()
    shift = matrix[..., 3:] * (pixels.mean(dim=(2, 3)) @ luma)[:, None, None]
    pixels = torch.baddbmm(shift, matrix[..., :3], pixels.reshape(n, 3, -1)).view(n, 3, height, width)
    pixels = _blur(_whole(pixels), color_params[:, 12])
    whole = _whole(pixels).to(torch.uint8)
    solarise = (color_params[:, 13] > 0)[:, None, None, None]
    whole = torch.where(solarise & (whole > 127), 255 - whole, whole)
    left, top, across, down = color_params[:, 14:, None].unbind(1)
    columns, rows = (x >= left) & (x < left + across), (y >= top) & (y < top + down)
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], filling, whole)


def _blur(pixels: Float[Tensor, "n 3 h w"], sigma: Float[Tensor, " n"]) -> Float[Tensor, "n 3 h w"]:
    """Gaussian blur of each image by its own standard deviation, with the width and the borders that OpenCV takes.

    A product with one matrix for each image and axis; the unit matrix where the standard deviation is 0.
    """
    n, channels, height, width = pixels.shape
    reach = torch.div(torch.round(6 * sigma + 1), 2, rounding_mode="floor").clamp_(max=min(height, width) - 1)
    distance = torch.arange(max(height, width) + 1, device=pixels.device)  # the last is beyond every reach
    weights = torch.exp(-0.5 * (distance / sigma.clamp(min=1e-3)[:, None]) ** 2) * (distance <= reach[:, None])
    weights /= 2 * weights.sum(1, keepdim=True) - 1
    across = (pixels.view(n, -1, width) @ _axis(weights, width)).view_as(pixels)
    along, out = _axis(weights, height).mT, torch.empty_like(pixels)
    for channel in range(channels):  # one product for all channels would copy the pixels or the matrices
        torch.bmm(along, across[:, channel], out=out[:, channel])
    return out


def _axis(weights: Float[Tensor, "n reach"], length: int) -> Float[Tensor, "n from to"]:
    """The blur along an axis: the weight that each pixel has in each blurred one."""
    direct, first, last = _taps(length, weights.shape[1] - 1, weights.device)
    return weights[:, direct].add_(weights[:, first]).add_(weights[:, last])


@lru_cache(maxsize=8)
def _taps(length: int, none: int, device: torch.device) -> tuple[Int[Tensor, "from to"], ...]:
    """Distance from pixel to blurred pixel: itself, and mirrored at the first and at the last pixel."""
    start, end = torch.arange(length, device=device)[:, None], torch.arange(length, device=device)
    mirrored = (start + end).clamp(max=none)
    first = torch.where(start > 0, mirrored, none)
    return (start - end).abs(), first, first.flip(0, 1)


@lru_cache(maxsize=8)
def _constants(height: int, width: int, device: torch.device) -> tuple[Tensor, ...]:
    """Luma of each channel, colour of what is erased, x and y of pixels."""
    filling = torch.as_tensor(ERASED, device=device).view(1, 3, 1, 1)
    x, y = torch.arange(width, device=device), torch.arange(height, device=device)
    return torch.as_tensor(LUMA, dtype=torch.float32, device=device), filling, x, y


def _whole(pixels: Tensor) -> Tensor:
    return pixels.round_().clamp_(0, 255)
