"""The probability of a sighting rises with similarity, and is that of the links."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.denoise import SightingProbability, pair_probability
from reappear.denoise.normalize import COHORT, cohort_statistics

quick = settings(max_examples=60, deadline=None)
values = st.floats(-50, 50, allow_nan=False)
shares = st.floats(0, 1)


@quick
@given(st.lists(st.tuples(values, shares), min_size=1, max_size=60), st.lists(values, min_size=2, max_size=20))
def test_probability_rises_with_similarity_and_lies_between_0_and_1(pairs, asked):
    z, sure = np.array(pairs).T
    curve = SightingProbability.fit(z, sure)
    found = curve.at(np.sort(asked))
    assert np.all(np.diff(found) >= -1e-15)  # between points of a line that is flat but for rounding
    assert np.all((found >= 0) & (found <= 1))
    assert np.isclose(curve.at(z).mean(), sure.mean(), atol=0.5)
    order = np.random.default_rng(0).permutation(len(z))
    again = SightingProbability.fit(z[order], sure[order])
    if len(np.unique(z)) == len(z):
        assert np.allclose(again.at(np.array(asked)), curve.at(np.array(asked)))


def test_probability_of_a_known_curve_is_found():
    random = np.random.default_rng(3)
    z = random.uniform(-2, 8, 20_000)
    truth = 1 / (1 + np.exp(3 - z))
    curve = SightingProbability.fit(z, (random.random(len(z)) < truth).astype(float))
    inside = np.linspace(-1, 7, 50)
    assert np.abs(curve.at(inside) - 1 / (1 + np.exp(3 - inside))).max() < 0.1


@quick
@given(st.integers(0, 2**32 - 1), st.integers(0, 4))
def test_cohort_is_that_of_the_loops(seed, skip):
    random = np.random.default_rng(seed)
    nearest = -np.sort(-random.uniform(-1, 1, (3, random.integers(1, 60))), axis=1)
    nearest[1, min(2, nearest.shape[1] - 1) :] = -np.inf
    mean, deviation = cohort_statistics(nearest, skip)
    for row in range(3):
        some = [x for x in nearest[row, skip : skip + COHORT].tolist() if x > -9]
        if len(some) < 5:
            assert np.isnan(mean[row])
            continue
        middle = sum(some) / len(some)
        assert np.isclose(mean[row], middle)
        assert np.isclose(deviation[row], max(1e-3, (sum((x - middle) ** 2 for x in some) / len(some)) ** 0.5))


@quick
@given(st.integers(0, 2**32 - 1))
def test_pair_probability_is_that_of_the_weakest_link_on_the_way(seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(2, 25))
    identity = random.integers(-1, 4, count)
    first, second = [], []
    for number in range(4):  # a random tree of each identity, less a link now and then
        members = random.permutation(np.flatnonzero(identity == number)).tolist()
        for place in range(1, len(members)):
            if random.random() < 0.9:
                first.append(members[place])
                second.append(members[random.integers(place)])
    similarity = random.permutation(len(first)).astype(np.float32)
    sure = random.random(len(first)).astype(np.float32)
    decided = random.random(len(first)) < 0.1
    similarity[decided], sure[decided] = np.nan, np.nan
    links = {"first": np.array(first, int), "second": np.array(second, int)}
    carried = random.random(len(first)) < 0.1
    similarity[carried], sure[carried] = np.nan, np.nan
    links |= {"similarity": similarity, "probability": sure}
    links["stage"] = np.where(carried, "carried-over", "average-link").astype(object)
    a, b = np.divmod(np.arange(count * count), count)
    found = pair_probability(a, b, identity, links).reshape(count, count)
    for i in range(count):
        met = {i: (np.inf, 1.0)}  # weakest link on the way from i: its similarity, and its probability
        waiting = [i]
        while waiting:
            here = waiting.pop()
            for k in range(len(first)):
                for there, other in ((first[k], second[k]), (second[k], first[k])):
                    if there == here and other not in met and not carried[k]:
                        own = (np.inf, 1.0) if decided[k] else (similarity[k], sure[k])
                        met[other] = min(own, met[here], key=lambda link: link[0])
                        waiting.append(other)
        for j in range(count):
            if identity[i] < 0 or identity[i] != identity[j]:
                assert found[i, j] == 0
            elif j in met:
                assert np.isclose(found[i, j], met[j][1])
            else:
                assert np.isnan(found[i, j])
