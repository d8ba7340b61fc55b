import multiprocessing
import os
import signal
import subprocess

import numpy as np
import pytest
import torch

from reappear.core import EngineError, InputError
from reappear.train.batches import IdentityBatch, StepBatches, batches
from reappear.train.sampler import IdentitySampler
from reappear.train.views import ViewSettings

IDENTITY = np.repeat(np.arange(6), 4)
IMAGES = [np.random.default_rng(i).integers(0, 256, (20, 10, 3), dtype=np.uint8) for i in range(24)]
CROPS = ViewSettings(local_views=1).build(height=16, width=8, local_height=8, local_width=4)


def _data(rank: int = 0, world: int = 1, images_per_step: int = 8, steps: int = 10) -> StepBatches:
    sampler = IdentitySampler(IDENTITY, images_per_step=images_per_step, steps=steps, stages=((0.0, 2),), seed=0)
    return StepBatches(IMAGES, IDENTITY, sampler, CROPS, seed=0, rank=rank, world=world)


def _equal(a: IdentityBatch, b: IdentityBatch) -> bool:
    return torch.equal(a.identity, b.identity) and all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))


def test_axes_are_dimensions() -> None:
    batch = _data()[0]
    assert [tuple(view.shape) for view in batch.views] == [(4, 2, 3, 16, 8)] * 2 + [(4, 2, 3, 8, 4)]
    assert batch.identity.shape == (4,)


def test_a_step_is_the_same_whenever_and_by_whomever_it_is_made() -> None:
    data = _data()
    ahead = list(batches(data, 2, 5, workers=1))
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
    source = batches(_data(), 0, 10, workers=1)
    next(source)
    for name in ("TERM", "INT"):  # from another process: SIGTERM from the one that trains ends a worker
        subprocess.run(["kill", f"-{name}", str(_workers()[0])], check=True)
    assert len(list(source)) == 9


def test_killed_worker_is_named() -> None:
    source = batches(_data(steps=10_000), 0, 10_000, workers=1)
    next(source)
    worker = _workers()[0]
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(EngineError) as caught:
        list(source)
    assert f"{worker} (SIGKILL)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_input_in_a_worker_is_one_line() -> None:
    data = _data()
    data._images = BadImages()
    with pytest.raises(InputError, match=r"^crop [0-9]+ is damaged$"):
        next(batches(data, 0, 1, workers=1))


def test_two_processes_see_together_what_one_sees() -> None:
    whole, parts = _data()[3], [_data(rank, 2)[3] for rank in range(2)]
    joined = IdentityBatch(
        [torch.cat(views) for views in zip(*(part.views for part in parts), strict=True)],
        torch.cat([part.identity for part in parts]),
    )
    assert _equal(whole, joined)


def test_identities_that_cannot_be_shared_evenly_are_refused() -> None:
    with pytest.raises(InputError, match=r"6 images are 3 identities .* which 2 processes cannot share"):
        _data(0, 2, images_per_step=6).require_even_parts(1)
    with pytest.raises(InputError, match="accumulate: 2 identities of a step cannot be cut into 4 parts"):
        _data(0, 2).require_even_parts(4)
    _data(0, 2).require_even_parts(2)
