import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.core import InputError, SettingsError
from reappear.train.sampler import IdentitySampler

CION = ((0.0, 2), (0.4, 4), (0.6, 6), (0.8, 8))
counts_of_images = st.lists(st.integers(1, 13), min_size=1, max_size=8)


def _labels(counts: list[int], seed: int = 0) -> np.ndarray:
    names = np.repeat(np.arange(len(counts)) * 7, counts)
    return np.random.default_rng(seed).permutation(names)


def _sampler(identity: np.ndarray, images: int, *, images_per_step: int = 24, seed: int = 0) -> IdentitySampler:
    return IdentitySampler(identity, images_per_step=images_per_step, steps=1000, stages=((0.0, images),), seed=seed)


@settings(max_examples=60, deadline=None)
@given(counts=counts_of_images, images=st.sampled_from([1, 2, 4, 6, 8]), seed=st.integers(0, 99))
def test_a_pass_shows_every_image_and_mixes_no_people(counts: list[int], images: int, seed: int) -> None:
    identity = _labels(counts, seed)
    sampler = _sampler(identity, images, images_per_step=images, seed=seed)
    per_pass = sum(-(-count // images) for count in counts)
    groups = [sampler.groups(step)[0] for step in range(2 * per_pass)]
    for group in groups:
        assert len(set(identity[group])) == 1
    for half in (groups[:per_pass], groups[per_pass:]):
        seen = Counter(int(image) for group in half for image in group)
        assert seen.keys() == set(range(len(identity)))
        for name, count in zip(np.unique(identity), counts, strict=True):
            times = [seen[int(image)] for image in np.flatnonzero(identity == name)]
            assert max(times) - min(times) <= 1  # repeated only when used up, and as evenly as can be
            assert sum(times) == -(-count // images) * images  # filled up to whole groups, and no further


@settings(max_examples=30, deadline=None)
@given(counts=counts_of_images, images=st.sampled_from([2, 4, 6, 8]))
def test_a_group_repeats_an_image_only_if_there_are_too_few(counts: list[int], images: int) -> None:
    identity = _labels(counts)
    sampler = _sampler(identity, images)
    for step in range(5):
        for group in sampler.groups(step):
            there = int(np.sum(identity == identity[group[0]]))
            assert len(set(group.tolist())) == min(images, there)


def test_steps_are_a_pure_function_of_seed_and_step() -> None:
    identity = _labels([5, 3, 9, 12])
    forward = [_sampler(identity, 4).groups(step) for step in range(6)]
    sampler = _sampler(identity, 4)
    backward = [sampler.groups(step) for step in reversed(range(6))][::-1]
    after_travel = pickle.loads(pickle.dumps(sampler))
    for step in range(6):
        np.testing.assert_array_equal(forward[step], backward[step])
        np.testing.assert_array_equal(forward[step], after_travel.groups(step))
    other = _sampler(identity, 4, seed=1)
    assert any(not np.array_equal(forward[step], other.groups(step)) for step in range(6))


def test_images_per_step_stay_while_the_curriculum_moves() -> None:
    sampler = IdentitySampler(_labels([20] * 6), images_per_step=24, steps=10, stages=CION, seed=0)
    shapes = [sampler.groups(step).shape for step in range(10)]
    assert shapes == [(12, 2)] * 4 + [(6, 4)] * 2 + [(4, 6)] * 2 + [(3, 8)] * 2


def test_passes_follow_each_other_without_a_gap() -> None:
    # 5 groups per pass, 2 per step: pass borders fall inside steps, and after 5 steps two whole passes were seen.
    identity = _labels([2] * 5)
    sampler = _sampler(identity, 2, images_per_step=4)
    seen = Counter(int(image) for step in range(5) for image in sampler.groups(step).ravel())
    assert set(seen.values()) == {2}


def test_what_cannot_be_sampled_is_refused() -> None:
    with pytest.raises(InputError, match="no images to train on"):
        _sampler(np.zeros(0, np.int64), 2)
    with pytest.raises(InputError, match="without an identity"):
        _sampler(np.array([0, -1]), 2)
    with pytest.raises(SettingsError, match="images_per_step: 25 is not a multiple of 2"):
        _sampler(np.array([0, 0]), 2, images_per_step=25)
