import dataclasses

import cv2
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reappear.core import generator
from reappear.train.color_augment import augment_colors
from reappear.train.views import COLOR_PARAMS, SAME_COLOURS, ViewSettings

SETTINGS = ViewSettings(local_views=1, cast=0.1, gray=0.3, solarise=0.5, erase=0.5)


def _photo(seed: int, height: int = 80, width: int = 40) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = np.linspace(0, 1, height)[:, None, None] * random.integers(0, 200, 3)
    return np.clip(rows + random.normal(40, 25, (height, width, 3)), 0, 255).astype(np.uint8)


def _both(settings: ViewSettings, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    cutter = settings.build(height=64, width=32, local_height=32, local_width=16)
    image = _photo(seed)
    host = cutter(image, generator(seed))
    cut = cutter.cut(image, generator(seed))
    device = [
        augment_colors(torch.from_numpy(view.copy()).permute(2, 0, 1)[None], torch.from_numpy(params[None]).float())[0]
        for view, params in zip(cut.views, cut.color_params, strict=True)
    ]
    return list(zip(host, [view.permute(1, 2, 0).numpy() for view in device], strict=True))


@pytest.mark.parametrize("name", ["jitter", "gray", "blur", "solarise", "erase"])
def test_each_kind_alone_is_what_the_cpu_does(name: str) -> None:
    off = {"jitter": 0.0, "gray": 0.0, "blur": (0.0, 0.0, 0.0), "solarise": 0.0, "erase": 0.0}
    on = {name: (1.0, 1.0, 1.0) if name == "blur" else 1.0}
    settings = dataclasses.replace(SETTINGS, **{**off, **on})
    changed = 0
    for seed in range(12):
        for host, device in _both(settings, seed):
            changed += host.std() > 0
            assert np.abs(host.astype(int) - device).max() <= 1, name
    assert changed


def test_all_together_agree_within_rounding() -> None:
    far, near = 0, 0
    for seed in range(40):
        for host, device in _both(SETTINGS, seed):
            difference = np.abs(host.astype(int) - device)
            far += int((difference > 2).sum())  # solarising turns 127 | 128 apart
            near += difference.size
    assert far / near < 1e-3


def test_images_of_a_batch_keep_their_own_color_params() -> None:
    views = torch.from_numpy(np.stack([_photo(i, 64, 32) for i in range(3)])).permute(0, 3, 1, 2).contiguous()
    color_params = torch.zeros(3, COLOR_PARAMS)
    color_params[:, :12] = torch.from_numpy(SAME_COLOURS).flatten()
    color_params[1, 12] = 1.5
    color_params[2, 13] = 1.0
    out = augment_colors(views, color_params)
    assert torch.equal(out[0], views[0])
    alone = augment_colors(views[1:2], color_params[1:2])
    assert torch.equal(out[1], alone[0])
    assert not torch.equal(out[1], views[1])
    assert torch.equal(out[2], torch.where(views[2] < 128, views[2], 255 - views[2]))


class _NoWaiting(TorchDispatchMode):
    """Refuses operations whose result the host needs, which waits for a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket.__name__ not in ("_local_scalar_dense", "nonzero", "masked_select", "equal")
        return func(*args, **(kwargs or {}))


def test_the_host_does_not_wait_for_the_device() -> None:
    views, color_params = torch.zeros(2, 3, 64, 32, dtype=torch.uint8), torch.zeros(2, COLOR_PARAMS)
    color_params[0, 12] = 1.5
    with _NoWaiting():
        augment_colors(views, color_params)


@pytest.mark.parametrize(("height", "width", "sigma"), [(64, 32, 0.1), (64, 32, 2.0), (7, 5, 0.7), (16, 8, 2.0)])
def test_blur_is_that_of_opencv_up_to_the_border(height: int, width: int, sigma: float) -> None:
    image = _photo(1, height, width)
    color_params = torch.zeros(1, COLOR_PARAMS)
    color_params[:, :12] = torch.from_numpy(SAME_COLOURS).flatten()
    color_params[:, 12] = sigma
    ours = augment_colors(torch.from_numpy(image).permute(2, 0, 1)[None], color_params)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - cv2.GaussianBlur(image, (0, 0), sigma)).max() <= 1


def test_a_box_is_erased_to_the_mean_colour() -> None:
    settings = dataclasses.replace(SETTINGS, erase=1.0, erase_area=(0.2, 0.4))
    crop = settings.build(height=64, width=32, local_height=32, local_width=16)
    color_params = crop.cut(_photo(0), generator(0)).color_params
    for (height, width), params in zip([(64, 32), (64, 32), (32, 16)], color_params, strict=True):
        left, top, w, h = params[14:]
        assert left >= 0
        assert left + w <= width
        assert top >= 0
        assert top + h <= height
        assert 0.15 < w * h / (height * width) < 0.45
