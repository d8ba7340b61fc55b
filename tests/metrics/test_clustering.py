from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from reappear.core import InputError
from reappear.metrics import score_identities
from tests.references import clustering as literal

few = settings(max_examples=80, deadline=None)
labels = st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), min_size=1, max_size=30)


def columns(rows):
    return (np.array(column) for column in zip(*rows, strict=True))


def test_worked_by_hand():
    """Two people of two crops; one identity holds three of the crops, the fourth is discarded."""
    found = score_identities(np.array([0, 0, 1, 1]), np.array([5, 5, 5, -1]))
    assert (found.pairwise_precision, found.pairwise_recall) == (1 / 3, 1 / 2)
    assert found.bcubed_precision == pytest.approx((2 / 3 + 2 / 3 + 1 / 3) / 3)
    assert found.bcubed_recall == pytest.approx((1 + 1 + 1 / 2 + 0) / 4)
    assert (found.purity, found.fragmentation, found.identities, found.people) == (2 / 3, 1, 1, 2)


def test_crops_of_nobody_are_wrong_in_company():
    truth = np.array([0, 0, -1, -1])
    alone = score_identities(truth, np.array([0, 0, 1, 2]))
    together = score_identities(truth, np.array([0, 0, 1, 1]))
    discarded = score_identities(truth, np.array([0, 0, -1, -1]))
    assert alone.pairwise_precision == discarded.pairwise_precision == 1
    assert together.pairwise_precision == 1 / 2
    assert together.bcubed_precision < alone.bcubed_precision
    assert together.people == 1


@few
@given(labels)
def test_pairs_and_bcubed_are_the_literal_ones(rows):
    truth, found = columns(rows)
    if not ((truth >= 0) & (found >= 0)).any():
        with pytest.raises(InputError, match="has both a true person and an identity"):
            score_identities(truth, found)
        return
    scores = score_identities(truth, found)
    assert (scores.pairwise_precision, scores.pairwise_recall) == pytest.approx(literal.pairwise(truth, found))
    assert (scores.bcubed_precision, scores.bcubed_recall) == pytest.approx(literal.bcubed(truth, found))


@few
@given(labels)
def test_the_rest_is_scikit_learns(rows):
    truth, found = columns([(max(t, 0), max(f, 0)) for t, f in rows])
    scores = score_identities(truth, found)
    assert scores.adjusted_rand == pytest.approx(sk.adjusted_rand_score(truth, found), abs=1e-9)
    expected = sk.homogeneity_completeness_v_measure(truth, found)
    assert (scores.homogeneity, scores.completeness, scores.v_measure) == pytest.approx(expected, abs=1e-9)
    (_, fp), (fn, tp) = sk.pair_confusion_matrix(truth, found)
    if tp + fp and tp + fn:
        assert scores.pairwise_precision == pytest.approx(tp / (tp + fp))
        assert scores.pairwise_recall == pytest.approx(tp / (tp + fn))
    table = sk.cluster.contingency_matrix(truth, found)
    assert scores.purity == pytest.approx(table.max(0).sum() / len(truth))
    assert scores.fragmentation == pytest.approx((table > 0).sum(1).mean())


def test_everybody_alone_everybody_together_and_one_crop():
    people = np.array([0, 0, 1, 1, 1])
    alone = score_identities(people, np.arange(5))
    assert (alone.pairwise_precision, alone.pairwise_recall, alone.pairwise_f1) == (1, 0, 0)
    assert (alone.bcubed_precision, alone.bcubed_recall) == (1, pytest.approx(2 / 5))
    assert (alone.homogeneity, alone.purity, alone.adjusted_rand) == (1, 1, 0)
    assert alone.fragmentation == 2.5
    together = score_identities(people, np.zeros(5, int))
    assert (together.pairwise_precision, together.pairwise_recall) == (4 / 10, 1)
    assert (together.bcubed_precision, together.bcubed_recall) == (pytest.approx((4 + 9) / 25), 1)
    assert (together.completeness, together.homogeneity, together.v_measure) == (1, 0, 0)
    assert (together.purity, together.fragmentation, together.adjusted_rand) == (3 / 5, 1, 0)
    assert set(asdict(score_identities(np.array([7]), np.array([3]))).values()) == {1}
    nobody = np.full(3, -1)
    assert score_identities(np.array([0, -1, -1]), np.array([0, 1, 2])).pairwise_f1 == 1
    for truth, found in ((nobody, np.arange(3)), (np.arange(3), nobody), (nobody[:0], nobody[:0])):
        with pytest.raises(InputError, match=f"none of {len(truth)} crops? has both a true person and an identity"):
            score_identities(truth, found)


def test_many_crops_are_those_of_scikit_learn_and_overflow_nothing():
    """A crowd of 200,000 and people of 30: pairs of pairs pass 2^63."""
    rng = np.random.default_rng(0)
    truth = np.concatenate([np.zeros(200_000, np.int64), 1 + np.arange(30_000) // 30])
    found = np.where(rng.random(len(truth)) < 0.1, rng.integers(0, 1000, len(truth)), truth)
    scores = score_identities(truth, found)
    assert scores.adjusted_rand == pytest.approx(sk.adjusted_rand_score(truth, found), abs=1e-9)
    assert scores.v_measure == pytest.approx(sk.v_measure_score(truth, found), abs=1e-9)
    assert 0.8 < scores.pairwise_recall < scores.pairwise_precision <= 1


@few
@given(labels)
def test_what_is_discarded_is_left_out_of_what_scikit_learn_sees(rows):
    truth, found = columns([(max(t, 0), f) for t, f in rows])
    kept = found >= 0
    if not kept.any():
        return
    scores = score_identities(truth, found)
    assert scores.adjusted_rand == pytest.approx(sk.adjusted_rand_score(truth[kept], found[kept]), abs=1e-9)
    expected = sk.homogeneity_completeness_v_measure(truth[kept], found[kept])
    assert (scores.homogeneity, scores.completeness, scores.v_measure) == pytest.approx(expected, abs=1e-9)


@few
@given(labels)
def test_names_of_identities_do_not_matter(rows):
    truth, found = columns([(0, 0), *rows])
    renamed = score_identities(truth, np.where(found < 0, -1, 90 - 7 * found))
    assert asdict(renamed) == pytest.approx(asdict(score_identities(truth, found)))
