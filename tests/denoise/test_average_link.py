"""Average linkage is that of the literal loops, whatever finds the neighbours and in whatever order nodes merge."""

from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.core import Assignment, Local, SettingsError
from reappear.denoise import Approximate, ReviewConstraints, Rules, Trace, average_link
from reappear.denoise.approximate import approximate_neighbors
from reappear.denoise.average import Similarities, average_linkage
from reappear.denoise.average_link import FEWEST
from reappear.denoise.constraints import CannotLink, Constraint
from reappear.denoise.links import Links
from reappear.denoise.neighbors import nearest_neighbors
from reappear.denoise.nodes import Nodes
from reappear.denoise.normalize import (
    COHORT,
    PAIR_BYTES,
    PRIOR,
    center_by_place,
    mean_silhouette,
    normalize,
    similar_pairs,
)
from reappear.denoise.products import Blas
from reappear.metrics import score_identities
from reappear.pipeline.engines.torch_products import TorchProducts
from tests.references import average as literal

from .worlds import gaussian, tracklet_set

module = import_module("reappear.denoise.average_link")
few = settings(max_examples=30, deadline=None)


def unit(x):
    norms = np.linalg.norm(x.astype(float), axis=1, keepdims=True)
    return np.divide(x, norms, out=np.zeros(x.shape), where=norms > 0).astype(np.float32)


