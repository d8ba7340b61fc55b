import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.core import InputError, SettingsError
from reappear.metrics import RetrievalTask, k_reciprocal_rerank, rank_task, reranked
from reappear.metrics.ranking import rank
from tests.references import reranking as literal


def crowd(seed, queries=12, images=40, width=8):
    rng = np.random.default_rng(seed)
    people = rng.normal(size=(10, width))
    ids = rng.integers(10, size=queries + images)
    rows = people[ids] + 0.6 * rng.normal(size=(len(ids), width))
    return rows[:queries], rows[queries:], ids[:queries], ids[queries:]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([(20, 6), (5, 3), (7, 1), (1, 1), (90, 60)]),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_distances_are_those_of_the_dense_algorithm(seed, k, weight):
    query, gallery, _, _ = crowd(seed)
    found = k_reciprocal_rerank(query, gallery, k1=k[0], k2=k[1], weight=weight)
    np.testing.assert_allclose(found, literal.rerank(query, gallery, *k, weight), atol=2e-5)


def test_memory_changes_nothing():
    query, gallery, _, _ = crowd(3, 400, 700)
    wide, narrow = (k_reciprocal_rerank(query, gallery, memory_mb=mb) for mb in (256, 1))
    np.testing.assert_allclose(wide, narrow, atol=1e-6)


def test_of_equals_the_earlier_wherever_blocks_end():
    rows = np.random.default_rng(0).choice([-0.5, 0.5], (900, 4))  # cosines without rounding, and many alike
    wide, narrow = (k_reciprocal_rerank(rows[:300], rows[300:], memory_mb=mb) for mb in (256, 1))
    np.testing.assert_array_equal(wide, narrow)


def test_ranking_by_it_is_ranking_its_distances_and_helps_here():
    query, gallery, query_ids, gallery_ids = crowd(1, 60, 200)
    gallery_ids[:20] = -1
    task = RetrievalTask.of(query, gallery, query_ids=query_ids, gallery_ids=gallery_ids)
    found = rank_task(task, backend=reranked(task))
    distances = k_reciprocal_rerank(query, gallery[20:])
    for q in (0, 17, 59):
        hit = gallery_ids[20:] == query_ids[q]
        places = np.flatnonzero(hit[np.lexsort([hit, np.round(distances[q], 6)])]) + 1
        assert found.average_precision[q] == pytest.approx(np.mean(np.arange(1, len(places) + 1) / places))
    assert found.mean_ap > rank(query, gallery, query_ids=query_ids, gallery_ids=gallery_ids).mean_ap


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"k1": 0}, SettingsError, "k1: must be 1 or more, got 0"),
        ({"k2": 0}, SettingsError, "k2: must be 1 or more, got 0"),
        ({"weight": 1.5}, SettingsError, r"weight: must lie in 0\.\.1, got 1\.5"),
        ({"gallery": np.zeros((2, 3))}, InputError, "gallery: zero or not finite: 2 rows"),
    ],
)
def test_mistakes_are_named(change, kind, said):
    given_ = {"query": np.eye(3), "gallery": np.eye(3)} | change
    with pytest.raises(kind, match=said):
        k_reciprocal_rerank(given_.pop("query"), given_.pop("gallery"), **given_)
