import colorsys
import dataclasses

import numpy as np
import pytest

from reappear.core import generator
from reappear.train.views import MultiCrop, ViewSettings

PLAIN = ViewSettings(local_views=1, flip=0.0, jitter=0.0, gray=0.0, blur=(0.0, 0.0, 0.0), solarise=0.0)


def _build(settings: ViewSettings, height: int = 64, width: int = 32) -> MultiCrop:
    return settings.build(height=height, width=width, local_height=height // 2, local_width=width // 2)


def _image(seed: int = 0, height: int = 80, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _flat(*colour: int) -> np.ndarray:
    return np.full((80, 40, 3), colour, np.uint8)


def test_two_global_views_then_local_ones() -> None:
    views = _build(ViewSettings(local_views=3))(_image(), generator(0))
    assert [view.shape for view in views] == [(64, 32, 3)] * 2 + [(32, 16, 3)] * 3
    assert all(view.dtype == np.uint8 for view in views)


def test_views_depend_on_the_generator_alone() -> None:
    crops = _build(ViewSettings(local_views=2))
    for a, b in zip(crops(_image(), generator(1, 2)), crops(_image(), generator(1, 2)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(crops(_image(), generator(1, 2)), crops(_image(), generator(1, 3)), strict=True)
    )


@pytest.mark.parametrize("settings", [PLAIN, ViewSettings(local_views=1)])
def test_the_count_of_numbers_drawn_never_changes(settings: ViewSettings) -> None:
    random = generator(0)
    _build(settings)(_image(), random)
    untouched = generator(0)
    untouched.random((3, 35))
    assert random.random() == untouched.random()


def test_boxes_have_the_asked_area_and_shape() -> None:
    crops = _build(PLAIN)
    boxes = np.array([crops._boxes(200, 100, generator(i).random((3, 22))) for i in range(300)])
    areas = boxes[..., 2] * boxes[..., 3] / (200 * 100)
    ratios = boxes[..., 2] / boxes[..., 3]
    assert areas[:, :2].min() > 0.79
    assert 0.04 < areas[:, 2].min() < 0.1
    assert 0.7 < areas[:, 2].max() < 0.81
    assert ratios.min() > 0.38
    assert ratios.max() < 0.62
    assert (boxes[..., 0] + boxes[..., 2]).max() <= 100
    assert (boxes[..., 1] + boxes[..., 3]).max() <= 200
    assert {0, 199} & set(boxes[..., 1].ravel()) or boxes[..., 1].min() == 0


@pytest.mark.parametrize("shape", [(10, 200), (200, 10), (1, 1), (3, 2)])
def test_images_of_any_shape_give_views(shape: tuple[int, int]) -> None:
    views = _build(ViewSettings(local_views=1))(_image(0, *shape), generator(0))
    assert [view.shape for view in views] == [(64, 32, 3)] * 2 + [(32, 16, 3)]


def test_nothing_but_a_crop_when_all_is_off() -> None:
    for view in _build(PLAIN)(_flat(10, 120, 200), generator(0)):
        np.testing.assert_array_equal(view, np.broadcast_to(np.array([10, 120, 200], np.uint8), view.shape))


def test_flip_mirrors() -> None:
    plain = _build(PLAIN)(_image(), generator(5))
    mirrored = _build(dataclasses.replace(PLAIN, flip=1.0))(_image(), generator(5))
    for a, b in zip(plain, mirrored, strict=True):
        np.testing.assert_array_equal(a[:, ::-1], b)


def test_gray_is_luma() -> None:
    view = _build(dataclasses.replace(PLAIN, gray=1.0))(_flat(10, 120, 200), generator(0))[0]
    assert abs(int(view[0, 0, 0]) - round(0.299 * 10 + 0.587 * 120 + 0.114 * 200)) <= 1
    assert np.all(view == view[..., :1])


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue", "cast"])
def test_one_kind_of_jitter_does_what_its_name_says(name: str) -> None:
    strength = 0.1 if name == "hue" else 0.4
    none = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "cast": 0.0}
    crops = _build(dataclasses.replace(PLAIN, jitter=1.0, **{**none, name: strength}))
    image = np.concatenate([_flat(120, 60, 60), _flat(60, 90, 120)])
    seen = []
    for i in range(60):
        view = crops(image, generator(i))[0].reshape(-1, 3).astype(float)
        seen.append((view[5], view[-5], view.mean(axis=0)))
    top = np.array([x[0] for x in seen])
    both = np.array([np.abs(x[0] - x[1]).sum() for x in seen])
    luma = top @ [0.299, 0.587, 0.114]
    if name == "brightness":
        factor = top / [120, 60, 60]
        assert np.ptp(factor, axis=1).max() < 0.03
        assert factor.min() > 0.58
        assert factor.max() < 1.42
        assert np.ptp(factor[:, 0]) > 0.6
    elif name == "contrast":
        assert np.ptp(both) > 40
        means = np.array([x[2] @ [0.299, 0.587, 0.114] for x in seen])
        assert np.ptp(means) < 8  # about the mean luma, which only the place of the crop moves
    elif name == "saturation":
        assert np.ptp(luma) < 2
        assert np.ptp(top.max(axis=1) - top.min(axis=1)) > 30
    elif name == "hue":
        hues = np.array([colorsys.rgb_to_hsv(*(colour / 255))[0] for colour in top])
        hues = (hues + 0.5) % 1 - 0.5
        assert np.ptp(luma) < 2
        assert 0.1 < np.ptp(hues) < 0.32
    else:
        factor = top / [120, 60, 60]
        assert np.ptp(factor, axis=1).max() > 0.3
        assert factor.min() > 0.58
        assert factor.max() < 1.42


def test_the_mean_gray_of_contrast_follows_brightness_and_cast() -> None:
    crops = _build(dataclasses.replace(PLAIN, jitter=1.0, hue=0.1, saturation=0.4, cast=0.0))
    gray = crops(_flat(90, 90, 90), generator(3))[0]
    assert np.ptp(gray.reshape(-1, 3), axis=1).max() <= 1  # gray stays gray under all but a cast


def test_blur_and_solarise_belong_to_their_views() -> None:
    image = _image()
    plain = _build(PLAIN)(image, generator(0))
    blurred = _build(dataclasses.replace(PLAIN, blur=(1.0, 0.0, 1.0)))(image, generator(0))
    assert [np.array_equal(a, b) for a, b in zip(plain, blurred, strict=True)] == [False, True, False]
    assert blurred[0].std() < plain[0].std()
    solarised = _build(dataclasses.replace(PLAIN, solarise=1.0))(image, generator(0))
    assert [np.array_equal(a, b) for a, b in zip(plain, solarised, strict=True)] == [True, False, True]
    assert solarised[1].max() <= 127
