"""What a step sees, made from the step's number alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reappear.core import InputError, generator

from .sampler import IdentitySampler
from .views import MultiCrop


@runtime_checkable
class Images(Protocol):
    """Crops in memory or on disk."""

    def __getitem__(self, image: int) -> UInt8[np.ndarray, "h w 3"]:
        """One RGB crop."""
        ...


@dataclass(frozen=True)
class IdentityBatch:
    """Views of images of people; axes are dimensions, with no order hidden in them.

    Attributes:
        views: Per view the images, RGB 0-255; the views that the teacher sees come first. Views differ in size.
        identity: Whose images they are.
    """

    views: list[UInt8[Tensor, "ids images 3 _ _"]]
    identity: Int[Tensor, " ids"]

    def to(self, device: torch.device) -> "IdentityBatch":
        """The batch on a device."""
        return IdentityBatch([view.to(device, non_blocking=True) for view in self.views], self.identity.to(device))


class StepBatches(Dataset[IdentityBatch]):
    """The batch of step `s` at index `s`: a pure function of the seed, the step, and which process asks.

    The randomness of an image's views depends on the seed, the step and its position in the whole step, so two
    processes together see what one alone would.

    Args:
        images: The crops.
        identity: Of each crop.
        sampler: Which crops each step takes.
        crops: How views are cut.
        seed: Of the run.
        rank: This process.
        world: How many processes share a step.
    """

    def __init__(
        self,
        images: Images,
        identity: Int[np.ndarray, " n"],
        sampler: IdentitySampler,
        crops: MultiCrop,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._images, self._identity, self._sampler, self._crops = images, identity, sampler, crops
        self._seed, self._rank, self._world = seed, rank, world

    def __getitem__(self, step: int) -> IdentityBatch:
        """The share of step `step` that belongs to this process."""
        groups = self._sampler.groups(step)
        if len(groups) % self._world:
            raise InputError(
                f"images_per_step: {groups.size} images are {len(groups)} identities at step {step}, "
                f"which {self._world} processes cannot share evenly"
            )
        share = len(groups) // self._world
        first = self._rank * share
        mine = groups[first : first + share]
        pixels = [np.empty((*mine.shape, view.height, view.width, 3), np.uint8) for view in self._crops.views]
        for i, images in enumerate(mine):
            for j, image in enumerate(images):
                position = (first + i) * groups.shape[1] + j
                random = generator(self._seed, "views", step, position)
                for view, shown in zip(pixels, self._crops(self._images[int(image)], random), strict=True):
                    view[i, j] = shown
        return IdentityBatch(
            [torch.from_numpy(view).permute(0, 1, 4, 2, 3) for view in pixels],
            torch.from_numpy(self._identity[mine[:, 0]]),
        )


def batches(data: StepBatches, start: int, steps: int, *, workers: int, pin: bool = False) -> Iterator[IdentityBatch]:
    """The batches of steps `start` to `steps`, made ahead by `workers` processes, or here when 0."""
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=range(start, steps),
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_one_thread,
    )
    return iter(loader)


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # each worker is one process on one core
