"""Training batches as pure functions of the seed, the step and the rank."""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch.utils.data import Dataset

from reappear.core import ImageTable, InputError, generator
from reappear.models.preprocessing import resize_images

from .batch import Batch, ClipBatch, ImageBatch, PatchBatch, ViewBatch
from .image_augment import ImageAugment
from .parallel import rank_and_world
from .samplers import ClipSampler, Sampler
from .views import COLOR_PARAMS, MultiCrop


@runtime_checkable
class Images(Protocol):
    """Images in memory or on disk."""

    def __getitem__(self, image: int) -> UInt8[np.ndarray, "h w 3"]:
        """One RGB image."""
        ...


class StepDataset(Dataset[Batch]):
    """The batch of step `s` at index `s`.

    The random numbers of an image depend on the seed, the step and its position in the whole step, so the batch does
    not depend on the number of processes, nor on when and where it is made.

    Args:
        images: Read by row.
        table: Labels of the images; identities are 0 or more.
        sampler: Chooses the images of each step.
        seed: Of the run.
    """

    def __init__(self, images: Images, table: ImageTable, sampler: Sampler, *, seed: int) -> None:
        self.images, self.table, self.sampler, self.seed = images, table, sampler, seed
        self.rank, self.world = rank_and_world()

    def __getitem__(self, step: int) -> Batch:
        """The share of a step that belongs to this process."""
        raise NotImplementedError

    def share(self, step: int) -> tuple[Int[np.ndarray, "ids images"], int]:
        """Rows of the images of this process, a row per identity, and the position of the first in the whole step."""
        groups = self.sampler.groups(step)
        share = len(groups) // self.world
        first = self.rank * share
        return groups[first : first + share], first * groups.shape[1]

    def require_even_parts(self, parts: int) -> None:
        """Checks that every step can be cut into equal parts.

        Args:
            parts: Of the share of one process.

        Raises:
            InputError: The identities of a step are no multiple of processes and parts.
        """
        for identities in self.sampler.identities_per_step:
            if identities % self.world:
                raise InputError(
                    f"images_per_step: {self.sampler.images_per_step} images are {identities} identities in a step, "
                    f"which {self.world} processes cannot share evenly"
                )
            if identities // self.world % parts:
                raise InputError(
                    f"accumulate: {identities // self.world} identities of a step cannot be cut into {parts} parts"
                )

    def _random(self, step: int, position: int) -> np.random.Generator:
        return generator(self.seed, "views", step, position)


class ViewDataset(StepDataset):
    """Random views of the images of each step.

    Args:
        images: Read by row.
        table: Labels of the images.
        sampler: Chooses the images of each step.
        crop: Cuts and augments the views.
        seed: Of the run.
        defer_colors: Views are cut and flipped here; colours are left to `ViewBatch.augmented`, on a GPU.
    """

    def __init__(
        self,
        images: Images,
        table: ImageTable,
        sampler: Sampler,
        crop: MultiCrop,
        *,
        seed: int,
        defer_colors: bool = False,
    ) -> None:
        super().__init__(images, table, sampler, seed=seed)
        self.crop, self.defer_colors = crop, defer_colors

    def __getitem__(self, step: int) -> ViewBatch:
        """The views of this process."""
        rows, first = self.share(step)
        shapes = self.crop.views
        pixels = [np.empty((rows.size, view.height, view.width, 3), np.uint8) for view in shapes]
        color_params = np.empty((len(shapes), rows.size, COLOR_PARAMS), np.float32)
        for i, row in enumerate(rows.ravel().tolist()):
            random = self._random(step, first + i)
            if self.defer_colors:
                cut = self.crop.cut(self.images[row], random)
                views, color_params[:, i] = cut.views, cut.color_params
            else:
                views = self.crop(self.images[row], random)
            for view, shown in zip(pixels, views, strict=True):
                view[i] = shown
        return ViewBatch(
            [_tensor(view, rows.shape) for view in pixels],
            torch.from_numpy(self.table.identity[rows[:, 0]]),
            [torch.from_numpy(params.reshape(*rows.shape, -1)) for params in color_params] if self.defer_colors else [],
        )


