import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.core import InputError, SettingsError
from reappear.metrics import RetrievalTask, verify


def line(*distances):
    """Unit vectors in the plane at these cosine distances from (1, 0)."""
    cosines = 1 - np.array(distances)
    return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)


def one_query(distances, ids, **more):
    return RetrievalTask.of(line(0), line(*distances), query_ids=np.array([1]), gallery_ids=np.array(ids), **more)


def test_rates_worked_by_hand():
    """Matches at 0.1 and 0.5, impostors at 0.3, 0.6, 0.7, 0.8; junk and the own camera do not meet."""
    found = verify(
        one_query(
            [0.1, 0.5, 0.3, 0.6, 0.7, 0.8, 0.2, 0.05],
            [1, 1, 2, 3, 4, 0, -1, 1],
            query_cameras=np.array([1]),
            gallery_cameras=np.array([2, 2, 1, 2, 2, 2, 2, 1]),
        )
    )
    assert (found.matches.sum(), found.others.sum()) == (2, 4)
    assert found.area == pytest.approx((1 + 3 / 4) / 2, abs=1e-3)
    quarter = found.at(0.25)
    assert quarter.false_match_rate == 0.25
    assert quarter.true_match_rate == 1.0
    assert quarter.threshold == pytest.approx(0.6, abs=1e-3)  # as loose as may be: up to the second impostor
    assert found.equal_error_rate == pytest.approx(0.25, abs=0.13)


def test_too_few_strangers_for_a_rate():
    point = verify(one_query([0.1, 0.2, 0.3], [1, 2, 3])).at(0.1)
    assert (point.wanted, point.threshold, point.true_match_rate, point.threshold_interval) == (0.1, None, None, None)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.02, 0.1, 0.4]), st.sampled_from([1.0, 0.05]))
def test_thresholds_keep_what_they_promise(seed, wanted, spread):
    """Also where all features are alike, as those of some networks are: bins are as narrow as the distances."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 8, 60)
    rows = np.ones(12) / spread + rng.normal(size=(8, 12))[ids] + 0.7 * rng.normal(size=(60, 12))
    query, gallery = rows[:20], rows[20:]
    found = verify(RetrievalTask.of(query, gallery, query_ids=ids[:20], gallery_ids=ids[20:]))
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (query, gallery)]
    distance, same = 1 - unit[0] @ unit[1].T, ids[:20, None] == ids[None, 20:]
    point = found.at(wanted, draws=50)
    step = found.edges[1]
    assert np.mean(distance[~same] < point.threshold - step) <= wanted
    assert np.mean(distance[~same] < point.threshold + 2 * step) > wanted
    assert point.true_match_rate == pytest.approx(np.mean(distance[same] < point.threshold), abs=0.05)
    assert point.threshold_interval[0] <= point.threshold_interval[1]
    assert 0 <= point.true_match_interval[0] <= point.true_match_interval[1] <= 1
    wins = (distance[same][:, None] < distance[~same][None]).mean()
    assert found.area == pytest.approx(wins, abs=0.01)


def test_intervals_are_those_of_people_drawn_anew():
    """Two people, one easy and one hard: draws of the hard one alone find nobody, of the easy one alone everybody."""
    task = RetrievalTask.of(
        np.concatenate([line(0), -line(0)]),
        np.concatenate([line(0.1), -line(0.9), line(0.4), -line(0.4)]),
        query_ids=np.array([1, 2]),
        gallery_ids=np.array([1, 2, 3, 3]),
    )
    point = verify(task).at(0.2, draws=200)
    assert point.true_match_interval == (0.0, 1.0)


def test_mistakes_are_named():
    with pytest.raises(InputError, match="no pair of query and gallery shows one person"):
        verify(one_query([0.1], [2]))
    with pytest.raises(InputError, match="no pair of query and gallery shows two people"):
        verify(one_query([0.1], [1]))
    with pytest.raises(SettingsError, match="false-match rate: must lie between 0 and 1, got 1"):
        verify(one_query([0.1, 0.2], [1, 2])).at(1.0)
