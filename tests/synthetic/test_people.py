import numpy as np
import pytest

from reappear.synthetic import draw_people
from reappear.synthetic.people import rgb


def test_lookalikes_differ_in_exactly_one_attribute() -> None:
    people = {person.id: person for person in draw_people(200, lookalikes=0.5, seed=3)}
    alike = [person for person in people.values() if person.lookalike_of]
    assert len(alike) == 100
    changed = set()
    for person in alike:
        mine, theirs = person.attributes(), people[person.lookalike_of].attributes()
        (name,) = [name for name in mine if mine[name] != theirs[name]]
        changed.add(name)
    assert len(changed) >= 8


def test_colour_of_a_lookalike_differs_visibly() -> None:
    people = {person.id: person for person in draw_people(300, lookalikes=0.6, seed=4)}
    for person in people.values():
        if person.lookalike_of and person.upper != people[person.lookalike_of].upper:
            assert np.abs(np.subtract(rgb(person.upper), rgb(people[person.lookalike_of].upper))).sum() > 60


def test_others_differ_in_several_attributes() -> None:
    people = draw_people(60, lookalikes=0.0, seed=5)
    for i, person in enumerate(people):
        for other in people[:i]:
            mine, theirs = person.attributes(), other.attributes()
            assert sum(mine[name] != theirs[name] for name in mine) >= 4


def test_people_depend_on_the_seed_only() -> None:
    assert draw_people(20, lookalikes=0.2, seed=1) == draw_people(20, lookalikes=0.2, seed=1)
    assert draw_people(20, lookalikes=0.2, seed=1) != draw_people(20, lookalikes=0.2, seed=2)


@pytest.mark.parametrize(("first", "count"), [(1, 5), (301, 3)])
def test_ids_are_consecutive(first: int, count: int) -> None:
    assert [person.id for person in draw_people(count, lookalikes=0.5, seed=0, first=first)] == [
        *range(first, first + count)
    ]
