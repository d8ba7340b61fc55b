import numpy as np
import pytest

from reappear.core import InputError
from reappear.metrics import interval, paired_difference


def test_one_person_alone_gives_no_interval():
    found = interval(np.array([0.25, 0.75]), np.array([3, 3]))
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_people_are_drawn_whole():
    """Eight queries, but four people: the spread is that of four values, not of eight."""
    scores, ids = np.repeat([0.0, 0.0, 1.0, 1.0], 2), np.repeat([1, 2, 3, 4], 2)
    people = interval(scores, ids, draws=4000)
    queries = interval(scores, np.arange(8), draws=4000)
    assert (people.low, people.high) == (0.0, 1.0)
    assert queries.high - queries.low < 0.8


def test_queries_that_do_not_count_are_left_out():
    found = interval(np.array([np.nan, 0.5, 0.5]), np.array([1, 2, 3]))
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_pairs_see_what_two_intervals_do_not():
    """Queries differ widely and the models by a little, always the same way."""
    ids = np.arange(60)
    first = np.random.default_rng(0).random(60) * 0.9
    found = paired_difference(first, first + 0.05, ids)
    assert (found.mean, found.low, found.high) == pytest.approx((0.05, 0.05, 0.05))
    assert found.sign_flip_rate == 0
    assert interval(first, ids).high > interval(first + 0.05, ids).low


def test_no_difference_turns_often():
    draws = np.random.default_rng(1).normal(size=200)
    found = paired_difference(np.zeros(200), draws - draws.mean() + 1e-9, np.arange(200))
    assert 0.3 < found.sign_flip_rate < 0.7
    assert found.low < 0 < found.high
    same = paired_difference(np.ones(3), np.ones(3), np.arange(3))
    assert (same.mean, same.sign_flip_rate) == (0, 1)


def test_the_seed_decides():
    scores, ids = np.random.default_rng(2).random(30), np.arange(30)
    assert interval(scores, ids, seed=1) == interval(scores, ids, seed=1)
    assert interval(scores, ids, seed=1) != interval(scores, ids, seed=2)


def test_nothing_in_common():
    with pytest.raises(InputError, match="no query counts in both"):
        paired_difference(np.array([np.nan, 1.0]), np.array([1.0, np.nan]), np.array([1, 2]))
