import subprocess
import sys

import cv2
import numpy as np
import pytest

from reappear.core import SettingsError
from reappear.models.preprocessing import Preprocessing, resize_images


def test_pixels_are_scaled_shifted_and_ordered() -> None:
    image = np.full((1, 1, 1, 3), (51, 102, 255), np.uint8)
    rgb = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0)).normalise(image)
    assert np.allclose(rgb.reshape(3), [(0.2 - 0.1) / 0.5, 0.4 - 0.2, (1 - 0.3) / 2], atol=1e-6)
    bgr = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale=1.0, channels="bgr").normalise(image)
    assert bgr.reshape(3).tolist() == [255, 102, 51]


@pytest.mark.parametrize(
    ("height", "width", "rule"),
    [(64, 32, cv2.INTER_AREA), (32, 40, cv2.INTER_AREA), (16, 8, cv2.INTER_CUBIC), (100, 12, cv2.INTER_CUBIC)],
)
def test_images_are_averaged_where_neither_side_grows(height: int, width: int, rule: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_images([image], 32, 16)[0], cv2.resize(image, (16, 32), interpolation=rule))


def test_images_of_the_inputs_size_stay_as_they_are() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Preprocessing(height=32, width=16).resize(list(images)), images)


@pytest.mark.parametrize(
    "wrong", [{"height": 0}, {"std": (0.0, 1.0, 1.0)}, {"channels": "gray"}, {"interpolation": "linear"}]
)
def test_preprocessing_that_no_network_has_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Preprocessing(**wrong)


def test_preprocessing_imports_no_torch() -> None:
    code = "import sys, reappear.models.preprocessing; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
