"""Training batches by type; all have one protocol: `to`, `pin_memory`, `augmented`, `split`."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from .color_augment import augment_colors

B = TypeVar("B", bound="Batch")
V = TypeVar("V", bound="ViewBatch")


@dataclass(frozen=True)
class Batch:
    """Tensors, or lists of them, whose first axis is the identities of the step."""

    def to(self: B, device: torch.device) -> B:
        """The batch on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self: B) -> B:
        """The batch in pinned memory; called by PyTorch's loader."""
        return self._each(Tensor.pin_memory)

    def share_memory(self: B) -> B:
        """The batch in memory that other processes can map.

        Raises:
            RuntimeError: There is too little of it.
        """
        return self._each(Tensor.share_memory_)

    def augmented(self: B) -> B:
        """The batch with its deferred augmentation applied, on its device."""
        return self

    def split(self: B, count: int) -> list[B]:
        """The batch cut into `count` batches of equally many identities; see `StepDataset.require_even_parts`."""
        if count == 1:
            return [self]
        cut = {
            f.name: (
                value.chunk(count)
                if isinstance(value := getattr(self, f.name), Tensor)
                else list(zip(*(tensor.chunk(count) for tensor in value), strict=True)) or [()] * count
            )
            for f in fields(self)
        }
        return [
            replace(
                self, **{name: part[i] if isinstance(part[i], Tensor) else list(part[i]) for name, part in cut.items()}
            )
            for i in range(count)
        ]

    def _each(self: B, change: Callable[[Tensor], Tensor]) -> B:
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(
            self,
            **{name: change(v) if isinstance(v, Tensor) else [change(one) for one in v] for name, v in values.items()},
        )


@dataclass(frozen=True)
class ViewBatch(Batch):
    """Random views of images, as methods of self-supervision and CION compare them.

    Attributes:
        views: Per view the images, RGB 0-255; the views that the teacher sees come first. Views differ in size.
        identity: Label of each row of images.
        color_params: Per view the parameters of the deferred colour augmentation of each image; empty if none.
    """

    views: list[UInt8[Tensor, "ids images 3 _ _"]]
    identity: Int[Tensor, " ids"]
    color_params: list[Float[Tensor, "ids images params"]] = field(default_factory=list)

    def augmented(self: V) -> V:
        """The batch with its deferred colour augmentation applied: one pass for all views of a size."""
        if not self.color_params:
            return self
        views = list(self.views)
        same_size: dict[torch.Size, list[int]] = {}
        for index, view in enumerate(views):
            same_size.setdefault(view.shape, []).append(index)
        for shape, indices in same_size.items():  # a GPU waits for launches, not bytes
            pixels = torch.cat([views[i].flatten(0, 1) for i in indices])
            shown = augment_colors(pixels, torch.cat([self.color_params[i].flatten(0, 1) for i in indices]))
            for i, part in zip(indices, shown.view(len(indices), *shape), strict=True):
                views[i] = part
        return replace(self, views=views, color_params=[])


@dataclass(frozen=True)
class PatchBatch(ViewBatch):
    """Views together with the images that they were cut from, so that a patch of the image is found in every view.

    Attributes:
        views: After those that have a box, views of patches may follow that were cut before the augmentation: two of
            each patch, see `PatchDataset`.
        image: The whole images, resized and not augmented, RGB 0-255.
        boxes: Per view where it was cut from each image: left, top, right, bottom, as shares of its width and height.
        flipped: Per view whether it is mirrored.
    """

    image: UInt8[Tensor, "ids images 3 h w"] = field(kw_only=True)
    boxes: list[Float[Tensor, "ids images 4"]] = field(kw_only=True)
    flipped: list[Bool[Tensor, "ids images"]] = field(kw_only=True)


@dataclass(frozen=True)
class ImageBatch(Batch):
    """Images of P identities, K of each, as supervised fine-tuning and clustering see them.

    Attributes:
        images: RGB 0-255.
        identity: Of each row of images.
        camera: Of each image.
    """

    images: UInt8[Tensor, "ids images 3 h w"]
    identity: Int[Tensor, " ids"]
    camera: Int[Tensor, "ids images"]


@dataclass(frozen=True)
class ClipBatch(Batch):
    """Clips of P identities, K of each: frames of one tracklet in their order.

    Attributes:
        clips: RGB 0-255.
        identity: Of each row of clips.
        camera: Of each clip.
    """

    clips: UInt8[Tensor, "ids clips time 3 h w"]
    identity: Int[Tensor, " ids"]
    camera: Int[Tensor, "ids clips"]
