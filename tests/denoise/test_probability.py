"""The probability of a link is what its definition says, and is near the truth where truth is known."""

import math
from importlib import import_module
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.core import Assignment, SettingsError
from reappear.denoise import Rules, Trace, average_link, probability, weakest_links
from reappear.denoise.average import average_linkage
from reappear.denoise.constraints import CannotLink, Constraint
from reappear.denoise.neighbors import nearest_neighbors
from reappear.denoise.normalize import normalize, similar_pairs
from reappear.denoise.probability import expected_precision, least_for, link_probability
from tests.references import average as literal

from .test_average_link import centers, cosines, crowd, few
from .worlds import check_links, gaussian

STAGE = "average-link"


def clustered(x, least=2.0, cannot_link=()):
    neighbors = nearest_neighbors(x, min(len(x), 62))
    similarities = normalize(x, neighbors, 3)
    pairs = np.array(cannot_link, np.int64).reshape(-1, 2)
    constraint = Constraint(CannotLink(pairs, np.zeros(len(pairs), bool)), np.arange(len(x)))
    links = similar_pairs(similarities, neighbors, least, 1 << 30)
    return similarities, neighbors, average_linkage(similarities, links, least, constraint), constraint


@few
@given(centers, st.integers(0, 100))
def test_pairs_left_apart_are_those_of_the_loops(x, seed):
    rng = np.random.default_rng(seed)
    cannot_link = rng.integers(0, len(x), (len(x) // 4, 2))
    cannot_link = cannot_link[cannot_link[:, 0] != cannot_link[:, 1]]
    similarities, neighbors, merged, constraint = clustered(x, cannot_link=cannot_link)
    found = probability._left_apart(similarities, neighbors, merged.group, constraint)
    z = literal.similarity(cosines(x), similarities.mean, similarities.deviation)
    groups = [np.flatnonzero(merged.group == g).tolist() for g in range(merged.group.max() + 1)]
    forbidden = {frozenset(merged.group[pair].tolist()) for pair in cannot_link}
    wanted, unclear = {}, set()
    for a, b in combinations(range(len(groups)), 2):
        values = [z[i][j] for i in groups[a] for j in groups[b]]
        mean, kind = sum(values) / len(values), (len(groups[a]) > 1) + (len(groups[b]) > 1)
        pair = round(mean, 2), kind
        if max(values) >= 0 and frozenset((a, b)) not in forbidden:
            wanted[pair] = wanted.get(pair, 0) + 1
        if abs(max(values)) < 1e-3 or abs(mean * 100 % 1 - 0.5) < 0.1:  # rounding decides
            unclear |= {(round(mean + off, 2), kind) for off in (-2e-3, 2e-3)} | {pair}
    mine: dict = {}
    for mean, kind in zip(found.mean.tolist(), found.kind.tolist(), strict=True):
        pair = round(mean, 2), kind
        mine[pair] = mine.get(pair, 0) + 1
    assert found.share == 1
    assert {pair for pair in set(mine) | set(wanted) if mine.get(pair) != wanted.get(pair)} <= unclear


def test_of_many_groups_a_sample_is_looked_at(monkeypatch):
    tracklets, _ = crowd(people=100)
    similarities, neighbors, merged, constraint = clustered(
        np.asarray(tracklets.embeddings[tracklets.offsets[:-1]]), 9.0
    )
    whole = probability._left_apart(similarities, neighbors, merged.group, constraint)
    monkeypatch.setattr(probability, "_LOOKED_AT", 50)
    some = probability._left_apart(similarities, neighbors, merged.group, constraint)
    assert 0.05 < some.share < 0.3
    assert len(some.mean) / some.share == pytest.approx(len(whole.mean), rel=0.2)
    assert np.isin(some.mean, whole.mean).all()


@pytest.mark.parametrize("slope", [0.6, 0.9, 1.4])
def test_a_number_that_falls_exponentially_is_continued(slope):
    """With half a million pairs priors hardly matter: the integral of exp(-slope z) from the threshold on."""
    z = np.arange(-3.875, -0.5, 0.25)
    counts = np.round(1e5 * np.exp(-slope * z))[None].astype(np.int64)
    density, found = probability._continued(counts, z)
    assert found == pytest.approx(slope, rel=0.01)
    assert density == pytest.approx(1e5, rel=0.01)


def test_the_fit_has_the_highest_posterior_of_its_surroundings():
    z = np.arange(-3.875, -0.5, 0.25)
    counts = np.random.default_rng(0).poisson(np.exp(2 - 0.9 * z - 0.05 * z**2)[None])
    density, slope = probability._continued(counts, z)

    def cost(density, slope, curve):  # of log n(z) = log density - slope z + curve z², by its definition
        middle = z.mean()
        log = np.log(density) - slope * z + curve * z**2
        at_middle = -slope + 2 * curve * middle
        poisson = sum(np.exp(log) - counts[0] * log)
        return poisson + ((at_middle + 0.9) / 0.35) ** 2 / 2 + (curve / 0.05) ** 2 / 2

    curves = np.linspace(-0.3, 0, 3001)
    curve = curves[np.argmin([cost(density[0], slope[0], c) for c in curves])]
    best = cost(density[0], slope[0], curve)
    for d, s, c in ((1.01, 0, 0), (0.99, 0, 0), (1, 0.01, 0), (1, -0.01, 0), (1, 0, -0.003)):
        assert cost(density[0] * d, slope[0] + s, curve + c) > best - 1e-4


@given(st.lists(st.floats(0, 21), min_size=1, max_size=40), st.floats(0, 60), st.floats(0.05, 2))
@settings(max_examples=60, deadline=None)
def test_wrong_merges_are_spread_by_similarity(z, wrong, steep):
    z = np.sort(np.array(z))
    found = probability._spread(z, wrong, steep)
    assert (np.diff(found) >= 0).all()
    assert (1 - found).sum() == pytest.approx(min(wrong, 0.9 * len(z)), abs=1e-4)
    known = (found < 1 - 1e-9) & (found > 1e-9)
    odds = np.log1p(-found[known]) - np.log(found[known])
    assert np.allclose(np.diff(odds), -steep * np.diff(z[known]), atol=1e-3)


def test_probability_grows_with_similarity_among_merges_of_a_kind():
    tracklets, _ = crowd(people=100)
    similarities, neighbors, merged, constraint = clustered(np.asarray(tracklets.embeddings[tracklets.offsets[:-1]]))
    sure = link_probability(similarities, neighbors, merged, constraint, 2.0)
    assert ((sure >= 0) & (sure <= 1)).all()
    assert sure.min() < 0.96 < sure.max()
    kind = (merged.sizes > 1).sum(axis=1)
    for mine in (kind == 0, kind == 1, kind == 2):
        assert (np.diff(sure[mine][np.argsort(merged.similarity[mine])]) >= 0).all()


merges = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 4), st.integers(1, 4), st.sampled_from([0.1, 0.6, 0.95, 1.0])),
    max_size=12,
)


