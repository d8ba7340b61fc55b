import dataclasses

import numpy as np
import pytest

from reappear.synthetic import Camera, draw_cameras
from reappear.synthetic.backdrop import alpha_composite, render_backdrop


def camera(theme: str = "street", seed: int = 0) -> Camera:
    made = draw_cameras(1, size=(240, 180), rate=8.0, cast=0.1, degrade=1.0, seed=seed)[0]
    return dataclasses.replace(made, theme=theme)


@pytest.mark.parametrize("theme", ["street", "plaza", "station", "park"])
def test_backdrop_has_structure(theme: str) -> None:
    image = render_backdrop(camera(theme)).image.astype(float)
    wall, ground = image[:40].mean((0, 1)), image[120:].mean((0, 1))
    assert np.abs(wall - ground).max() > 15
    # Neighbours are alike, far pixels are not: structure, not noise.
    near = np.abs(image[:, 1:] - image[:, :-1]).mean()
    far = np.abs(image[:, 60:] - image[:, :-60]).mean()
    assert far > 1.5 * near


def test_only_doors_are_openings_in_the_wall() -> None:
    view = camera()
    opening = render_backdrop(view).opening
    z = view.wall_at(np.array(view.doors))
    columns = view.column(np.array(view.doors), z).astype(int)
    rows = (view.row(z) - 1.2 * view.focal / z).astype(int)
    assert opening[rows, columns].all()
    between = int(columns.mean())
    assert not opening[rows[0], between]
    assert opening[-1].all()


def test_alpha_composite_is_the_over_operation_and_stays_inside() -> None:
    rng = np.random.default_rng(0)
    alpha = rng.integers(0, 256, (6, 5, 1))
    colour = rng.integers(0, 256, (6, 5, 3))
    pixels = np.concatenate([colour * alpha // 255, alpha], axis=2).astype(np.uint8)
    ground = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    image = ground.copy()
    inside = alpha_composite(image, pixels, -2, -1)
    assert inside == (slice(1, 5), slice(2, 5))
    share = alpha[1:5, 2:5] / 255
    np.testing.assert_allclose(image[:, :3], colour[1:5, 2:5] * share + ground[:, :3] * (1 - share), atol=1.6)
    np.testing.assert_array_equal(image[:, 3], ground[:, 3])
    outside = alpha_composite(image, pixels, 40, 0)
    assert outside == (slice(0, 0), slice(0, 0))
