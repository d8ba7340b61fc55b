"""Random paths over the ground, and a schedule of walks that limits crowding and overlap."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from reappear.core import generator

from .cameras import Camera
from .people import Person

_STEP = 0.05  # seconds between the samples of a path
_SMOOTH = 0.45  # seconds over which corners are rounded
_TURN = 0.35  # seconds over which a body turns


@dataclass(frozen=True)
class Walk:
    """One person's path through one film.

    Attributes:
        person: Id.
        knots: Time (s of the film), x, z (m); the path is straight between them, with rounded corners.
        phase: Of the gait at the first knot, in radians.
    """

    person: int
    knots: tuple[tuple[float, float, float], ...]
    phase: float

    @property
    def start(self) -> float:
        """Start time in seconds of the film."""
        return self.knots[0][0]

    @property
    def end(self) -> float:
        """End time in seconds of the film."""
        return self.knots[-1][0]

    def shifted(self, seconds: float) -> "Walk":
        """The same path, `seconds` later."""
        return Walk(self.person, tuple((round(t + seconds, 3), x, z) for t, x, z in self.knots), self.phase)

    @cached_property
    def _samples(self) -> Float[np.ndarray, "6 n"]:
        """Time since the start, x, z, heading, metres walked, speed."""
        knots = np.array(self.knots)
        since = np.arange(0, self.end - self.start + _STEP, _STEP)
        place = np.stack([np.interp(since, knots[:, 0] - self.start, knots[:, axis]) for axis in (1, 2)])
        place = _smooth(place, _SMOOTH)
        velocity = np.gradient(place, _STEP, axis=1)
        speed = np.hypot(*velocity)
        # Facing: 0 = towards the camera (z falls), pi/2 = to the right.
        heading = np.arctan2(velocity[0], -velocity[1])
        moving = speed > 0.15
        if moving.any():
            heading = heading[moving][np.clip(np.cumsum(moving) - 1, 0, None)]
        heading = _smooth(np.unwrap(heading)[None], _TURN)[0]
        walked = np.concatenate([[0.0], np.cumsum(speed[1:] * _STEP)])
        return np.stack([since, *place, heading, walked, speed])

    def at(self, times: Float[np.ndarray, " n"]) -> Float[np.ndarray, "5 n"]:
        """x, z, heading, metres walked and speed at these times of the film."""
        samples = self._samples
        since = times - self.start
        return np.stack([np.interp(since, samples[0], row) for row in samples[1:]])


def _smooth(rows: np.ndarray, seconds: float) -> np.ndarray:
    half = round(seconds / _STEP / 2)
    padded = np.pad(rows, ((0, 0), (half, half)), mode="edge")
    total = np.cumsum(np.pad(padded, ((0, 0), (1, 0))), axis=1)
    return np.asarray((total[:, 2 * half + 1 :] - total[:, : -2 * half - 1]) / (2 * half + 1))


def draw_walk(person: Person, camera: Camera, rng: np.random.Generator) -> Walk:
    """Draws a path through a camera's view that starts at time 0 and starts and ends out of view.

    People cross the view, come out of a door, go in at one, stroll, or turn back and leave where they came from.
    """
    speed = float(rng.uniform(1.35, 1.95))
    kind = ("cross", "slant", "out of a door", "into a door", "turn back", "stroll")[
        int(rng.choice(6, p=(0.26, 0.24, 0.16, 0.14, 0.1, 0.1)))
    ]
    side = -1 if rng.random() < 0.5 else 1

    def outside(side: int, z: float) -> tuple[float, float]:
        return side * (camera.half_view(z) + 0.55), z

    def lane(low: float = 0.0, high: float = 1.0) -> float:
        """A distance between the front edge and the wall."""
        near, far = camera.near + 0.25, camera.wall - abs(camera.slant) * camera.half_view(camera.wall) - 0.9
        return float(near + rng.uniform(low, high) * max(far - near, 0.1))

    def inside(z: float) -> tuple[float, float]:
        return float(rng.uniform(-0.6, 0.6)) * camera.half_view(z), z

    def through_door() -> list[tuple[float, float]]:
        door = camera.doors[int(rng.integers(len(camera.doors)))]
        wall = float(camera.wall_at(door))
        hidden = door + (1.5 if rng.random() < 0.5 else -1.5)
        return [(hidden, wall + 0.9), (door, wall + 0.8), (door, wall - 0.7)]

    if kind == "cross":
        z = lane()
        way = [outside(side, z), outside(-side, z + float(rng.uniform(-0.3, 0.3)))]
    elif kind == "slant":
        way = [outside(side, lane(0.7, 1.0)), outside(-side, lane(0.0, 0.25))]
        way = way[::-1] if rng.random() < 0.5 else way
    elif kind == "out of a door":
        way = [*through_door(), inside(lane(0.0, 0.3)), outside(side, lane(0.0, 0.3))]
    elif kind == "into a door":
        way = [*through_door(), inside(lane(0.0, 0.3)), outside(side, lane(0.0, 0.3))][::-1]
    elif kind == "turn back":
        z = lane(0.0, 0.7)
        far = (float(rng.uniform(-0.1, 0.4)) * -side * camera.half_view(z), z)
        way = [outside(side, z), far, outside(side, z + 0.5)]
    else:
        way = [
            outside(side, lane(0.5, 1.0)),
            inside(lane(0.5, 1.0)),
            inside(lane(0.0, 0.3)),
            outside(-side, lane(0.0, 0.4)),
        ]
    knots, time = [], 0.0
    for i, (x, z) in enumerate(way):
        if i:
            time += float(np.hypot(x - way[i - 1][0], z - way[i - 1][1])) / speed
        knots.append((round(time, 3), round(x, 3), round(z, 3)))
    return Walk(person.id, tuple(knots), round(float(rng.uniform(0, 2 * np.pi)), 3))


def approximate_boxes(
    walk: Walk, person: Person, camera: Camera, times: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n 4"]:
    """Approximate bounding boxes of a person: left, top, right, bottom in pixels."""
    x, z, *_ = walk.at(times)
    tall = person.height * camera.focal / z
    column, row = camera.column(x, z), camera.row(z)
    half = 0.23 * tall
    return np.stack([column - half, row - tall, column + half, row], axis=1)


def schedule_walks(
    walkers: list[Person], camera: Camera, *, lead_in: float, crowd: int, overlap: float, seed: int, film: str
) -> tuple[list[Walk], int]:
    """Assigns each walk the earliest start time that the limits allow.

    Args:
        walkers: One entry for each appearance.
        camera: The camera that they pass.
        lead_in: Seconds without people at the beginning.
        crowd: Most people in view at once.
        overlap: Largest share, in [0, 1], of a person's time in which the box may overlap another one.
        seed: Seed of the paths.
        film: Name of the film, part of the seed.

    Returns:
        The walks sorted by start time; the number of frames of the film.
    """
    rate = camera.rate
    first = int(np.ceil(lead_in * rate)) + 1
    boxes = np.full((first + 64, crowd, 4), np.nan)
    returns: dict[int, int] = {}  # person -> first frame of a possible return
    walks: list[Walk] = []
    last = earliest = first
    for number, person in enumerate(walkers):
        walk = draw_walk(person, camera, generator(seed, "way", film, number))
        times = np.arange(0, walk.end, 1 / rate)
        mine = approximate_boxes(walk, person, camera, times)
        area = (mine[:, 2] - mine[:, 0]) * (mine[:, 3] - mine[:, 1])
        start = max(earliest, returns.get(person.id, 0))
        while True:
            if start + len(times) > len(boxes):
                boxes = np.concatenate([boxes, np.full((len(times) + 256, crowd, 4), np.nan)])
            there = boxes[start : start + len(times)]
            free = np.flatnonzero(np.isnan(there[..., 0]).all(axis=0))
            if len(free):
                width = np.fmin(there[..., 2], mine[:, None, 2]) - np.fmax(there[..., 0], mine[:, None, 0])
                height = np.fmin(there[..., 3], mine[:, None, 3]) - np.fmax(there[..., 1], mine[:, None, 1])
                shared = np.where(np.isnan(there[..., 0]), 0, np.clip(width, 0, None) * np.clip(height, 0, None))
                if np.mean((shared > 0.04 * area[:, None]).any(axis=1)) <= overlap:
                    break
            start += 2
        there[:, free[0]] = mine
        walks.append(walk.shifted(start / rate))
        last = max(last, start + len(times))
        returns[person.id] = start + len(times) + int(2 * rate)
        filled = np.isfinite(boxes[earliest:, :, 0]).all(axis=1)
        earliest += int(np.argmin(filled)) if not filled.all() else len(filled)
    return sorted(walks, key=lambda walk: walk.start), last + 2
