"""Patches of images: a grid in the image's coordinates, and where it lies in each view of the image."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def patch_grid(rows: int, columns: int) -> Float[Tensor, "patches 4"]:
    """Left, top, right and bottom of each patch as shares of the image's width and height, row by row."""
    top, left = torch.meshgrid(torch.arange(rows) / rows, torch.arange(columns) / columns, indexing="ij")
    return torch.stack([left, top, left + 1 / columns, top + 1 / rows], -1).flatten(0, 1)


def adjacent_patches(rows: int, columns: int) -> Bool[Tensor, "patches patches"]:
    """Which patches of a grid share an edge."""
    place = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    return (place[:, None] - place).abs().sum(-1) == 1


def locate_patches(
    patches: Float[Tensor, "patches 4"], boxes: Float[Tensor, "n 4"], flipped: Bool[Tensor, " n"]
) -> tuple[Float[Tensor, "n patches 4"], Float[Tensor, "n patches"]]:
    """The visible part of each patch in views, and its share of the patch's area.

    Args:
        patches: Left, top, right, bottom, as shares of the image.
        boxes: Where each view was cut from its image: left, top, right, bottom, as shares of the image.
        flipped: Whether it is mirrored.

    Returns:
        Left, top, right, bottom of each part as shares of the view, and 0 (outside the view) to 1 (all of the patch).
    """
    low = torch.maximum(patches[:, :2], boxes[:, None, :2])
    high = torch.maximum(torch.minimum(patches[:, 2:], boxes[:, None, 2:]), low)
    visible = (high - low).prod(-1) / (patches[:, 2:] - patches[:, :2]).prod(-1)
    origin, size = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
    inside = torch.cat([(low - origin) / size, (high - origin) / size], -1).clamp(0, 1)
    left, top, right, bottom = inside.unbind(-1)
    mirrored = torch.stack([1 - right, top, 1 - left, bottom], -1)
    return torch.where(flipped[:, None, None], mirrored, inside), visible
