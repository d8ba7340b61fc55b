import numpy as np
import pytest

from reappear.synthetic import Camera, Person, Walk, draw_cameras, draw_people, render_frame
from reappear.synthetic.backdrop import render_backdrop


@pytest.fixture(scope="module")
def camera() -> Camera:
    return draw_cameras(1, size=(240, 180), rate=8.0, cast=0.1, degrade=1.0, seed=2)[0]


@pytest.fixture(scope="module")
def people() -> dict[int, Person]:
    return {person.id: person for person in draw_people(6, lookalikes=0.0, seed=2)}


def crossing(camera: Camera, person: int, share: float, start: float = 0.0) -> Walk:
    """From left to right; `share` of the way from the front edge to the wall."""
    z = camera.near + 0.3 + share * (camera.wall - camera.near - 2)
    half = camera.half_view(z) + 1
    return Walk(person, ((start, -half, z), (start + 8, half, z)), 0.0)


@pytest.mark.parametrize("time", [2.0, 3.3, 4.4, 6.0])
def test_boxes_enclose_the_pixels_of_a_person(camera: Camera, people: dict[int, Person], time: float) -> None:
    others = (crossing(camera, 2, 0.9, -0.4), crossing(camera, 3, 0.05, 1.2))
    mine = crossing(camera, 1, 0.4)
    without = render_frame(camera, others, people, time, shadow=0.0)
    with_me = render_frame(camera, (*others, mine), people, time, shadow=0.0)
    rows, columns = np.nonzero((without.image != with_me.image).any(axis=-1))
    (box,) = with_me.box[with_me.person == 1]
    (visibility,) = with_me.visibility[with_me.person == 1]
    assert columns.min() >= box[0]
    assert rows.min() >= box[1]
    assert columns.max() < box[2]
    assert rows.max() < box[3]
    if visibility == 1:
        np.testing.assert_allclose(
            box, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), atol=1.5
        )  # a tint of the last pixel may be too weak to change it


def test_nearer_people_occlude_farther_ones(camera: Camera, people: dict[int, Person]) -> None:
    near, far = crossing(camera, 1, 0.1), crossing(camera, 2, 0.35)
    alone = render_frame(camera, (far,), people, 4.0)
    both = render_frame(camera, (far, near), people, 4.0)
    seen = dict(zip(both.person.tolist(), both.visibility.tolist(), strict=True))
    assert seen[1] == 1
    assert seen[2] < 0.8 * alone.visibility[0]
    np.testing.assert_array_equal(both.box[both.person == 2], alone.box)  # the box is of the whole body


def test_visibility_falls_at_the_border(camera: Camera, people: dict[int, Person]) -> None:
    walk = crossing(camera, 1, 0.2)
    seen = [render_frame(camera, (walk,), people, time) for time in np.arange(0.4, 2.0, 0.1)]
    shares = [float(frame.visibility[0]) if len(frame.person) else 0.0 for frame in seen]
    assert min(shares) < 0.5
    assert max(shares) > 0.95
    for frame in seen:
        assert (frame.box[:, :2] >= 0).all()
        assert (frame.box[:, 2:] <= (240, 180)).all()


def test_farther_people_are_smaller(camera: Camera, people: dict[int, Person]) -> None:
    heights = []
    for share in (0.05, 0.5, 0.9):
        frame = render_frame(camera, (crossing(camera, 1, share),), people, 3.5)
        heights.append(frame.box[0, 3] - frame.box[0, 1])
    assert heights[0] > heights[1] > heights[2]


def test_people_behind_the_wall_are_visible_through_doors_only(camera: Camera, people: dict[int, Person]) -> None:
    door = camera.doors[0]
    z = float(camera.wall_at(door)) + 0.8
    hidden, seen = (Walk(1, ((0.0, x, z), (1.0, x + 0.01, z)), 0.0) for x in (door + 2, door))
    assert len(render_frame(camera, (hidden,), people, 0.5).person) == 0
    assert render_frame(camera, (seen,), people, 0.5).visibility[0] > 0.3


def test_frame_without_people_is_the_backdrop_with_props(camera: Camera) -> None:
    frame = render_frame(camera, (), {}, 0.0)
    assert frame.box.shape == (0, 4)
    assert np.ptp(frame.image) > 100
    bare = render_backdrop(camera).image
    assert 0.001 < (frame.image != bare).any(axis=-1).mean() < 0.2  # the props that people walk behind
