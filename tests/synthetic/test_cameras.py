import numpy as np
import pytest

from reappear.synthetic import Camera, draw_cameras


def cameras(**settings: float) -> list[Camera]:
    return draw_cameras(3, **{"size": (240, 180), "rate": 8.0, "cast": 0.12, "degrade": 1.0, "seed": 0, **settings})


def test_farther_ground_is_higher_in_the_frame() -> None:
    for camera in cameras():
        z = np.linspace(camera.near, camera.wall, 9)
        assert (np.diff(camera.row(z)) < 0).all()
        assert camera.row(z)[0] <= 180
        assert 0 < camera.row(z)[-1] < 90


@pytest.mark.parametrize("cast", [0.0, 0.12, 0.4])
def test_gains_lie_within_cast(cast: float) -> None:
    gains = np.array([camera.gain for seed in range(10) for camera in cameras(cast=cast, seed=seed)])
    assert np.abs(gains - 1).max() <= cast + 1e-3
    assert np.abs(gains - 1).max() >= 0.8 * cast


def test_cameras_differ() -> None:
    a, b, c = cameras()
    for name in ("seed", "focal", "elevation", "horizon", "gain", "exposure", "blur", "noise", "theme"):
        assert len({getattr(camera, name) for camera in (a, b, c)}) == 3, name


def test_degrade_0_adds_no_blur_and_no_noise() -> None:
    (camera, *_) = cameras(degrade=0.0)
    scene = np.random.default_rng(0).integers(0, 256, (180, 240, 3), np.uint8)
    seen = camera.capture(scene, 0)
    assert all(len(np.unique(seen[scene[..., 0] == level][:, 0])) == 1 for level in (10, 100, 200))


def test_noise_has_the_given_deviation_and_differs_between_frames() -> None:
    (camera, *_) = cameras()
    grey = np.full((180, 240, 3), 128, np.uint8)
    first, second = (camera.capture(grey, "film", number).astype(float) for number in (0, 1))
    assert camera.noise * 0.9 < (first - first.mean((0, 1))).std() < camera.noise * 1.3
    assert (first != second).mean() > 0.5
    assert (camera.capture(grey, "film", 0) == first).all()
