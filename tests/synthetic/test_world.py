import dataclasses

import pytest

from reappear.core import InputError
from reappear.synthetic import World, WorldSettings, generate_world


def world(**settings: float) -> World:
    return generate_world(WorldSettings(**{"people": 8, "test_people": 3, "cameras": 2, "films": 2, **settings}))


def test_yaml_round_trip_is_lossless() -> None:
    made = world()
    assert World.from_yaml(made.to_yaml()) == made


def test_world_depends_on_the_seed_only() -> None:
    assert world(seed=1) == world(seed=1)
    assert world(seed=1).people != world(seed=2).people
    assert world(seed=1).films != world(seed=2).films
    assert world(seed=1).cameras != world(seed=2).cameras


def test_people_appear_in_all_cameras_before_any_camera_twice() -> None:
    made = world(appearances=3, returns=0.0, people=20)
    seen: dict[int, list[str]] = {}
    for film in made.films:
        for walk in film.walks:
            seen.setdefault(walk.person, []).append(film.camera)
    assert sorted(seen) == [*range(1, 21)]
    assert all(len(cameras) == 3 and set(cameras) == {"c0", "c1"} for cameras in seen.values())


def test_people_return_within_a_film() -> None:
    made = world(returns=1.0)
    for film in made.films:
        people = [walk.person for walk in film.walks]
        assert all(people.count(person) >= 2 for person in people)


def test_test_people_are_not_in_the_films() -> None:
    made = world()
    test_ids = {person.id for person in made.test_people}
    assert test_ids.isdisjoint(walk.person for film in made.films for walk in film.walks)
    assert all({walk.person for walk in film.walks} == test_ids for film in made.test_films)
    described = [person.attributes() for person in made.people]
    assert all(person.attributes() not in described for person in made.test_people)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a: [", "not YAML"),
        ("people: 3", "cameras: field required|seed: field required"),
        ("", "world description"),
    ],
)
def test_invalid_yaml_is_refused_in_one_line(text: str, key: str) -> None:
    with pytest.raises(InputError, match=key) as error:
        World.from_yaml(text)
    assert "\n" not in str(error.value)


def test_unknown_theme_is_refused_with_its_field() -> None:
    text = dataclasses.replace(world(), films=(), test_films=()).to_yaml().replace("theme: street", "theme: moon")
    with pytest.raises(InputError, match=r"cameras\.0\.theme"):
        World.from_yaml(text)