@given(merges, st.sampled_from([0.3001, 0.7001, 0.9001]))  # no share of these merges, whatever is rounded
@settings(max_examples=100, deadline=None)
def test_the_threshold_of_a_precision_is_that_of_the_loops(rows, wanted):
    similarity = np.array([float(row[0]) for row in rows])
    sizes = np.array([row[1:3] for row in rows], np.int64).reshape(-1, 2)
    sure = np.array([row[3] for row in rows])

    def share(least):
        pairs = [(a * b, p) for z, a, b, p in rows if z >= least]
        return sum(n * p for n, p in pairs) / sum(n for n, _ in pairs)

    reached = [z for z in sorted({float(row[0]) for row in rows}) if share(z) > wanted]
    assert least_for(wanted, similarity, sizes, sure) == (min(reached) if reached else np.inf)
    if rows:
        assert expected_precision(sizes, sure) == pytest.approx(share(0))
    else:
        assert np.isnan(expected_precision(sizes, sure))


def linked(tracklets, **how):
    trace = Trace()
    found = average_link(tracklets, Assignment.untouched(tracklets), rules=Rules(constraints=True), trace=trace, **how)
    return found, trace


def right(tracklets, person, found):
    """The share of linked pairs of tracklets that are one person."""
    who, group = person[tracklets.offsets[:-1]], found.identity
    pairs = np.triu(group[:, None] == group[None], 1)
    return (who[:, None] == who[None])[pairs].mean()


