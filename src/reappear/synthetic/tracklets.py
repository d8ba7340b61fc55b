"""Synthetic tracklets without videos, with chosen amounts of tracker noise: the fast path for tests."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from reappear.core import InputError, TrackletSet, generator, lengths_to_offsets, offsets_to_owner, unit_rows

from .backdrop import alpha_composite, render_backdrop
from .cameras import Camera, draw_cameras
from .crops import jitter_box
from .people import Person, draw_people
from .scenes import render_person
from .walks import approximate_boxes, draw_walk

_SPACING = 0.25  # seconds between the crops of a tracklet


@dataclass(frozen=True, kw_only=True)
class TrackletPlan:
    """Number of tracklets and amounts of noise, which are exact up to rounding.

    Attributes:
        people: Number of people; each passes every camera.
        cameras: Number of cameras, one video each.
        visits: Visits of each person to each camera.
        crops: Crops of each visit.
        swapped: Share of crops that show another person.
        switched: Share of visits with an identity switch about midway.
        split: Share of visits split into two tracklets about midway.
        background: Share of crops without a person.
        seed: Random seed.
    """

    people: int
    cameras: int = 3
    visits: int = 1
    crops: int = 8
    swapped: float = 0.0
    switched: float = 0.0
    split: float = 0.0
    background: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class TrackletTruth:
    """Tracklets, the true person of each crop, and where the noise is. Each video is a camera.

    Attributes:
        offsets: Crops of tracklet `t` are `offsets[t]:offsets[t+1]`.
        video: Of each tracklet, rising.
        start: When each tracklet begins, in seconds.
        end: When it ends.
        walk: Walk of each tracklet; the parts of a split one share a walk.
        truth: The person on each crop, from 0; -1 = background.
        swapped: Crops that show another person who was present at the time.
        switched: Crops after an identity switch, which show another person to the end of the walk.
        background: Crops without a person.
    """

    offsets: Int[np.ndarray, " _"]
    video: Int[np.ndarray, " t"]
    start: Float[np.ndarray, " t"]
    end: Float[np.ndarray, " t"]
    walk: Int[np.ndarray, " t"]
    truth: Int[np.ndarray, " n"]
    swapped: Bool[np.ndarray, " n"]
    switched: Bool[np.ndarray, " n"]
    background: Bool[np.ndarray, " n"]


def draw_tracklets(plan: TrackletPlan) -> TrackletTruth:
    """Draws tracklets and their noise.

    Raises:
        InputError: The amounts of noise cannot be met.
    """
    people, cameras, crops = plan.people, plan.cameras, plan.crops
    if people < 2 and (plan.swapped or plan.switched):
        raise InputError(
            f"tracklets: {people} person cannot be swapped or switched with another; give 2 or more people"
        )
    wrong = plan.swapped + plan.switched + plan.background
    if wrong > 1:
        raise InputError(f"tracklets: shares of noise must not add up to more than 1, got {wrong}")
    if crops < 2 and (plan.split or plan.switched):
        raise InputError("tracklets: one crop cannot be split or switched midway; give 2 or more crops")
    rng = generator(plan.seed, "tracklets")
    per_camera = people * plan.visits
    walks, n = cameras * per_camera, cameras * per_camera * crops
    who = np.concatenate([rng.permutation(people) for _ in range(cameras * plan.visits)]).astype(np.int64)
    # In each camera a walk starts every half visit, so that two people are always present together.
    length = crops * _SPACING
    rank = np.arange(per_camera)
    begin = np.tile((rank + rank // people * 2) * length / 2, cameras)
    neighbour = np.arange(walks)
    neighbour = np.where(neighbour % people == people - 1, neighbour - 1, neighbour + 1)
    other = who[neighbour % walks]

    truth = np.repeat(who, crops)
    of_walk = np.repeat(np.arange(walks), crops)
    within = np.tile(np.arange(crops), walks)
    is_switched = np.zeros(n, bool)
    for walk in rng.choice(walks, round(plan.switched * walks), replace=False):
        is_switched |= (of_walk == walk) & (within >= _draw_middle(rng, crops))
    free = rng.permutation(np.flatnonzero(~is_switched))
    is_swapped, is_background = np.zeros(n, bool), np.zeros(n, bool)
    first, second = round(plan.swapped * n), round(plan.background * n)
    is_swapped[free[:first]] = True
    is_background[free[first : first + second]] = True
    truth = np.where(is_switched | is_swapped, other[of_walk], truth)
    truth[is_background] = -1

    cut = np.zeros(walks, np.int64)
    for walk in rng.choice(walks, round(plan.split * walks), replace=False):
        cut[walk] = _draw_middle(rng, crops)
    pieces = [
        piece
        for walk, c in enumerate(cut.tolist())
        for piece in ([(walk, 0, c), (walk, c, crops)] if c else [(walk, 0, crops)])
    ]
    walk, low, high = np.array(pieces, np.int64).T
    return TrackletTruth(
        offsets=lengths_to_offsets(high - low),
        video=walk // per_camera,
        start=begin[walk] + low * _SPACING,
        end=begin[walk] + (high - 1) * _SPACING,
        walk=walk,
        truth=truth,
        swapped=is_swapped,
        switched=is_switched,
        background=is_background,
    )


def _draw_middle(rng: np.random.Generator, crops: int) -> int:
    """A position in the middle third with at least one crop on either side."""
    return int(np.clip(round(crops * float(rng.uniform(1 / 3, 2 / 3))), 1, crops - 1))


def render_tracklets(
    plan: TrackletPlan, *, height: int = 64, width: int = 32, lookalikes: float = 0.0, cast: float = 0.12
) -> tuple[UInt8[np.ndarray, "n h w 3"], TrackletTruth]:
    """Renders crops directly, about a thousand a second.

    Args:
        plan: Number of tracklets and amounts of noise.
        height: Height of a crop in pixels.
        width: Width of a crop in pixels.
        lookalikes: See `draw_people`.
        cast: See `draw_cameras`.

    Returns:
        RGB crops; their ground truth.
    """
    truth = draw_tracklets(plan)
    people = draw_people(plan.people, lookalikes=lookalikes, seed=plan.seed)
    cameras = draw_cameras(plan.cameras, size=(448, 320), rate=1 / _SPACING, cast=cast, degrade=1.0, seed=plan.seed)
    images = np.empty((len(truth.truth), height, width, 3), np.uint8)
    tracklet = offsets_to_owner(truth.offsets)
    of_walk, of_video = truth.walk[tracklet], truth.video[tracklet]
    for walk in np.unique(of_walk):
        rows = np.flatnonzero(of_walk == walk)
        camera = cameras[int(of_video[rows[0]])]
        shown = [people[person] if person >= 0 else None for person in truth.truth[rows].tolist()]
        rng = generator(plan.seed, "tracklet", int(walk))
        for row, image in zip(rows.tolist(), _render_walk(camera, shown, rng, int(walk)), strict=True):
            images[row] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return images, truth


def _render_walk(
    camera: Camera, shown: list[Person | None], rng: np.random.Generator, walk: int
) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Crops along one path through a camera's view; the path does not depend on who is shown."""
    model = next((person for person in shown if person is not None), None) or draw_people(1, lookalikes=0.0, seed=0)[0]
    view = render_backdrop(camera).image
    tall, wide = view.shape[:2]
    while True:
        way = draw_walk(model, camera, rng)
        times = np.arange(0, way.end, 0.05)
        box = approximate_boxes(way, model, camera, times)
        x, z, *_ = way.at(times)
        clear = (box[:, 0] >= 0) & (box[:, 1] >= 0) & (box[:, 2] < wide) & (box[:, 3] < tall)
        clear &= z < camera.wall_at(x) - 0.3
        if np.count_nonzero(clear) >= 20:
            break
    times = times[clear]
    first = float(rng.uniform(times[0], max(times[0], times[-1] - len(shown) * _SPACING)))
    out = []
    for number, person in enumerate(shown):
        time = times[min(int(np.searchsorted(times, first + number * _SPACING)), len(times) - 1)]
        x, z, heading, walked, speed = (float(value) for value in way.at(np.array([time]))[:, 0])
        box = approximate_boxes(way, person or model, camera, np.array([time]))[0]
        if person is not None:
            sprite = render_person(person, camera, x, z, heading, walked, speed, way.phase, 0.4)
            rows, columns = np.flatnonzero(sprite.body.any(axis=1)), np.flatnonzero(sprite.body.any(axis=0))
            box = np.array(
                [sprite.left + columns[0], sprite.top + rows[0], sprite.left + columns[-1], sprite.top + rows[-1]],
                np.float64,
            )
        x0, y0, x1, y1 = jitter_box(box, (wide, tall), rng)
        patch = view[y0:y1, x0:x1].copy()
        if person is not None:
            alpha_composite(patch, sprite.pixels, sprite.left - x0, sprite.top - y0)
        out.append(camera.capture(patch, walk, number))
    return out


