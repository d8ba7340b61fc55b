import numpy as np
import pytest

from reappear.synthetic import crowd
from reappear.synthetic.people import rgb


def test_lookalikes_differ_in_exactly_one_attribute() -> None:
    people = {person.id: person for person in crowd(200, lookalikes=0.5, seed=3)}
    alike = [person for person in people.values() if person.like]
    assert len(alike) == 100
    changed = set()
    for person in alike:
        mine, theirs = person.attributes(), people[person.like].attributes()
        (name,) = [name for name in mine if mine[name] != theirs[name]]
        changed.add(name)
    assert len(changed) >= 8


def test_a_changed_colour_can_be_seen() -> None:
    people = {person.id: person for person in crowd(300, lookalikes=0.6, seed=4)}
    for person in people.values():
        if person.like and person.upper != people[person.like].upper:
            assert np.abs(np.subtract(rgb(person.upper), rgb(people[person.like].upper))).sum() > 60


def test_everybody_else_differs_in_several() -> None:
    people = crowd(60, lookalikes=0.0, seed=5)
    for i, person in enumerate(people):
        for other in people[:i]:
            mine, theirs = person.attributes(), other.attributes()
            assert sum(mine[name] != theirs[name] for name in mine) >= 4


def test_a_seed_gives_the_same_crowd_and_another_seed_another() -> None:
    assert crowd(20, lookalikes=0.2, seed=1) == crowd(20, lookalikes=0.2, seed=1)
    assert crowd(20, lookalikes=0.2, seed=1) != crowd(20, lookalikes=0.2, seed=2)


@pytest.mark.parametrize(("first", "count"), [(1, 5), (301, 3)])
def test_ids_follow_one_another(first: int, count: int) -> None:
    assert [person.id for person in crowd(count, lookalikes=0.5, seed=0, first=first)] == [*range(first, first + count)]