def test_less_is_linked_where_more_certainty_is_asked_for():
    tracklets, person = gaussian(1, people=150, videos=4, width=16, spread=0.9, wrong=0.0, share=1.0)
    plain, trace = linked(tracklets)
    skip = trace.skipped[STAGE]
    said, true = [trace.precision[STAGE]], [right(tracklets, person, plain)]
    many = [len(trace.link_columns()["first"])]
    for asked in (0.9, 0.97):
        found, trace = linked(tracklets, precision=asked)
        table = trace.link_columns()
        assert trace.precision[STAGE] >= asked
        same, _ = linked(tracklets, skip=skip, least=float(table["similarity"].min()) - 2e-6)
        assert (same.identity == found.identity).all()
        said.append(trace.precision[STAGE])
        true.append(right(tracklets, person, found))
        many.append(len(table["first"]))
    assert said == sorted(said)
    assert true == sorted(true)
    assert many == sorted(many, reverse=True)
    assert many[0] > many[-1] > 0


def test_nothing_is_linked_where_no_merge_is_sure_enough(monkeypatch):
    tracklets, _ = crowd()
    module = import_module("reappear.denoise.average_link")
    monkeypatch.setattr(module, "link_probability", lambda _, __, merged, *___: np.full(len(merged.similarity), 0.5))
    found, trace = linked(tracklets, precision=0.6)
    assert found.identities == len(tracklets)
    assert not len(trace.link_columns()["first"])
    assert np.isnan(trace.precision[STAGE])


def test_asking_for_what_is_given_changes_nothing():
    tracklets, _ = crowd()
    plain, trace = linked(tracklets)
    again, other = linked(tracklets, precision=trace.precision[STAGE] - 1e-6)
    assert (plain.identity == again.identity).all()
    one, two = trace.link_columns(), other.link_columns()
    assert all((one[name] == two[name]).all() for name in one)


@pytest.mark.parametrize("wrong", [0.0, 1.0, -0.1])
def test_precision_out_of_range_is_refused(wrong):
    tracklets, _ = crowd()
    with pytest.raises(SettingsError, match="precision"):
        linked(tracklets, precision=wrong)


@pytest.mark.parametrize("spread", [0.3, 0.5, 0.7])
def test_the_expected_share_of_right_pairs_is_near_the_truth(spread):
    off = []
    for seed in range(3):
        tracklets, person = gaussian(seed, people=200, videos=4, width=16, spread=spread, wrong=0.0, share=1.0)
        found, trace = linked(tracklets)
        off.append(trace.precision[STAGE] - right(tracklets, person, found))
    assert abs(np.mean(off)) < 0.05


def test_weakest_links_are_those_of_the_loops():
    identity = np.array([0, 0, 0, 1, 1, 2, -1, 3, 3])
    links = {
        "first": np.array([0, 1, 3, 0, 7]),
        "second": np.array([1, 2, 4, 6, 8]),
        "probability": np.array([0.9, 0.4, 0.8, 0.1, np.nan]),
    }
    found = weakest_links(identity, links)
    assert np.array_equal(found, [0.4, 0.8, np.nan, np.nan], equal_nan=True)
    del links["probability"]
    assert np.isnan(weakest_links(identity, links)).all()


@pytest.mark.parametrize(("spread", "skip", "asked"), [(0.3, 8, None), (0.5, 6, None), (0.9, 8, None), (0.9, 8, 0.9)])
def test_the_same_is_linked_where_the_precision_of_the_report_is_asked_for(spread, skip, asked):
    tracklets, _ = gaussian(1, people=150, videos=4, width=16, spread=spread, wrong=0.0, share=1.0)
    found, trace = linked(tracklets, skip=skip, precision=asked)
    reached = trace.precision[STAGE]
    for again in (reached, math.floor(1000 * reached) / 1000, math.floor(100 * reached) / 100):  # as reports show it
        same, other = linked(tracklets, skip=skip, precision=again)
        assert (same.identity == found.identity).all()
        assert other.precision[STAGE] == reached


def test_links_of_a_precision_are_some_of_those_without():
    tracklets, _ = gaussian(1, people=150, videos=4, width=16, spread=0.9, wrong=0.0, share=1.0)
    _, every = linked(tracklets, skip=8)
    found, some = linked(tracklets, skip=8, precision=0.9)
    columns = [list(zip(*trace.link_columns().values(), strict=True)) for trace in (every, some)]
    assert 0 < len(columns[1]) < len(columns[0])
    assert set(columns[1]) < set(columns[0])
    check_links(found, some.link_columns())


@few
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_equally_sure_links_all_have_the_precision_of_one(sizes, sure):
    """Also where sums of probabilities are rounded; nothing would be linked otherwise."""
    similarity = np.arange(len(sizes), 0, -1.0)
    probability = np.full(len(sizes), sure)
    for asked in (sure, expected_precision(np.array(sizes), probability)):
        assert least_for(asked, similarity, np.array(sizes), probability) == 1
