"""Training batches as a pure function of the step number."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reappear.core import EngineError, InputError, ReappearError, generator, killed_worker, signals_blocked

from .color_augment import augment_colors
from .sampler import IdentitySampler
from .views import COLOR_PARAMS, MultiCrop


@runtime_checkable
class Images(Protocol):
    """Crops in memory or on disk."""

    def __getitem__(self, image: int) -> UInt8[np.ndarray, "h w 3"]:
        """One RGB crop."""
        ...


@dataclass(frozen=True)
class IdentityBatch:
    """Views of images of people; every axis is a dimension of the tensor.

    Attributes:
        views: Per view the images, RGB 0-255; the views that the teacher sees come first. Views differ in size.
        identity: Label of each row of images.
        color_params: Per view the parameters of the deferred colour augmentation of each image; empty if none.
    """

    views: list[UInt8[Tensor, "ids images 3 _ _"]]
    identity: Int[Tensor, " ids"]
    color_params: list[Float[Tensor, "ids images params"]] = field(default_factory=list)

    def to(self, device: torch.device) -> "IdentityBatch":
        """The batch on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "IdentityBatch":
        """The batch in pinned memory; called by PyTorch's loader."""
        return self._each(Tensor.pin_memory)

    def augmented(self) -> "IdentityBatch":
        """The batch with its deferred colour augmentation applied, on its device."""
        if not self.color_params:
            return self
        views = list(self.views)
        same_size: dict[torch.Size, list[int]] = {}
        for index, view in enumerate(views):
            same_size.setdefault(view.shape, []).append(index)
        for (
            shape,
            indices,
        ) in same_size.items():  # one pass for all views of a size: a GPU waits for launches, not bytes
            pixels = torch.cat([views[i].flatten(0, 1) for i in indices])
            shown = augment_colors(pixels, torch.cat([self.color_params[i].flatten(0, 1) for i in indices]))
            for i, part in zip(indices, shown.view(len(indices), *shape), strict=True):
                views[i] = part
        return IdentityBatch(views, self.identity)

    def parts(self, count: int) -> "list[IdentityBatch]":
        """The batch cut into `count` batches of equally many identities; see `StepBatches.require_even_parts`."""
        if count == 1:
            return [self]
        cut = [tensor.chunk(count) for tensor in (self.identity, *self.views, *self.color_params)]
        last = 1 + len(self.views)
        return [
            IdentityBatch(list(views), identity, list(color_params))
            for identity, views, color_params in (
                (part[0], part[1:last], part[last:]) for part in zip(*cut, strict=True)
            )
        ]

    def _each(self, change: Callable[[Tensor], Tensor]) -> "IdentityBatch":
        return IdentityBatch(
            [change(v) for v in self.views], change(self.identity), [change(x) for x in self.color_params]
        )


class StepBatches(Dataset[IdentityBatch]):
    """The batch of step `s` at index `s`: a pure function of the seed, the step, and the rank.

    The random numbers of an image's views depend on the seed, the step and its position in the whole step, so the
    views do not depend on the number of processes.

    Args:
        images: The crops.
        identity: Label of each crop.
        sampler: Chooses the crops of each step.
        crops: Crops and augments the views.
        seed: Of the run.
        rank: This process.
        world: How many processes share a step.
        defer_colors: Views are cut and flipped here; colours are left to `IdentityBatch.augmented`, on a GPU.
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
        defer_colors: bool = False,
    ) -> None:
        self._images, self._identity, self._sampler, self._crops = images, identity, sampler, crops
        self._seed, self._rank, self._world, self._defer_colors = seed, rank, world, defer_colors

    def require_even_parts(self, parts: int) -> None:
        """Checks that every step can be cut into equal parts.

        Args:
            parts: Of the share of one process.

        Raises:
            InputError: The identities of a step are no multiple of processes and parts.
        """
        for identities in self._sampler.identities_per_step:
            if identities % self._world:
                raise InputError(
                    f"images_per_step: {self._sampler.images_per_step} images are {identities} identities in a stage "
                    f"of the curriculum, which {self._world} processes cannot share evenly"
                )
            if identities // self._world % parts:
                raise InputError(
                    f"accumulate: {identities // self._world} identities of a step cannot be cut into {parts} parts"
                )

    def __getitem__(self, step: int) -> IdentityBatch:
        """The share of step `step` that belongs to this process."""
        groups = self._sampler.groups(step)
        share = len(groups) // self._world
        first = self._rank * share
        mine = groups[first : first + share]
        pixels = [np.empty((*mine.shape, view.height, view.width, 3), np.uint8) for view in self._crops.views]
        color_params = np.empty((len(pixels), *mine.shape, COLOR_PARAMS), np.float32)
        for i, images in enumerate(mine):
            for j, image in enumerate(images):
                position = (first + i) * groups.shape[1] + j
                random = generator(self._seed, "views", step, position)
                if self._defer_colors:
                    cut, color_params[:, i, j] = self._crops.cut(self._images[int(image)], random)
                else:
                    cut = self._crops(self._images[int(image)], random)
                for view, shown in zip(pixels, cut, strict=True):
                    view[i, j] = shown
        return IdentityBatch(
            [torch.from_numpy(view).permute(0, 1, 4, 2, 3) for view in pixels],
            torch.from_numpy(self._identity[mine[:, 0]]),
            [torch.from_numpy(params) for params in color_params] if self._defer_colors else [],
        )


def batches(data: StepBatches, start: int, steps: int, *, workers: int, pin: bool = False) -> Iterator[IdentityBatch]:
    """The batches of steps `start` to `steps`, made ahead by `workers` processes, or here when 0.

    Workers ignore SIGINT and SIGTERM and end with this process, as those of `core.process_pool`.

    Raises:
        EngineError: A worker was killed.
    """
    loader = DataLoader(
        _NoRaise(data),
        batch_size=None,
        sampler=range(start, steps),
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_begin_worker,
    )
    others, on_child = set(multiprocessing.active_children()), signal.getsignal(signal.SIGCHLD)
    with signals_blocked():
        made = iter(loader)  # here and not at the first step: it draws one of PyTorch's random numbers
    if signal.getsignal(signal.SIGCHLD) is not on_child:
        signal.signal(signal.SIGCHLD, on_child)  # PyTorch's raises an error wherever this process happens to be
    return _received(made, set(multiprocessing.active_children()) - others)


def _received(
    made: Iterator[IdentityBatch | ReappearError], processes: Collection[BaseProcess]
) -> Iterator[IdentityBatch]:
    while True:
        try:
            batch = next(made)
        except StopIteration:
            return
        except (RuntimeError, EOFError, OSError) as error:  # which of them depends on what the worker was doing
            gone = wait([process.sentinel for process in processes], timeout=1) if processes else []
            if killed := [process for process in processes if process.sentinel in gone]:
                for process in killed:
                    process.join()  # for its exit code
                raise EngineError(killed_worker(killed)) from error
            raise
        if isinstance(batch, ReappearError):
            raise batch
        yield batch


class _NoRaise(Dataset[IdentityBatch | ReappearError]):
    """Gives back what the data raise, which PyTorch would wrap into a traceback of many lines."""

    def __init__(self, data: StepBatches) -> None:
        self._data = data

    def __getitem__(self, step: int) -> IdentityBatch | ReappearError:
        try:
            return self._data[step]
        except ReappearError as error:
            return error


def _begin_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # each worker is one process on one core
    threading.Thread(target=_exit_for_parent, daemon=True).start()


def _exit_for_parent() -> None:
    """SIGTERM, which is blocked in every thread, counts when it comes from the process that trains."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)
