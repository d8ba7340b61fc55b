"""Joins with refusals are those of the literal loop, whatever order links come in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.core import SettingsError
from reappear.denoise.constraints import CannotLink, Constraint
from reappear.denoise.guard import Diameter, weak
from reappear.denoise.joining import GUARDED, join
from reappear.denoise.links import Links
from reappear.denoise.rules import Rules
from tests.references import joining as literal

from .worlds import at, cos_distance

few = settings(max_examples=150, deadline=None)


@st.composite
def graphs(draw, most=14):
    """Nodes, links of few different lengths so that ties abound, and cannot-link pairs."""
    count = draw(st.integers(2, most))
    pairs = [(a, b) for b in range(count) for a in range(b)]
    linked = draw(st.lists(st.sampled_from(pairs), unique=True))
    lengths = draw(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3]), min_size=len(linked), max_size=len(linked)))
    cannot_link = draw(st.lists(st.sampled_from(pairs), max_size=8, unique=True))
    return count, [(a, b, x) for (a, b), x in zip(linked, lengths, strict=True)], cannot_link, draw(st.randoms())


def as_links(links):
    first, second, distance = zip(*links, strict=True) if links else ((), (), ())
    return Links(np.array(first, np.int64), np.array(second, np.int64), np.array(distance, np.float32))


def constraint(count, cannot_link):
    pairs = np.array(cannot_link, np.int64).reshape(-1, 2)
    return Constraint(CannotLink(pairs, np.zeros(len(pairs), bool)), np.arange(count))


def groups_of(made):
    return {frozenset(np.flatnonzero(made.group == group).tolist()) for group in np.unique(made.group)}


def pairs_of(links):
    return set(zip(links.first.tolist(), links.second.tolist(), strict=True))


@few
@given(graphs())
def test_cannot_link_equals_the_reference_in_any_order(graph):
    count, links, cannot_link, random = graph
    groups, kept, refused = literal.join(count, links, cannot_link)
    for _ in range(2):
        random.shuffle(links)
        made = join(count, as_links(links), constraint(count, cannot_link))
        assert groups_of(made) == {frozenset(group) for group in groups}
        assert pairs_of(made.kept) == set(kept)
        assert pairs_of(made.refused) == set(refused)
        for a, b in cannot_link:
            assert made.group[a] != made.group[b]


@few
@given(graphs())
def test_refusing_pair_is_in_the_joined_groups(graph):
    count, links, cannot_link, _ = graph
    made = join(count, as_links(links), constraint(count, cannot_link))
    for first, second, row in zip(made.refused.first, made.refused.second, made.witness, strict=True):
        sides = {frozenset((made.group[a], made.group[b])) for a, b in [cannot_link[row]]}
        assert frozenset((made.group[first], made.group[second])) in sides


@few
@given(graphs(), st.integers(0, 1000), st.sampled_from([0.05, 0.2, 0.4, 0.8, 1.5, 2.0]))
def test_diameter_guard_equals_the_reference(graph, seed, limit):
    count, links, cannot_link, random = graph
    x = np.random.default_rng(seed).normal(size=(count, 3))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    near = {pair for pair in ((a, b) for b in range(count) for a in range(b)) if 1 - x[pair[0]] @ x[pair[1]] <= limit}
    links = [(a, b, distance) for a, b, distance in links if (a, b) in near]  # a link is never longer than the limit
    for pairs in ([], cannot_link):
        random.shuffle(links)
        groups, kept, refused = literal.join(count, links, pairs, x, limit)
        made = join(count, as_links(links), constraint(count, pairs), Diameter(x, limit))
        assert groups_of(made) == {frozenset(group) for group in groups}
        assert pairs_of(made.kept) == set(kept)
        assert pairs_of(made.refused) == set(refused)


def test_diameter_guard_skips_small_components(monkeypatch):
    looked = []
    monkeypatch.setattr(Diameter, "refuses", lambda _, first, second: looked.append((first[:], second[:])) or False)
    x = at(0, 1, 2, 60, 75, 90)
    links = as_links([(0, 1, 0.0), (1, 2, 0.0), (3, 4, 0.03), (4, 5, 0.03)])
    join(6, links, None, Diameter(x, cos_distance(20)))
    assert looked == [([3], [4]), ([3, 4], [5])]


def test_diameter_guard_breaks_long_chains():
    x = at(0, 4, 9, 15, 22)
    links = as_links([(i, i + 1, cos_distance(i + 4)) for i in range(4)])
    made = join(5, links, None, Diameter(x, cos_distance(10)))
    assert groups_of(made) == {frozenset({0, 1, 2}), frozenset({3, 4})}
    assert pairs_of(made.refused) == {(2, 3)}
    assert made.witness.tolist() == [GUARDED]


@few
@given(graphs(most=10))
def test_cut_guard_removes_links_with_few_shared_neighbours(graph):
    count, links, _, _ = graph
    expected = [literal.shared(count, links, a, b) < 0.6 for a, b, _ in links]
    assert weak(count, as_links(links)).tolist() == expected


def test_cut_guard_separates_groups_joined_by_one_link(monkeypatch):
    monkeypatch.setattr("reappear.denoise.guard._ROWS", 3)
    crowds = [(a, b, 0.1) for low in (0, 5) for b in range(low, low + 5) for a in range(low, b)]
    found = weak(10, as_links([*crowds, (4, 5, 0.05)]))
    assert np.flatnonzero(found).tolist() == [len(crowds)]


def test_rebuilding_a_component_drops_inner_links():
    """Two dense groups of 150 nodes with one cannot-link pair: 45,000 links, few of which are tried."""
    rng = np.random.default_rng(0)
    x = at(*rng.uniform(0, 8, 150), *rng.uniform(9, 17, 150))
    first, second = np.triu_indices(300, 1)
    distance = 1 - np.einsum("nd,nd->n", x[first], x[second])
    made = join(300, Links(first, second, distance.astype(np.float32)), constraint(300, [(0, 299)]))
    assert len(np.unique(made.group)) == 2
    assert made.group[0] != made.group[299]
    assert len(made.kept) == 298


@pytest.mark.parametrize("max_diameter", [0.5, float("nan")])
def test_group_diameter_is_at_least_its_links(max_diameter):
    with pytest.raises(SettingsError, match=r"max_diameter: must be 1 \(complete linkage\) or more, got"):
        Rules(guard="diameter", max_diameter=max_diameter)
