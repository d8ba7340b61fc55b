"""Training batches as pure functions of the seed, the step and the rank."""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch.utils.data import Dataset

from reappear.core import ImageTable, InputError, counted, generator
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
                    f"images_per_step: a step of {counted(self.sampler.images_per_step, 'image')} has "
                    f"{counted(identities, 'identity')}, which {counted(self.world, 'process')} cannot share evenly"
                )
            if identities // self.world % parts:
                raise InputError(
                    f"accumulate: a step of {counted(identities // self.world, 'identity')} cannot be cut into "
                    f"{counted(parts, 'part')}"
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
        made = _Views(self.crop, rows.size, self.defer_colors)
        for i, row in enumerate(rows.ravel().tolist()):
            made.add(i, self.images[row], self._random(step, first + i))
        return ViewBatch(
            made.views(rows.shape), torch.from_numpy(self.table.identity[rows[:, 0]]), made.params(rows.shape)
        )


class PatchDataset(ViewDataset):
    """Random views of the images of each step, with the images and where in them each view was cut.

    Args:
        images: Read by row.
        table: Labels of the images.
        sampler: Chooses the images of each step.
        crop: Cuts and augments the views, as for a `ViewDataset`.
        size: Height and width of the whole images in pixels.
        seed: Of the run.
        defer_colors: As for a `ViewDataset`.
        patch_crop: Makes two views of each patch of an image, cut before the augmentation. They follow those of the
            image: two of the first patch, two of the second, and so on. None: there are no such views.
        grid: Rows and columns of these patches.
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
        defer_colors: bool = False,
        patch_crop: MultiCrop | None = None,
        grid: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__(images, table, sampler, crop, seed=seed, defer_colors=defer_colors)
        self.size, self.patch_crop = size, patch_crop
        self._cells = [(i, j) for i in range(grid[0]) for j in range(grid[1])] if patch_crop else []
        self._grid = grid

    def __getitem__(self, step: int) -> PatchBatch:
        """Images and views of this process."""
        rows, first = self.share(step)
        made = _Views(self.crop, rows.size, self.defer_colors)
        patches = [_Views(self.patch_crop or self.crop, rows.size, self.defer_colors) for _ in self._cells]
        whole = np.empty((rows.size, *self.size, 3), np.uint8)
        for i, row in enumerate(rows.ravel().tolist()):
            image, random = self.images[row], self._random(step, first + i)
            made.add(i, image, random)
            for patch, (row_of, column_of) in zip(patches, self._cells, strict=True):
                height, width = image.shape[:2]
                down, across = _share_of(height, row_of, self._grid[0]), _share_of(width, column_of, self._grid[1])
                patch.add(i, image[down, across], random)
            whole[i] = resize_images([image], *self.size)[0]
        parts = [made, *patches]
        return PatchBatch(
            [view for part in parts for view in part.views(rows.shape)],
            torch.from_numpy(self.table.identity[rows[:, 0]]),
            [params for part in parts for params in part.params(rows.shape)],
            image=_tensor(whole, rows.shape),
            boxes=_per_view(made.boxes, rows.shape),
            flipped=_per_view(made.flipped, rows.shape),
        )


class _Views:
    """Views of the images of a step as they are made, one image after the other."""

    def __init__(self, crop: MultiCrop, images: int, defer_colors: bool) -> None:
        self.crop, self.defer_colors = crop, defer_colors
        shapes = crop.views
        self.pixels = [np.empty((images, view.height, view.width, 3), np.uint8) for view in shapes]
        self.color_params = np.empty((len(shapes), images, COLOR_PARAMS), np.float32)
        self.boxes = np.empty((len(shapes), images, 4), np.float32)
        self.flipped = np.empty((len(shapes), images), bool)

    def add(self, i: int, image: UInt8[np.ndarray, "h w 3"], random: np.random.Generator) -> None:
        """Cuts the views of image `i`."""
        cut = self.crop.cut(image, random)
        self.color_params[:, i], self.boxes[:, i], self.flipped[:, i] = cut.color_params, cut.boxes, cut.flipped
        for view, shown in zip(self.pixels, cut.views if self.defer_colors else self.crop.augment(cut), strict=True):
            view[i] = shown

    def views(self, groups: tuple[int, ...]) -> list[torch.Tensor]:
        return [_tensor(view, groups) for view in self.pixels]

    def params(self, groups: tuple[int, ...]) -> list[torch.Tensor]:
        return _per_view(self.color_params, groups) if self.defer_colors else []


def _per_view(values: np.ndarray, groups: tuple[int, ...]) -> list[torch.Tensor]:
    """Values (v n ...) of all views as a tensor (ids images ...) each."""
    return [torch.from_numpy(one.reshape(*groups, *one.shape[1:])) for one in values]


def _share_of(length: int, number: int, count: int) -> slice:
    """Part `number` of `count` equal ones, of a pixel at least."""
    first = min(number * length // count, length - 1)
    return slice(first, max((number + 1) * length // count, first + 1))


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
