import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.core import SettingsError
from reappear.train.schedule import cosine, learning_rate, require_stages, stage, teacher_temperature

CION = [(0.0, 2), (0.4, 4), (0.6, 6), (0.8, 8)]


@settings(deadline=None)
@given(steps=st.integers(2, 200), start=st.floats(0, 1), end=st.floats(0, 1))
def test_cosine_goes_from_start_to_end_without_turning_back(steps: int, start: float, end: float) -> None:
    values = [cosine(step, steps=steps, start=start, end=end) for step in range(steps + 1)]
    assert values[0] == pytest.approx(start)
    assert values[-1] == pytest.approx(end)
    rises = [b - a for a, b in pairwise(values)]
    assert all(rise * (end - start) >= -1e-12 for rise in rises)


def test_ema_momentum_is_dinos() -> None:
    for step in range(100):
        expected = 1 - (1 - 0.996) * (math.cos(math.pi * step / 100) + 1) / 2
        assert cosine(step, steps=100, start=0.996, end=1.0) == pytest.approx(expected)


@settings(deadline=None)
@given(steps=st.integers(10, 200), warmup=st.integers(0, 9))
def test_learning_rate_peaks_after_warmup_and_never_stands_still_at_zero(steps: int, warmup: int) -> None:
    values = [learning_rate(step, steps=steps, warmup=warmup, peak=1.0, end=1e-3) for step in range(steps)]
    assert max(values) == pytest.approx(1.0)
    assert min(values) > 0
    assert values[:warmup] == pytest.approx([(step + 1) / max(warmup, 1) for step in range(warmup)])
    assert values[warmup:] == sorted(values[warmup:], reverse=True)


def test_teacher_temperature_warms_up_in_a_line_and_stays() -> None:
    values = [teacher_temperature(step, start=0.02, end=0.04, warmup=4) for step in range(7)]
    assert values == pytest.approx([0.02, 0.025, 0.03, 0.035, 0.04, 0.04, 0.04])


def test_without_warmup_the_temperature_is_the_final_one_at_once() -> None:
    assert teacher_temperature(0, start=0.01, end=0.04, warmup=0) == 0.04


def test_curriculum_of_a_hundred_epochs_is_the_papers() -> None:
    expected = [2] * 40 + [4] * 20 + [6] * 20 + [8] * 20
    assert [stage(epoch, steps=100, stages=CION)[0] for epoch in range(100)] == expected


@settings(deadline=None, max_examples=50)
@given(steps=st.integers(1, 200))
def test_stages_follow_each_other_and_know_their_first_step(steps: int) -> None:
    said = [stage(step, steps=steps, stages=CION) for step in range(steps)]
    for step, (images, first) in enumerate(said):
        assert first <= step
        assert said[first] == (images, first)
        assert first == 0 or said[first - 1][0] < images


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "curriculum: shares must start at 0"),
        ([(0.5, 2)], "curriculum: shares must start at 0"),
        ([(0.0, 2), (0.5, 4), (0.5, 6)], "curriculum: shares must start at 0"),
        ([(0.0, 2), (1.0, 4)], "curriculum: shares must start at 0"),
        ([(0.0, 2), (0.5, 7)], "96 is not a multiple of 7, .* take a multiple of 14"),
        ([(0.0, 0)], "96 is not a multiple of 0"),
    ],
)
def test_a_curriculum_that_makes_no_sense_is_refused(stages: list[tuple[float, int]], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        require_stages(stages, 96)
