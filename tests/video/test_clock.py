import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.video.clock import Clock

STAMP = st.none() | st.sampled_from([0.0, 0.04, 1.0, 95443.7]) | st.floats(-1e6, 1e6)


def times(stamps, rate=10.0):
    clock = Clock(rate)
    return [clock.time(i, stamp) for i, stamp in enumerate(stamps)], clock


@settings(max_examples=300, deadline=None)
@given(st.lists(STAMP, max_size=60), st.floats(0.1, 500))
def test_times_always_increase(stamps, rate):
    found, _ = times(stamps, rate)
    assert np.isfinite(found).all()
    assert np.all(np.diff(found) > 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.001, 3600), min_size=1, max_size=40), st.floats(-1e5, 1e5))
def test_increasing_stamps_are_kept(steps, start):
    stamps = start + np.cumsum(steps)
    found, clock = times(stamps.tolist())
    assert np.array_equal(found, stamps - stamps[0])
    assert (clock.restarts, clock.derived) == (0, 0)


@pytest.mark.parametrize("second", [0.0, -500.0, 0.35, 1e6])
def test_new_run_of_stamps_starts_one_interval_later(second):
    stamps = [0.1 * i for i in range(30)] + [second + 0.1 * i for i in range(20)]
    found, clock = times(stamps)
    assert np.allclose(found, np.arange(50) / 10)
    assert clock.restarts == 1


@pytest.mark.parametrize("stamp", [0.0, 7.5, None])
def test_repeated_or_missing_stamps_use_the_rate(stamp):
    found, clock = times([stamp] * 20)
    assert np.allclose(found, np.arange(20) / 10)
    assert clock.derived == (20 if stamp is None else 19)


def test_reordered_frames_do_not_advance_time():
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11, 15]
    found, clock = times([0.1 * i for i in order])
    assert np.all(np.diff(found) > 0)
    assert found[-1] == pytest.approx(1.5)
    assert clock.restarts == 0


def test_lost_frames_count_where_stamps_are_missing():
    clock = Clock(10.0)
    assert [clock.time(i, None) for i in (0, 1, 5)] == [0.0, 0.1, 0.5]
