import numpy as np
import pytest

from reappear.core import generator
from reappear.synthetic import Camera, Walk, draw_cameras, draw_people
from reappear.synthetic.walks import approximate_boxes, draw_walk, schedule_walks


@pytest.fixture(scope="module")
def camera() -> Camera:
    return draw_cameras(1, size=(448, 320), rate=8.0, cast=0.1, degrade=1.0, seed=0)[0]


def test_straight_walk_has_constant_heading_and_speed() -> None:
    walk = Walk(1, ((1.0, -3.0, 8.0), (5.0, 3.0, 8.0)), 0.0)
    x, z, heading, walked, speed = walk.at(np.array([2.0, 3.0, 4.0]))
    np.testing.assert_allclose(x, [-1.5, 0, 1.5], atol=0.05)
    np.testing.assert_allclose(z, 8)
    np.testing.assert_allclose(heading, np.pi / 2)
    np.testing.assert_allclose(speed, 1.5, atol=0.01)
    np.testing.assert_allclose(np.diff(walked), 1.5, atol=0.01)


def test_heading_towards_the_camera_is_0() -> None:
    walk = Walk(1, ((0.0, 0.0, 12.0), (4.0, 0.0, 7.0)), 0.0)
    np.testing.assert_allclose(walk.at(np.array([1.0, 2.0]))[2], 0, atol=1e-6)


def test_heading_changes_smoothly() -> None:
    walk = Walk(1, ((0.0, -3.0, 8.0), (2.0, 0.0, 8.0), (4.0, -3.0, 8.4)), 0.0)
    heading = walk.at(np.arange(0, 4, 0.05))[2]
    assert np.abs(heading[-1] - heading[0]) > 2.5
    assert np.abs(np.diff(heading)).max() < 1.0


def test_walks_start_and_end_out_of_view(camera: Camera) -> None:
    (person,) = draw_people(1, lookalikes=0.0, seed=0)
    for number in range(60):
        walk = draw_walk(person, camera, generator(number, "way"))
        for x, z, *_ in walk.at(np.array([walk.start, walk.end])).T:
            behind = z > camera.wall_at(x) and min(abs(x - door) for door in camera.doors) > 1
            assert behind or abs(x) > camera.half_view(z) + 0.2


def test_schedule_keeps_lead_in_and_crowding(camera: Camera) -> None:
    people = draw_people(30, lookalikes=0.0, seed=0)
    walks, frames = schedule_walks([*people, *people[:5]], camera, lead_in=0.5, crowd=4, overlap=0.2, seed=0, film="f")
    assert sorted(walk.person for walk in walks) == sorted([*range(1, 31), *range(1, 6)])
    assert min(walk.start for walk in walks) >= 0.5
    assert max(walk.end for walk in walks) <= frames / camera.rate
    times = np.arange(frames) / camera.rate
    there = np.array([(walk.start <= times) & (times <= walk.end) for walk in walks])
    assert there.sum(axis=0).max() <= 4
    assert there.sum(axis=0).mean() > 2
    for person in range(1, 6):  # a person leaves before returning
        first, second = sorted((walk for walk in walks if walk.person == person), key=lambda walk: walk.start)
        assert second.start > first.end + 1


def test_smaller_overlap_gives_fewer_touching_boxes(camera: Camera) -> None:
    people = {person.id: person for person in draw_people(40, lookalikes=0.0, seed=1)}

    def touching(overlap: float) -> float:
        walks, frames = schedule_walks(
            list(people.values()), camera, lead_in=0.5, crowd=6, overlap=overlap, seed=0, film="f"
        )
        times = np.arange(frames) / camera.rate
        boxes = np.full((len(walks), frames, 4), np.nan)
        for i, walk in enumerate(walks):
            on = (walk.start <= times) & (times <= walk.end)
            boxes[i, on] = approximate_boxes(walk, people[walk.person], camera, times[on])
        width = np.minimum(boxes[:, None, :, 2], boxes[None, :, :, 2]) - np.maximum(
            boxes[:, None, :, 0], boxes[None, :, :, 0]
        )
        tall = np.minimum(boxes[:, None, :, 3], boxes[None, :, :, 3]) - np.maximum(
            boxes[:, None, :, 1], boxes[None, :, :, 1]
        )
        meet = (width > 0) & (tall > 0) & ~np.eye(len(walks), dtype=bool)[..., None]
        return float(meet.any(axis=1).sum() / np.isfinite(boxes[..., 0]).sum())

    with np.errstate(invalid="ignore"):
        assert touching(0.0) < touching(0.3) < touching(1.0)
