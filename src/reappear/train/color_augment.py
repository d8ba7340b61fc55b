"""Colour augmentation of batches on any device; `views` does the same per image on the CPU."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from .views import ERASED, LUMA


def augment_colors(
    views: UInt8[Tensor, "n 3 h w"], color_params: Float[Tensor, "n params"]
) -> UInt8[Tensor, "n 3 h w"]:
    """Colour matrix, blur, solarising and erasing, each image its own; rounded to whole numbers after each, as OpenCV.

    Args:
        views: RGB 0-255.
        color_params: See `MultiCrop.cut`.
    """
    n, _, height, width = views.shape
    matrix = color_params[:, :12].view(n, 3, 4)
    pixels = views.float()
    mean = pixels.mean(dim=(2, 3)) @ torch.as_tensor(LUMA, dtype=torch.float32, device=views.device)
    shift = (matrix[..., 3] * mean[:, None])[..., None]
    pixels = torch.baddbmm(shift, matrix[..., :3], pixels.reshape(n, 3, -1)).view(n, 3, height, width)
    pixels = _blur(_whole(pixels), color_params[:, 12])
    solarise = (color_params[:, 13] > 0)[:, None, None, None]
    pixels = torch.where(solarise & (pixels >= 128), 255 - pixels, pixels)
    left, top, across, down = color_params[:, 14:, None].unbind(1)
    x, y = torch.arange(width, device=views.device), torch.arange(height, device=views.device)
    columns, rows = (x >= left) & (x < left + across), (y >= top) & (y < top + down)
    erased = (rows[:, :, None] & columns[:, None, :])[:, None]
    filling = torch.as_tensor(ERASED, dtype=torch.float32, device=views.device).view(1, 3, 1, 1)
    return torch.where(erased, filling, pixels).to(torch.uint8)


def _blur(pixels: Float[Tensor, "n 3 h w"], sigma: Float[Tensor, " n"]) -> Float[Tensor, "n 3 h w"]:
    """Gaussian blur of each image by its own standard deviation, with the width and the borders that OpenCV takes."""
    some = sigma.nonzero().flatten()
    if len(some) == 0:
        return pixels
    (n, (channels, height, width)), sigma = (len(some), pixels.shape[1:]), sigma[some]
    reach = torch.div(torch.round(6 * sigma + 1), 2, rounding_mode="floor")  # of the kernel to each side
    half = min(int(reach.max()), height - 1, width - 1)
    place = torch.arange(-half, half + 1, device=pixels.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (place / sigma[:, None]) ** 2) * (place.abs() <= reach[:, None])
    kernel = (weights / weights.sum(1, keepdim=True)).repeat_interleave(channels, dim=0)[:, None]
    flat = pixels[some].reshape(1, n * channels, height, width)
    flat = F.conv2d(F.pad(flat, (0, 0, half, half), "reflect"), kernel[..., None], groups=n * channels)
    flat = F.conv2d(F.pad(flat, (half, half, 0, 0), "reflect"), kernel[:, :, None], groups=n * channels)
    return pixels.index_copy(0, some, _whole(flat.view(n, channels, height, width)))


def _whole(pixels: Tensor) -> Tensor:
    return pixels.round().clamp_(0, 255)