class PatchDataset(StepDataset):
    """Random views of the images of each step, with the images and where in them each view was cut.

    Args:
        images: Read by row.
        table: Labels of the images.
        sampler: Chooses the images of each step.
        crop: Cuts the views.
        size: Height and width of the whole images in pixels.
        seed: Of the run.
    """

    def __init__(
        self,
        images: Images,
        table: ImageTable,
        sampler: Sampler,
        crop: MultiCrop,
        *,
        size: tuple[int, int],
        seed: int,
    ) -> None:
        super().__init__(images, table, sampler, seed=seed)
        self.crop, self.size = crop, size

    def __getitem__(self, step: int) -> PatchBatch:
        """Images and views of this process; colours of views are deferred."""
        rows, first = self.share(step)
        cuts, whole = [], []
        for i, row in enumerate(rows.ravel().tolist()):
            image = self.images[row]
            whole.append(image)
            cuts.append(self.crop.cut(image, self._random(step, first + i)))
        number = range(len(self.crop.views))

        def per_view(values: list[np.ndarray]) -> list[torch.Tensor]:
            """From a row per image to one tensor per view."""
            stacked = np.stack(values).reshape(*rows.shape, len(number), *values[0].shape[1:])
            return [torch.from_numpy(np.ascontiguousarray(stacked[:, :, k])) for k in number]

        return PatchBatch(
            [_tensor(np.stack([cut.views[k] for cut in cuts]), rows.shape) for k in number],
            torch.from_numpy(self.table.identity[rows[:, 0]]),
            per_view([cut.color_params.astype(np.float32) for cut in cuts]),
            image=_tensor(resize_images(whole, *self.size), rows.shape),
            boxes=per_view([cut.boxes.astype(np.float32) for cut in cuts]),
            flipped=per_view([cut.flipped for cut in cuts]),
        )


class ImageDataset(StepDataset):
    """The images of each step, augmented one by one.

    Args:
        images: Read by row.
        table: Labels of the images.
        sampler: Chooses the images of each step.
        augment: Resizes and augments an image.
        seed: Of the run.
    """

    def __init__(
        self, images: Images, table: ImageTable, sampler: Sampler, augment: ImageAugment, *, seed: int
    ) -> None:
        super().__init__(images, table, sampler, seed=seed)
        self.augment = augment

    def __getitem__(self, step: int) -> ImageBatch:
        """The images of this process."""
        rows, first = self.share(step)
        pixels = [
            self.augment([self.images[row]], self._random(step, first + i))[0]
            for i, row in enumerate(rows.ravel().tolist())
        ]
        return ImageBatch(
            _tensor(np.stack(pixels), rows.shape),
            torch.from_numpy(self.table.identity[rows[:, 0]]),
            torch.from_numpy(self.table.camera[rows]),
        )


class ClipDataset(StepDataset):
    """The clips of each step; all frames of a clip are augmented alike.

    Args:
        images: Read by row.
        table: Labels of the images; a tracklet is what has one `sequence`.
        sampler: Chooses the tracklets and frames of each step.
        augment: Resizes and augments the frames of a clip.
        seed: Of the run.
    """

    def __init__(
        self, images: Images, table: ImageTable, sampler: ClipSampler, augment: ImageAugment, *, seed: int
    ) -> None:
        super().__init__(images, table, sampler, seed=seed)
        self.clips, self.augment = sampler, augment

    def __getitem__(self, step: int) -> ClipBatch:
        """The clips of this process."""
        frames = self.clips.frames(step)
        share = len(frames) // self.world
        first = self.rank * share
        mine = frames[first : first + share]
        pixels = [
            self.augment([self.images[row] for row in clip.tolist()], self._random(step, first * mine.shape[1] + i))
            for i, clip in enumerate(mine.reshape(-1, mine.shape[2]))
        ]
        stacked = np.stack([np.stack(clip) for clip in pixels])
        return ClipBatch(
            _tensor(stacked, mine.shape[:2]),
            torch.from_numpy(self.table.identity[mine[:, 0, 0]]),
            torch.from_numpy(self.table.camera[mine[:, :, 0]]),
        )


def _tensor(pixels: UInt8[np.ndarray, "n ... h w 3"], groups: tuple[int, ...]) -> torch.Tensor:
    """Images (n … h w 3) as (ids images … 3 h w); the memory stays as it is, which is channels-last."""
    return torch.from_numpy(pixels.reshape(*groups, *pixels.shape[1:])).movedim(-1, -3)
