"""Random cameras: position, colour response, blur, noise and compression."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Int16, UInt8

from reappear.core import generator

Theme = Literal["street", "plaza", "station", "park"]
_THEMES: tuple[Theme, ...] = ("street", "plaza", "station", "park")


@dataclass(frozen=True)
class Camera:
    """One fixed camera over flat ground, with a wall or hedge at the back.

    The world's axes are metres: x to the right of the camera, z away from it. A point at (x, z) projects to column
    `width / 2 + focal * x / z`, its foot to row `horizon + focal * elevation / z`, at `focal / z` pixels a metre.

    Attributes:
        name: Prefix of the names of its films.
        seed: Seed of its background and noise.
        theme: Kind of place.
        size: Width and height of a frame, in pixels.
        rate: Frames a second.
        focal: Focal length in pixels.
        elevation: Height above the ground, in metres.
        horizon: Row of the horizon; negative = above the frame.
        wall: Distance of the wall in the middle of the frame, in metres.
        slant: How much the wall recedes to the right: metres of z for each metre of x.
        doors: x of the doors that people come out of.
        gain: Factor of red, green and blue: its colour cast.
        exposure: Factor of brightness.
        gamma: Exponent of the tone curve.
        blur: Standard deviation in pixels.
        noise: Standard deviation in grey levels.
        crf: Quality of its H.264 encoder; higher is worse.
        light: Direction of the light: -1 = left, 1 = right.
    """

    name: str
    seed: int
    theme: Theme
    size: tuple[int, int]
    rate: float
    focal: float
    elevation: float
    horizon: float
    wall: float
    slant: float
    doors: tuple[float, ...]
    gain: tuple[float, float, float]
    exposure: float
    gamma: float
    blur: float
    noise: float
    crf: int
    light: float

    @property
    def pitch(self) -> float:
        """Angle below the horizontal, in radians."""
        return float(np.arctan((self.size[1] / 2 - self.horizon) / self.focal))

    @property
    def near(self) -> float:
        """Distance of the nearest visible ground, in metres."""
        return self.focal * self.elevation / (self.size[1] - 6 - self.horizon)

    def column(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Column of a point of the world, in pixels."""
        return np.asarray(self.size[0] / 2 + self.focal * x / z)

    def row(self, z: np.ndarray) -> np.ndarray:
        """Row of the ground at a distance, in pixels."""
        return np.asarray(self.horizon + self.focal * self.elevation / z)

    def wall_at(self, x: np.ndarray | float) -> np.ndarray:
        """Distance of the wall at x, in metres."""
        return np.asarray(self.wall + self.slant * np.asarray(x))

    def half_view(self, z: float) -> float:
        """Half of the visible width at a distance, in metres."""
        return self.size[0] / 2 * z / self.focal

    def capture(self, scene: UInt8[np.ndarray, "h w 3"], *moment: int | str) -> UInt8[np.ndarray, "h w 3"]:
        """Applies colour cast, exposure, tone curve, blur and noise.

        Args:
            scene: RGB image without camera effects.
            moment: Seed of the noise, beside the camera's.
        """
        seen = cv2.LUT(scene, _tones(self.gain, self.exposure, self.gamma))
        if self.blur > 0:
            seen = cv2.GaussianBlur(seen, (0, 0), self.blur)
        if self.noise > 0:
            grain = _grain(self.seed, self.size, self.noise)
            down, right = generator(self.seed, "grain", *moment).integers(_SLACK, size=2)
            seen = cv2.add(seen, grain[down : down + len(seen), right : right + seen.shape[1]], dtype=cv2.CV_8U)
        return np.asarray(seen)


_SLACK = 96  # pixels by which one sheet of noise is larger than a frame


@lru_cache(maxsize=16)
def _tones(gain: tuple[float, ...], exposure: float, gamma: float) -> UInt8[np.ndarray, "1 256 3"]:
    levels = np.linspace(0, 1, 256)[:, None] ** gamma * np.array(gain) * exposure
    return np.asarray(np.clip(np.rint(255 * levels), 0, 255).astype(np.uint8)[None])


@lru_cache(maxsize=16)
def _grain(seed: int, size: tuple[int, int], noise: float) -> Int16[np.ndarray, "h w 3"]:
    width, height = size
    rng = generator(seed, "grain sheet")
    grey = rng.normal(0, noise, (height + _SLACK, width + _SLACK, 1))
    colour = rng.normal(0, 0.5 * noise, (height + _SLACK, width + _SLACK, 3))
    return np.rint(grey + colour).astype(np.int16)


def draw_cameras(
    count: int, *, size: tuple[int, int], rate: float, cast: float, degrade: float, seed: int, tallest: float = 140.0
) -> list[Camera]:
    """Draws random cameras.

    Args:
        count: Number of cameras.
        size: Width and height of their frames.
        rate: Frames a second.
        cast: Largest colour cast: each channel's gain lies within 1 ± cast.
        degrade: Factor of blur, noise and compression; 1 = ordinary surveillance, 0 = none.
        seed: Random seed.
        tallest: Height in pixels of an ordinary person at the front edge, for a frame 320 pixels high.
    """
    return [_draw_camera(i, size, rate, cast, degrade, generator(seed, "camera", i), tallest) for i in range(count)]


def _draw_camera(
    number: int,
    size: tuple[int, int],
    rate: float,
    cast: float,
    degrade: float,
    rng: np.random.Generator,
    tallest: float,
) -> Camera:
    def draw(low: float, high: float, digits: int = 3) -> float:
        return round(float(rng.uniform(low, high)), digits)

    width, height = size
    near_scale = tallest / 1.72 * height / 320 * draw(0.92, 1.06)  # pixels a metre at the front edge
    far_scale = near_scale * draw(0.5, 0.56)
    wall_row = height * draw(0.36, 0.44)
    # Rows of front edge and wall fix elevation and horizon.
    elevation = (height - 6 - wall_row) / (near_scale - far_scale)
    horizon = wall_row - far_scale * elevation
    focal = width * draw(1.0, 1.3)
    wall = focal / far_scale
    slant = draw(-0.22, 0.22)
    half = width / 2 * wall / focal
    doors = sorted(round(float(place * half), 3) for place in (rng.uniform(-0.62, -0.3), rng.uniform(0.3, 0.62)))
    gain = 1 + cast * rng.uniform(-1, 1, 3)
    return Camera(
        name=f"c{number}",
        seed=int(rng.integers(1 << 31)),
        theme=_THEMES[number % len(_THEMES)],
        size=size,
        rate=rate,
        focal=round(focal, 3),
        elevation=round(elevation, 3),
        horizon=round(horizon, 3),
        wall=round(wall, 3),
        slant=slant,
        doors=tuple(doors),
        gain=(round(float(gain[0]), 3), round(float(gain[1]), 3), round(float(gain[2]), 3)),
        exposure=draw(0.86, 1.1),
        gamma=draw(0.88, 1.15),
        blur=round(degrade * draw(0.35, 0.8), 3),
        noise=round(degrade * draw(1.5, 3.5), 3),
        crf=int(np.clip(round(18 + degrade * draw(4.0, 10.0)), 0, 40)),
        light=draw(0.3, 0.8) * (1 if rng.random() < 0.5 else -1),
    )
