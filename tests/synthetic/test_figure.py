import dataclasses
import math

import numpy as np
import pytest

from reappear.synthetic import Person, draw_people
from reappear.synthetic.figure import Pose, Sprite, render_figure

FRONT, SIDE, BACK = 0.0, math.pi / 2, math.pi


@pytest.fixture
def plain() -> Person:
    return dataclasses.replace(
        draw_people(1, lookalikes=0.0, seed=0)[0],
        pattern="plain",
        upper="#2040c0",
        lower="trousers",
        lower_colour="#202020",
        sleeve="long",
        hat="none",
        bag="none",
        bag_colour="#00ff00",
        logo="none",
        logo_colour="#ff0000",
        hair="short",
        hair_colour="#f0e000",
        skin="#e5b896",
        girth=1.0,
    )


def render(person: Person, facing: float, **pose: float) -> Sprite:
    return render_figure(person, Pose(facing=facing, **pose), x=100.0, y=200.0, height=140.0, shadow=0.0)


def share(sprite: Sprite, red: bool, green: bool, blue: bool) -> float:
    """Share of the body where exactly these channels are strong."""
    strong = sprite.pixels[..., :3] > 110
    hits = (strong == np.array([red, green, blue])).all(axis=-1) & (sprite.body > 200)
    return float(hits.sum() / (sprite.body > 200).sum())


@pytest.mark.parametrize(
    ("logo", "facing", "seen"),
    [("chest", FRONT, True), ("chest", BACK, False), ("back", BACK, True), ("back", FRONT, False)],
)
def test_logo_is_visible_from_one_side_only(plain: Person, logo: str, facing: float, seen: bool) -> None:
    person = dataclasses.replace(plain, logo=logo)
    gained = share(render(person, facing), True, False, False) - share(render(plain, facing), True, False, False)
    assert (gained > 0.003) == seen


def test_backpack_is_visible_from_behind(plain: Person) -> None:
    person = dataclasses.replace(plain, bag="backpack")
    from_behind, from_ahead = (share(render(person, facing), False, True, False) for facing in (BACK, FRONT))
    assert from_behind > 0.1
    assert from_ahead < from_behind / 4


def test_hair_covers_the_back_of_the_head(plain: Person) -> None:
    assert share(render(plain, BACK), True, True, False) > 1.5 * share(render(plain, FRONT), True, True, False)


def test_chest_logo_is_on_the_left_of_the_person(plain: Person) -> None:
    person = dataclasses.replace(plain, logo="chest")
    sprite = render(person, FRONT)
    red = (sprite.pixels[..., 0] > 110) & (sprite.pixels[..., 2] < 90) & (sprite.pixels[..., 1] < 90)
    assert np.nonzero(red)[1].mean() > sprite.body.shape[1] / 2  # our right is the person's left


@pytest.mark.parametrize("facing", [FRONT, SIDE, BACK, 4.0])
def test_height_and_position_are_as_given(plain: Person, facing: float) -> None:
    sprite = render(plain, facing, stride=0.0)
    rows, columns = np.nonzero(sprite.body > 127)
    assert abs((rows.max() - rows.min() + 1) - 140) < 8
    assert abs(sprite.top + rows.max() + 1 - 200) < 5
    assert abs(sprite.left + (columns.min() + columns.max()) / 2 - 100) < 12


def test_legs_move_with_the_gait_phase(plain: Person) -> None:
    narrow, wide = (render(plain, SIDE, phase=phase) for phase in (0.0, math.pi / 2))
    assert wide.body.shape[1] > 1.3 * narrow.body.shape[1]


def test_figure_is_antialiased_and_premultiplied(plain: Person) -> None:
    sprite = render(plain, SIDE)
    assert len(np.unique(sprite.body)) > 50
    assert (sprite.pixels[..., :3] <= sprite.pixels[..., 3:].astype(int) + 1).all()


def test_every_attribute_is_visible_from_some_side() -> None:
    people = {person.id: person for person in draw_people(50, lookalikes=0.5, seed=8)}
    for person in people.values():
        if person.lookalike_of:
            pairs = [(render(person, f), render(people[person.lookalike_of], f)) for f in (FRONT, SIDE, BACK)]
            assert any(a.pixels.shape != b.pixels.shape or (a.pixels != b.pixels).any() for a, b in pairs), person


def test_shadow_does_not_count_as_body(plain: Person) -> None:
    pose = Pose(facing=SIDE)
    bare, shaded = (render_figure(plain, pose, x=100.0, y=200.0, height=140.0, shadow=shadow) for shadow in (0.0, 0.5))
    assert bare.body.sum() == shaded.body.sum()
    assert shaded.pixels[..., 3].sum(dtype=int) > bare.pixels[..., 3].sum(dtype=int)
