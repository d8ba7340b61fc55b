import dataclasses

import pytest

from reappear.core import InputError
from reappear.synthetic import World, imagine


def world(**settings: float) -> World:
    return imagine(**{"people": 8, "probe_people": 3, "cameras": 2, "films": 2, **settings})


def test_a_world_is_read_back_without_loss() -> None:
    made = world()
    assert World.from_yaml(made.to_yaml()) == made


def test_a_seed_gives_the_same_world_and_another_seed_another() -> None:
    assert world(seed=1) == world(seed=1)
    assert world(seed=1).people != world(seed=2).people
    assert world(seed=1).films != world(seed=2).films
    assert world(seed=1).cameras != world(seed=2).cameras


def test_everybody_is_filmed_as_often_as_asked_in_every_camera_before_any_twice() -> None:
    made = world(appearances=3, returns=0.0, people=20)
    seen: dict[int, list[str]] = {}
    for film in made.films:
        for walk in film.walks:
            seen.setdefault(walk.person, []).append(film.camera)
    assert sorted(seen) == [*range(1, 21)]
    assert all(len(cameras) == 3 and set(cameras) == {"c0", "c1"} for cameras in seen.values())


def test_some_leave_and_return() -> None:
    made = world(returns=1.0)
    for film in made.films:
        people = [walk.person for walk in film.walks]
        assert all(people.count(person) >= 2 for person in people)


def test_probe_people_are_never_in_the_films() -> None:
    made = world()
    probe = {person.id for person in made.probe_people}
    assert probe.isdisjoint(walk.person for film in made.films for walk in film.walks)
    assert all({walk.person for walk in film.walks} == probe for film in made.probe)
    described = [person.attributes() for person in made.people]
    assert all(person.attributes() not in described for person in made.probe_people)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not YAML"),
        ("people: 3", "cameras: field required|seed: field required"),
        ("", "world description: it"),
    ],
)
def test_a_damaged_description_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        World.from_yaml(text)
    assert "\n" not in str(error.value)


def test_an_unknown_theme_is_refused_by_name() -> None:
    text = dataclasses.replace(world(), films=(), probe=()).to_yaml().replace("theme: street", "theme: moon")
    with pytest.raises(InputError, match=r"cameras\.0\.theme"):
        World.from_yaml(text)