def random_people(seed, count=60, width=5, spread=0.3):
    """A few people many times over, some rows twice, some zero."""
    rng = np.random.default_rng(seed)
    people = rng.normal(size=(max(1, count // 6), width))
    x = people[rng.integers(0, len(people), count)] + spread * rng.normal(size=(count, width))
    x[rng.integers(0, count, count // 10)] = x[0]
    x[rng.integers(0, count, count // 20)] = 0
    return unit(x)


centers = st.builds(
    random_people, st.integers(0, 10_000), st.integers(1, 80), st.integers(2, 9), st.sampled_from([0.1, 0.4, 1.0])
)


def cosines(x):
    return [[float(np.float32((a.astype(float) * b.astype(float)).sum())) for b in x] for a in x]


class Small(Blas):
    """Blocks and tiles of few rows."""

    block, tile, threads = 16, (8, 8), False


class SmallOnDevice(TorchProducts):
    """Blocks and tiles of few rows."""

    block, tile = 16, (8, 8)


class Middling(Blas):
    """Several blocks and tiles."""

    block, tile = 256, (64, 128)


@few
@given(centers, st.integers(1, 20), st.one_of(st.none(), st.integers(0, 12)))
def test_neighbors_are_those_of_a_sort(x, k, reach):
    expected = literal.nearest(cosines(x), k, len(x) if reach is None else reach)
    types = torch.float32, torch.float16, torch.bfloat16
    products = [Blas(), Small(), *(of("cpu", dtype) for of in (TorchProducts, SmallOnDevice) for dtype in types)]
    first = nearest_neighbors(x, k, reach=reach)
    assert [[j for j in row if j >= 0] for row in first.index.tolist()] == expected
    assert np.isneginf(first.cosine[first.index < 0]).all()
    for other in products:
        found = nearest_neighbors(x, k, reach=reach, products=other)
        assert found.index.tobytes() == first.index.tobytes()
        assert found.cosine.tobytes() == first.cosine.tobytes()


def test_neighbors_of_many_tiles_are_those_of_one():
    x = random_people(0, count=2500, width=16)
    found = nearest_neighbors(x, 40)
    inner = x.astype(float) @ x.T.astype(float)
    np.fill_diagonal(inner, -2)
    assert np.allclose(found.cosine, -np.sort(-inner, axis=1)[:, :40], atol=1e-6)
    assert np.allclose(np.take_along_axis(inner, found.index.astype(int), axis=1), found.cosine, atol=1e-6)


def test_an_index_that_searches_everything_finds_the_same_neighbors():
    x = unit(np.random.default_rng(1).normal(size=(900, 16)))
    exact, (found, recall) = nearest_neighbors(x, 10), approximate_neighbors(x, 10, Approximate(1.0))
    assert recall > 0.999
    assert (exact.index == found.index).mean() > 0.995  # the index has float16
    _, less = approximate_neighbors(x, 10, Approximate(0.5))
    assert 0.5 <= less < recall + 1e-9


@few
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 5))
def test_centering_is_that_of_the_loops(seed, count, places):
    x = random_people(seed, count, width=4)
    place = np.random.default_rng(seed).integers(0, places, count)
    expected = literal.center_by_place(x.astype(float).tolist(), place.tolist(), PRIOR)
    center_by_place(x, place)
    assert np.allclose(x, expected, atol=2e-4)


@few
@given(centers, st.integers(0, 12))
def test_similarities_are_those_of_the_loops_and_neighbors_hold_all_that_matter(x, skip):
    cosine = cosines(x)
    neighbors = nearest_neighbors(x, skip + COHORT)
    found = normalize(x, neighbors, skip)
    mean, deviation = [], []
    for i, near in enumerate(literal.nearest(cosine, skip + COHORT, len(x))):
        if len(near) - skip < 5:  # too few to compare with: similar to none
            assert found.mean[i] > 1
            near = None
        m, s = (
            (found.mean[i], found.deviation[i])
            if near is None
            else literal.neighborhood([cosine[i][j] for j in near[skip:]])
        )
        mean.append(m)
        deviation.append(s)
    assert np.allclose(found.mean, mean)
    assert np.allclose(found.deviation, deviation)
    z = literal.similarity(cosine, mean, deviation)
    links = similar_pairs(found, neighbors, 1.0, 1 << 30)
    pairs = set(zip(links.first.tolist(), links.second.tolist(), strict=True))
    wanted = {(i, j) for i in range(len(x)) for j in range(i + 1, len(x)) if z[i][j] >= 1}
    assert wanted <= pairs
    assert all(z[i][j] >= 0.99 for i, j in pairs)


def linked(x, mean, deviation, least, cannot_link=(), chosen=None):
    """Average linkage with all pairs as candidates."""
    first, second = np.triu_indices(len(x), 1) if chosen is None else chosen
    cosine = np.einsum("md,md->m", x[first].astype(np.float64), x[second].astype(np.float64)).astype(np.float32)
    links = Links(first, second, 1 - cosine)
    pairs = np.array(cannot_link, np.int64).reshape(-1, 2)
    constraint = Constraint(CannotLink(pairs, np.zeros(len(pairs), bool)), np.arange(len(x))) if len(pairs) else None
    return average_linkage(Similarities(x, mean, deviation), links, least, constraint)


def groups_of(made):
    return {frozenset(np.flatnonzero(made.group == group).tolist()) for group in np.unique(made.group)}


@st.composite
def nodes(draw, most=24):
    """Unit rows among few directions, so that ties and duplicates abound, or any; and chains of cannot-links."""
    count, seed = draw(st.integers(2, most)), draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    some = unit(np.array([[1, 0, 0], [0, 1, 0], [3, 4, 0], [4, 3, 0], [0, 3, 4], [1, 1, 1]], float))
    x = some[rng.integers(0, len(some), count)] if draw(st.booleans()) else unit(rng.normal(size=(count, 3)))
    tied = draw(st.booleans())
    mean = np.full(count, 0.25) if tied else rng.uniform(-0.2, 0.6, count)
    deviation = np.full(count, 0.125) if tied else rng.uniform(0.05, 0.3, count)
    pairs = [(a, b) for b in range(count) for a in range(b)]
    return x, mean, deviation, draw(st.lists(st.sampled_from(pairs), max_size=8, unique=True))


@few
@given(nodes(), st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_linkage_is_the_greedy_tree(world, least):
    x, mean, deviation, cannot_link = world
    exact = x.astype(float) @ x.T.astype(float)
    z = literal.similarity(exact.tolist(), mean.tolist(), deviation.tolist())
    made = linked(x, mean, deviation, least, cannot_link)
    assert groups_of(made) == literal.tree(z, least, cannot_link)
    assert all(made.group[a] != made.group[b] for a, b in cannot_link)
    assert len(made.kept) == len(x) - len(groups_of(made))  # a spanning forest of the groups
    assert (made.group[made.kept.first] == made.group[made.kept.second]).all()
    assert (made.group[made.refused.first] != made.group[made.refused.second]).all()
    # Only pairs that are similar themselves matter.
    near = np.array([(a, b) for a in range(len(x)) for b in range(a + 1, len(x)) if z[a][b] >= least - 1e-6])
    chosen = near.reshape(-1, 2).T.astype(np.int64)
    assert groups_of(linked(x, mean, deviation, least, cannot_link, chosen)) == groups_of(made)


@few
@given(nodes(), st.randoms())
def test_order_of_nodes_does_not_matter(world, random):
    x, mean, deviation, cannot_link = world
    rng = np.random.default_rng(random.randint(0, 10_000))
    x = unit(x + 0.1 * rng.normal(size=x.shape))  # of equal pairs the first merge, so there must be none
    order = np.array(random.sample(range(len(x)), len(x)))
    place = np.argsort(order)
    moved = [tuple(sorted((int(place[a]), int(place[b])))) for a, b in cannot_link]
    one = groups_of(linked(x, mean, deviation, 1.0, cannot_link))
    other = groups_of(linked(x[order], mean[order], deviation[order], 1.0, moved))
    assert {frozenset(order[list(group)].tolist()) for group in other} == one


def literal_silhouette(x, neighbors, cluster, place):
    """One node after the other; the mean, and its error where distances are of cosines in float32."""
    distance = 1 - x.astype(float) @ x.T.astype(float)
    out, error = [], 0.0
    for i in range(len(x)):
        away = place != place[i]
        own = away & (cluster == cluster[i])
        near = [j for j in neighbors.index[i] if j >= 0 and away[j] and cluster[j] != cluster[i]]
        if not own.any() or not near:
            out.append(0.0)
            continue
        a, b = distance[i, own].mean(), distance[i, away & (cluster == cluster[near[0]])].mean()
        out.append((b - a) / max(a, b, 1e-6))
        error += 1e-6 / max(a, b, 1e-6) / len(x)
    return float(np.mean(out)), error


@few
@given(centers, st.integers(1, 20), st.integers(1, 4), st.integers(0, 1000))
def test_silhouette_is_that_of_the_loops(x, clusters, places, seed):
    rng = np.random.default_rng(seed)
    cluster, place = rng.integers(0, clusters, len(x)), rng.integers(0, places, len(x))
    neighbors = nearest_neighbors(x, 20)
    found = mean_silhouette(x, neighbors, cluster, place)
    expected, error = literal_silhouette(x, neighbors, cluster, place)
    assert found == pytest.approx(expected, abs=1e-6 + error)


def crowd(seed=0, people=60, videos=4):
    return gaussian(seed, people=people, videos=videos, width=16, spread=0.25, wrong=0.0, share=1.0)


def test_stage_is_the_dense_tree():
    tracklets, _ = crowd()
    start = Assignment.untouched(tracklets)
    assert 200 < len(tracklets) <= 400
    rules = Rules(constraints=True)
    found = average_link(tracklets, start, least=2.0, skip=6, rules=rules)
    x = Nodes.centered(tracklets, start, tracklets.video).centers
    cosine = (x.astype(float) @ x.T.astype(float)).astype(np.float32).astype(float)
    near = -np.sort(-(cosine - 9 * np.eye(len(x))), axis=1)[:, 6 : 6 + COHORT]
    mean, deviation = near.mean(axis=1), near.std(axis=1)
    z = (cosine - mean[:, None]) / deviation[:, None]
    pairs = rules.cannot_link(tracklets, start.tracklet).pairs
    groups = literal_tree(((z + z.T) / 2), 2.0, pairs)
    mine = {frozenset(np.flatnonzero(found.identity == i).tolist()) for i in range(found.identities)}
    assert mine == groups


def literal_tree(z, least, cannot_link):
    """`literal.tree` on a matrix, for hundreds of nodes."""
    count = len(z)
    total, size, members = z.copy(), np.ones(count), {i: [i] for i in range(count)}
    barred = np.eye(count, dtype=bool)
    barred[cannot_link[:, 0], cannot_link[:, 1]] = barred[cannot_link[:, 1], cannot_link[:, 0]] = True
    while True:
        mean = np.where(barred, -np.inf, total / np.outer(size, size))
        a, b = sorted(divmod(int(mean.argmax()), count))
        if mean[a, b] < least:
            return {frozenset(nodes) for nodes in members.values()}
        total[a] += total[b]
        total[:, a] += total[:, b]
        barred[a] |= barred[b]
        barred[:, a] |= barred[:, b]
        barred[b] = barred[:, b] = True
        size[a] += size[b]
        members[a] += members.pop(b)


def test_stage_finds_people_and_does_not_depend_on_blocks_range_or_engine():
    tracklets, person = crowd(people=100)
    start = Assignment.untouched(tracklets)
    found = average_link(tracklets, start)
    assert score_identities(person, found.crop_identity).pairwise_f1 > 0.9
    found = average_link(tracklets, start, skip=6)
    for other in (
        average_link(tracklets, start, skip=6, radius=len(tracklets)),
        average_link(tracklets, start, skip=6, products=Middling()),
        average_link(tracklets, start, skip=6, engine=Local(1 << 20)),
        average_link(tracklets, start, skip=6, place=7 - tracklets.video),
        average_link(tracklets, start, skip=6, approximate=Approximate(1.0)),
    ):
        assert (other.identity == found.identity).all()
    assert average_link(tracklets, start, skip=6, least=9.0).identities > found.identities


def test_people_who_come_back_often_are_not_compared_with_themselves():
    """Each in 12 videos: of a small neighbourhood they would fill most themselves."""
    tracklets, _ = crowd(people=40, videos=12)
    trace, start = Trace(), Assignment.untouched(tracklets)
    found = average_link(tracklets, start, trace=trace)
    assert trace.skipped["average-link"] > 10
    assert abs(found.identities - 40) < 5
    assert average_link(tracklets, start, skip=2).identities > 600


@pytest.mark.parametrize("count", [0, 1, FEWEST - 1])
def test_few_nodes_stay_as_they_are(count):
    x = unit(np.random.default_rng(0).normal(size=(max(1, count), 4)))
    x = np.repeat(x, 2, axis=0)
    tracklets = tracklet_set(x[: 2 * count], [2] * count, np.zeros(count, np.int64))
    start = Assignment.untouched(tracklets)
    assert (average_link(tracklets, start).identity == start.identity).all()


@pytest.mark.parametrize("places", [1, 3])
def test_equal_tracklets_of_each_two_videos_are_one_person(places):
    """Also where there is one place only, and where tracklets differ in nothing from that of another video."""
    people = unit(np.random.default_rng(3).normal(size=(40, 24)))
    x = np.concatenate([people, people])
    tracklets = tracklet_set(x, [1] * 80, np.repeat([0, 1], 40))
    found = average_link(tracklets, Assignment.untouched(tracklets), place=np.arange(80) % 40 % places)
    assert found.identity.tolist() == list(range(40)) * 2


def test_nothing_but_copies_of_one_row_is_linked_to_nobody():
    tracklets = tracklet_set(np.tile(unit(np.ones((1, 3))), (50, 1)), [1] * 50, [0] * 25 + [1] * 25)
    assert average_link(tracklets, Assignment.untouched(tracklets)).identities == 50


def test_cannot_links_and_review_are_kept_and_explained():
    tracklets, _ = crowd()
    start = Assignment.untouched(tracklets)
    before = average_link(tracklets, start, least=1.5).identity
    a, b = np.flatnonzero(before == np.bincount(before).argmax())[:2].tolist()
    pairs = np.array([[a, b]])
    nothing = np.zeros((0, 2), np.int64)
    review = ReviewConstraints(nothing, pairs, np.zeros(len(tracklets.embeddings), bool), {}, ())
    trace = Trace()
    after = average_link(tracklets, start, least=1.5, rules=Rules(review=review), trace=trace).identity
    assert before[a] == before[b]
    assert after[a] != after[b]
    table = trace.refused_columns()
    at = [set(pair) == {a, b} for pair in zip(table["cannot_link_first"], table["cannot_link_second"], strict=True)]
    assert any(at)
    assert set(table["reason"][at]) == {"review"}
    kept = trace.link_columns()
    assert (kept["similarity"] >= 1.5 - 1e-5).all()
    assert len(kept["first"]) == len(tracklets) - len(np.unique(after))
    assert (after[kept["first"]] == after[kept["second"]]).all()


def test_similar_pairs_beyond_memory_are_refused():
    tracklets, _ = crowd(people=100)
    with pytest.raises(SettingsError, match="z: more than 10 pairs"):
        average_link(tracklets, Assignment.untouched(tracklets), engine=Local(10 * PAIR_BYTES))


@pytest.mark.parametrize(
    ("wrong", "message"), [({"least": 0.0}, "least"), ({"skip": 33}, "skip"), ({"skip": -1}, "skip")]
)
def test_settings_out_of_range_are_refused(wrong, message):
    tracklets, _ = gaussian(0)
    with pytest.raises(SettingsError, match=message):
        average_link(tracklets, Assignment.untouched(tracklets), **wrong)


@few
@given(centers, st.integers(1, 6), st.integers(1, 12))
def test_near_groups_are_those_of_the_loops(x, k, size):
    neighbors = nearest_neighbors(x, k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_GROUP", size)
        found = module._near_groups(neighbors)
    rows = zip(neighbors.index.tolist(), neighbors.cosine.tolist(), strict=True)
    near = [[(j, c) for j, c in zip(*row, strict=True) if j >= 0] for row in rows]
    wanted = literal.near_groups(near, size)
    assert groups_of_labels(found) == wanted
    assert (np.sort(np.unique(found, return_index=True)[1]) == np.unique(found, return_index=True)[1]).all()


def groups_of_labels(labels):
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def test_number_of_skipped_neighbors_of_many_nodes_is_chosen_among_some(monkeypatch):
    tracklets, _ = crowd(people=200)
    start, trace, whole = Assignment.untouched(tracklets), Trace(), Trace()
    looked_at = []
    monkeypatch.setattr(
        module,
        "mean_silhouette",
        lambda centers, *rest: looked_at.append(len(centers)) or mean_silhouette(centers, *rest),
    )
    average_link(tracklets, start, trace=whole)
    assert set(looked_at) == {len(tracklets)}
    looked_at.clear()
    monkeypatch.setattr(module, "_LOOKED_AT", len(tracklets) // 4)
    found = average_link(tracklets, start, trace=trace)
    assert 0.1 < looked_at[0] / len(tracklets) < 0.5
    few, all_of_them = (module._SKIPS.index(each.skipped["average-link"]) for each in (trace, whole))
    assert abs(few - all_of_them) <= 1
    again = average_link(tracklets, start, skip=trace.skipped["average-link"])
    assert (found.identity == again.identity).all()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.3, 0.5]))
def test_number_of_skipped_neighbors_is_that_of_trying_all(seed, spread):
    tracklets, _ = gaussian(seed, people=40, videos=4, width=16, spread=spread, wrong=0.0, share=1.0)
    nodes = Nodes.centered(tracklets, Assignment.untouched(tracklets), tracklets.video)
    linking = module._Linking(
        nodes.centers,
        nearest_neighbors(nodes.centers, 62),
        4.0,
        Constraint(CannotLink(np.zeros((0, 2), np.int64), np.zeros(0, bool)), nodes.of_tracklet),
        tracklets.video[nodes.representative],
        1 << 30,
    )
    clarity, visits = {}, []
    for skip in module._SKIPS:
        group = linking.clusters(normalize(linking.centers, linking.neighbors, skip), 4.0).group
        visits.append(np.mean(np.bincount(group)[group]))
        if skip == 2 or skip <= 3 * (visits[-1] - 1):
            clarity[skip] = mean_silhouette(linking.centers, linking.neighbors, group, linking.place)
    assert visits == sorted(visits)
    assert linking.clearest() == max(clarity, key=clarity.__getitem__)
