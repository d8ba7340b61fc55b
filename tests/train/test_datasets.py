import dataclasses
import errno
import multiprocessing
import os
import signal
import subprocess

import numpy as np
import pytest
import torch

from reappear.core import EngineError, InputError, generator
from reappear.train.batch import ViewBatch
from reappear.train.datasets import ClipDataset, ImageDataset, PatchDataset, StepDataset, ViewDataset
from reappear.train.image_augment import ImageAugment, ImageAugmentSettings
from reappear.train.loader import load_batches
from reappear.train.samplers import ClipSampler, IdentitySampler, PKSampler
from reappear.train.views import ViewSettings

from .tables import make_table

IDENTITY = np.repeat(np.arange(6), 4)
IMAGES = [np.random.default_rng(i).integers(0, 256, (20, 10, 3), dtype=np.uint8) for i in range(24)]
CROPS = ViewSettings(local_views=1).build(height=16, width=8, local_height=8, local_width=4)


TABLE = make_table(IDENTITY, camera=np.arange(24) % 2, sequence=np.arange(24) // 2)
KINDS = ["views", "deferred", "patches", "images", "clips"]


def _data(rank: int = 0, world: int = 1, images_per_step: int = 8, kind: str = "views") -> StepDataset:
    sampler = IdentitySampler(IDENTITY, images_per_step=images_per_step, steps=10_000, stages=((0.0, 2),), seed=0)
    pk = PKSampler(IDENTITY, identities=4, images=2, seed=0)
    clips = ClipSampler(TABLE, identities=4, clips=2, frames=3, seed=0)
    augment = ImageAugment(ImageAugmentSettings(padding=2, erase_with="noise"), height=16, width=8)
    made = {
        "views": lambda: ViewDataset(IMAGES, TABLE, sampler, CROPS, seed=0),
        "deferred": lambda: ViewDataset(IMAGES, TABLE, sampler, CROPS, seed=0, defer_colors=True),
        "patches": lambda: PatchDataset(IMAGES, TABLE, sampler, CROPS, size=(20, 10), seed=0),
        "images": lambda: ImageDataset(IMAGES, TABLE, pk, augment, seed=0),
        "clips": lambda: ClipDataset(IMAGES, TABLE, clips, augment, seed=0),
    }[kind]()
    made.rank, made.world = rank, world
    return made


def _tensors(batch: object) -> list[torch.Tensor]:
    values = [getattr(batch, field.name) for field in dataclasses.fields(batch)]
    return [tensor for value in values for tensor in ([value] if isinstance(value, torch.Tensor) else value)]


def _equal(a: object, b: object) -> bool:
    return all(torch.equal(x, y) for x, y in zip(_tensors(a), _tensors(b), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_batch_keeps_the_protocol(kind: str) -> None:
    """Split and put together again it is the same; so are the shares of two processes; and it moves as a whole."""
    data = _data(kind=kind)
    batch = data[3]
    assert type(batch).__module__ == "reappear.train.batch"
    assert all(len(tensor) == 4 for tensor in _tensors(batch))
    shares = [_data(rank, 2, kind=kind)[3] for rank in range(2)]
    for parts in (batch.split(2), shares):
        joined = [torch.cat(tensors) for tensors in zip(*map(_tensors, parts), strict=True)]
        assert all(torch.equal(a, b) for a, b in zip(joined, _tensors(batch), strict=True))
    assert batch.split(1) == [batch]
    assert all(tensor.is_meta for tensor in _tensors(batch.to(torch.device("meta"))))
    assert type(batch.augmented()) is type(batch)
    assert _equal(data[3], batch)
    assert not _equal(data[4], batch)
    assert set(batch.identity.tolist()) <= set(IDENTITY.tolist())


def test_images_and_clips_have_their_cameras() -> None:
    images, clips = _data(kind="images")[0], _data(kind="clips")[0]
    assert images.images.shape == (4, 2, 3, 16, 8)
    assert images.camera.shape == (4, 2)
    assert clips.clips.shape == (4, 2, 3, 3, 16, 8)
    assert clips.camera.shape == (4, 2)
    assert len(set(images.identity.tolist())) == 4


def test_frames_of_a_clip_are_augmented_alike() -> None:
    augment = ImageAugment(ImageAugmentSettings(flip=0.5, padding=4, erase=0.5), height=20, width=10)
    moved = 0
    for seed in range(20):
        first, second = augment([IMAGES[0], IMAGES[0]], generator(seed))
        np.testing.assert_array_equal(first, second)
        moved += not np.array_equal(first, IMAGES[0])
    assert moved > 15
    still = ImageAugment(ImageAugmentSettings(flip=0.0, padding=0, erase=0.0), height=20, width=10)
    np.testing.assert_array_equal(still([IMAGES[0]], generator(0))[0], IMAGES[0])


def test_erased_boxes_lie_anywhere_and_cover_what_is_asked_for() -> None:
    """The public code of GRL puts the box at (its width, its height), so never at the top or the left."""
    augment = ImageAugment(
        ImageAugmentSettings(flip=0.0, padding=0, erase=1.0, erase_area=(0.02, 0.4)), height=64, width=32
    )
    white = np.full((64, 32, 3), 255, np.uint8)
    erased = np.stack([(augment([white], generator(seed))[0] != 255).any(2) for seed in range(1000)])
    assert 0.15 < erased.mean() < 0.25
    rows, columns = erased.any(2), erased.any(1)
    tops, lefts = rows.argmax(1), columns.argmax(1)
    heights, widths = rows.sum(1), columns.sum(1)
    np.testing.assert_array_equal(erased.sum((1, 2)), heights * widths)  # boxes
    assert np.mean(tops < 8) > 0.15
    assert np.mean(lefts < 4) > 0.15
    assert abs((tops + heights / 2).mean() - 32) < 2
    assert abs((lefts + widths / 2).mean() - 16) < 1
    assert erased.any(0).all()


def test_boxes_of_views_are_where_they_were_cut() -> None:
    """Without augmentation, what lies in a view's box of the whole image is the view."""
    plain = ViewSettings(local_views=2, jitter=0.0, gray=0.0, blur=(0.0, 0.0, 0.0), solarise=0.0)
    crop = plain.build(height=16, width=8, local_height=8, local_width=4)
    ramp = np.zeros((200, 100, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, 200)[:, None]
    ramp[..., 1] = np.linspace(0, 255, 100)[None]
    sampler = IdentitySampler(np.zeros(4, int), images_per_step=4, steps=10, stages=((0.0, 2),), seed=0)
    batch = PatchDataset([ramp] * 4, make_table(np.zeros(4)), sampler, crop, size=(200, 100), seed=0)[0]
    assert {bool(f) for flipped in batch.flipped for f in flipped.flatten()} == {True, False}
    for view, boxes, flipped in zip(batch.views, batch.boxes, batch.flipped, strict=True):
        for pixels, box, mirrored in zip(view.flatten(0, 1), boxes.flatten(0, 1), flipped.flatten(), strict=True):
            left, top, right, bottom = box.tolist()
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
            height, width = pixels.shape[1:]
            rows = pixels[0].double().mean(1) / 255
            columns = pixels[1].double().mean(0) / 255
            columns = columns.flip(0) if mirrored else columns
            expected = [
                start + (torch.arange(n, dtype=torch.float64) + 0.5) / n * (stop - start)
                for start, stop, n in ((top, bottom, height), (left, right, width))
            ]
            torch.testing.assert_close(rows, expected[0], atol=0.02, rtol=0)
            torch.testing.assert_close(columns, expected[1], atol=0.02, rtol=0)


def test_axes_are_dimensions() -> None:
    batch = _data()[0]
    assert isinstance(batch, ViewBatch)
    assert [tuple(view.shape) for view in batch.views] == [(4, 2, 3, 16, 8)] * 2 + [(4, 2, 3, 8, 4)]
    assert batch.identity.shape == (4,)


def test_a_step_is_the_same_whenever_and_by_whomever_it_is_made() -> None:
    data = _data()
    ahead = list(load_batches(data, 2, 5, workers=1))
    assert len(ahead) == 3
    for step, batch in zip(range(2, 5), ahead, strict=True):
        assert _equal(batch, data[step])
    assert not _equal(data[2], data[3])


class BadImages:
    def __getitem__(self, image: int) -> np.ndarray:
        raise InputError(f"crop {image} is damaged")


def _workers() -> list[int]:
    return [process.pid for process in multiprocessing.active_children()]


def test_workers_ignore_signals_to_the_group() -> None:
    source = load_batches(_data(), 0, 10, workers=1)
    next(source)
    for name in ("TERM", "INT"):  # from another process: SIGTERM from the one that trains ends a worker
        subprocess.run(["kill", f"-{name}", str(_workers()[0])], check=True)
    assert len(list(source)) == 9


def test_killed_worker_is_named() -> None:
    source = load_batches(_data(), 0, 10_000, workers=1)
    next(source)
    worker = _workers()[0]
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(EngineError) as caught:
        list(source)
    assert f"{worker} (SIGKILL)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_little_shared_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, /dev/shm has 64 MB unless told otherwise. PyTorch's own loader would wait without end."""

    def share(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", share)
    with pytest.raises(EngineError, match=r"too little shared memory .*No space left.* workers to 0"):
        next(load_batches(_data(), 0, 1, workers=1))
    assert isinstance(next(load_batches(_data(), 0, 1, workers=0)), ViewBatch)


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_that_cannot_start_are_one_line(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    def lock() -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(multiprocessing, "Lock", lock)
    if workers:
        with pytest.raises(EngineError, match=r"cannot start .read-only file system"):
            load_batches(_data(), 0, 1, workers=workers)
    else:
        next(load_batches(_data(), 0, 1, workers=workers))


def test_bad_input_in_a_worker_is_one_line() -> None:
    data = _data()
    data.images = BadImages()
    with pytest.raises(InputError, match=r"^crop [0-9]+ is damaged$"):
        next(load_batches(data, 0, 1, workers=1))


def test_identities_that_cannot_be_shared_evenly_are_refused() -> None:
    with pytest.raises(InputError, match=r"a step of 6 images has 3 identities, which 2 processes cannot share"):
        _data(0, 2, images_per_step=6).require_even_parts(1)
    with pytest.raises(InputError, match="accumulate: a step of 2 identities cannot be cut into 4 parts"):
        _data(0, 2).require_even_parts(4)
    _data(0, 2).require_even_parts(2)