def embedded_tracklets(
    plan: TrackletPlan, *, dimensions: int = 64, noise: float = 0.35, camera_shift: float = 0.3
) -> tuple[TrackletSet, TrackletTruth]:
    """The same tracklets as embeddings: for each person a Gaussian cluster on the sphere, shifted by the camera.

    Args:
        plan: Number of tracklets and amounts of noise.
        dimensions: Width of an embedding.
        noise: Length of the noise that is added to a unit vector, half for each visit and half for each crop.
        camera_shift: Length of the vector that each camera adds.

    Returns:
        The tracklets; their ground truth.
    """
    truth = draw_tracklets(plan)
    rng = generator(plan.seed, "embedded tracklets")

    def scatter(rows: int, length: float) -> Float[np.ndarray, "rows d"]:
        return rng.normal(0, length / np.sqrt(dimensions), (rows, dimensions))

    owner = offsets_to_owner(truth.offsets)
    centre = scatter(plan.people, 1.0)
    clutter = scatter(len(truth.truth), 1.0)  # background crops have random directions
    rows = np.where((truth.truth >= 0)[:, None], centre[truth.truth], clutter)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows += scatter(plan.cameras, camera_shift)[truth.video[owner]]
    rows += scatter(int(truth.walk.max()) + 1, noise / np.sqrt(2))[truth.walk[owner]]
    rows += scatter(len(rows), noise / np.sqrt(2))
    return TrackletSet(unit_rows(rows), truth.video, truth.start, truth.end, truth.offsets), truth
