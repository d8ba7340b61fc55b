"""Renders one frame, people and props from far to near, with boxes and visibility."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from .backdrop import Backdrop, alpha_composite, render_backdrop
from .cameras import Camera
from .figure import Pose, Sprite, render_figure
from .people import Person
from .walks import Walk

_BODY = 96  # coverage, of 255, from which a pixel counts as the person's
_CYCLE = 0.82  # metres of one gait cycle, for each metre of height


@dataclass(frozen=True)
class Frame:
    """A frame and its ground truth.

    Attributes:
        image: RGB.
        person: Ids of the visible people.
        box: Left, top, right, bottom in pixels, clipped to the frame; right and bottom are exclusive.
        visibility: Share of each body, in [0, 1], that neither others nor the border hide.
    """

    image: UInt8[np.ndarray, "h w 3"]
    person: Int[np.ndarray, " n"]
    box: Float[np.ndarray, "n 4"]
    visibility: Float[np.ndarray, " n"]


def render_frame(
    camera: Camera, walks: Sequence[Walk], people: Mapping[int, Person], time: float, *, shadow: float = 0.4
) -> Frame:
    """Renders the frame at `time`, without the camera's effects.

    Args:
        camera: The camera.
        walks: All walks of the film; those not under way are ignored.
        people: People by id.
        time: Seconds of the film.
        shadow: Darkness of the shadows at people's feet.
    """
    view = render_backdrop(camera)
    image = view.image.copy()
    owner = np.zeros(image.shape[:2], np.uint8)  # 0 = no person, k = the k-th person present
    present = [walk for walk in walks if walk.start <= time <= walk.end]
    # (distance, what): people and props in one order, far to near.
    things: list[tuple[float, int]] = [(prop.z, -1 - i) for i, prop in enumerate(view.props)]
    states = []
    for i, walk in enumerate(present):
        x, z, heading, walked, speed = walk.at(np.array([time]))[:, 0]
        states.append((float(x), float(z), float(heading), float(walked), float(speed)))
        things.append((float(z), i))
    sprites: dict[int, tuple[Sprite, int]] = {}
    for _, what in sorted(things, reverse=True):
        if what < 0:
            prop = view.props[-1 - what]
            inside = alpha_composite(image, prop.pixels, prop.left, prop.top)
            _mark_owner(owner, prop.pixels[..., 3], prop.left, prop.top, inside, 0)
            continue
        sprite = render_person(people[present[what].person], camera, *states[what], present[what].phase, shadow)
        whole = int(np.count_nonzero(sprite.body >= _BODY))
        if whole == 0:
            continue
        if states[what][1] > camera.wall_at(states[what][0]):
            sprite = _behind_wall(sprite, view)
        inside = alpha_composite(image, sprite.pixels, sprite.left, sprite.top)
        _mark_owner(owner, sprite.body, sprite.left, sprite.top, inside, what + 1)
        sprites[what] = sprite, whole
    return _truth(image, owner, [walk.person for walk in present], sprites)


def render_person(
    person: Person,
    camera: Camera,
    x: float,
    z: float,
    heading: float,
    walked: float,
    speed: float,
    phase: float,
    shadow: float,
) -> Sprite:
    """Renders one person at a place on the ground."""
    # Off the axis, the ray to the camera is not parallel to it.
    pose = Pose(
        facing=heading + math.atan2(x, z),
        phase=phase + 2 * math.pi * walked / (_CYCLE * person.height),
        stride=min(speed / 1.35, 1.15),
        pitch=camera.pitch,
        light=camera.light,
    )
    column, row = float(camera.column(np.array(x), np.array(z))), float(camera.row(np.array(z)))
    return render_figure(person, pose, x=column, y=row, height=person.height * camera.focal / z, shadow=shadow)


def _mark_owner(
    owner: UInt8[np.ndarray, "h w"],
    cover: UInt8[np.ndarray, "a b"],
    left: int,
    top: int,
    inside: tuple[slice, slice],
    who: int,
) -> None:
    rows, columns = inside
    region = owner[top + rows.start : top + rows.stop, left + columns.start : left + columns.stop]
    region[cover[inside] >= _BODY] = who


def _behind_wall(sprite: Sprite, view: Backdrop) -> Sprite:
    """The part of a person that is visible through a door."""
    height, width = view.opening.shape
    rows = np.arange(sprite.top, sprite.top + sprite.body.shape[0])
    columns = np.arange(sprite.left, sprite.left + sprite.body.shape[1])
    seen = view.opening[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))]
    return Sprite(sprite.pixels * seen[..., None], sprite.body * seen, sprite.left, sprite.top)


def _truth(
    image: UInt8[np.ndarray, "h w 3"],
    owner: UInt8[np.ndarray, "h w"],
    ids: Sequence[int],
    sprites: Mapping[int, tuple[Sprite, int]],
) -> Frame:
    height, width = owner.shape
    person, box, visibility = [], [], []
    seen = np.bincount(owner.ravel(), minlength=len(ids) + 1)
    for i in sorted(sprites):
        sprite, whole = sprites[i]
        rows, columns = np.flatnonzero(sprite.body.any(axis=1)), np.flatnonzero(sprite.body.any(axis=0))
        if not len(rows):
            continue
        x0, x1 = sprite.left + columns[0], sprite.left + columns[-1] + 1
        y0, y1 = sprite.top + rows[0], sprite.top + rows[-1] + 1
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if x1 <= x0 or y1 <= y0:
            continue
        person.append(ids[i])
        box.append((x0, y0, x1, y1))
        visibility.append(seen[i + 1] / whole)
    return Frame(
        image,
        np.array(person, np.int64),
        np.array(box, np.float64).reshape(-1, 4),
        np.array(visibility, np.float64).round(4),
    )
