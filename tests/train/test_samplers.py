import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.core import InputError, SettingsError
from reappear.train.samplers import ClipSampler, IdentitySampler, PairSampler, PKSampler

from .tables import make_table

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


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 13), min_size=1, max_size=30),
    images=st.sampled_from([1, 2, 4]),
    places=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_steps_are_of_one_place_and_a_pass_is_the_same(counts: list[int], images: int, places: int, seed: int) -> None:
    identity = _labels(counts, seed)
    place = np.random.default_rng(seed).integers(0, places, len(identity))
    shared = {"images_per_step": 6 * images, "steps": 10_000, "stages": ((0.0, images),), "seed": seed}
    by_place, plain = IdentitySampler(identity, place=place, **shared), IdentitySampler(identity, **shared)
    per_pass = sum(-(-count // images) for count in counts)
    steps = -(-3 * per_pass // 6)
    ours, others = (np.concatenate([one.groups(step) for step in range(steps)]) for one in (by_place, plain))
    for number in range(3):
        part = slice(number * per_pass, (number + 1) * per_pass)
        assert sorted(ours[part].tolist()) == sorted(others[part].tolist())
    mixed = [step for step in range(steps) if len(set(place[by_place.groups(step)[:, 0]])) > 1]
    borders = 3 * (places + 1)  # where a place ends, and where a pass does
    assert len(mixed) <= borders


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


counts_of_groups = st.lists(st.integers(1, 30), min_size=4, max_size=12)


@settings(max_examples=60, deadline=None)
@given(counts=counts_of_groups, images=st.integers(1, 5), people=st.integers(1, 4), seed=st.integers(0, 99))
def test_pk_steps_have_distinct_identities_and_passes_have_every_identity(
    counts: list[int], images: int, people: int, seed: int
) -> None:
    identity = _labels(counts, seed)
    sampler = PKSampler(identity, identities=people, images=images, seed=seed)
    steps = [sampler.groups(step) for step in range(sampler.steps_per_pass)]
    shown: Counter[int] = Counter()
    for groups in steps:
        assert groups.shape == (people, images)
        assert len({int(identity[group[0]]) for group in groups}) == people
        for group in groups:
            assert len(set(identity[group])) == 1
            own = np.count_nonzero(identity == identity[group[0]])
            assert len(set(group.tolist())) == min(images, own)  # repeated only where there are too few
            shown.update(set(group.tolist()))
    assert max(shown.values()) == 1
    wanted = sum(max(count // images, 1) for count in counts)
    dealt = len(steps) * people
    # Left out: fewer than a step, and what an identity has beyond one group a step.
    beyond = sum(max(0, max(count // images, 1) - len(steps)) for count in counts)
    assert wanted - dealt - beyond < people
    again = PKSampler(identity, identities=people, images=images, seed=seed)
    np.testing.assert_array_equal(again.groups(7), sampler.groups(7))
    copy = pickle.loads(pickle.dumps(sampler))
    np.testing.assert_array_equal(copy.groups(7), sampler.groups(7))


def test_pk_passes_differ() -> None:
    identity = np.repeat(np.arange(6), 8)
    sampler = PKSampler(identity, identities=3, images=4, seed=0)
    assert sampler.steps_per_pass == 4
    assert not np.array_equal(sampler.groups(0), sampler.groups(4))


def test_groups_take_images_of_different_cameras_where_there_are() -> None:
    identity, camera = np.repeat(np.arange(4), 12), np.tile([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2], 4)
    sampler = PKSampler(identity, identities=2, images=3, seed=0, camera=camera)
    cameras = [len(set(camera[group])) for step in range(sampler.steps_per_pass) for group in sampler.groups(step)]
    assert cameras.count(3) == 8  # two of the four groups of each identity; then two cameras are left
    assert cameras.count(2) >= 4


def test_clips_take_one_frame_of_each_part_of_a_tracklet() -> None:
    lengths = np.array([9, 2, 1, 12, 5, 3, 8, 4])
    sequence = np.random.default_rng(0).permutation(np.repeat(np.arange(8), lengths))
    identity, camera = sequence // 2, sequence % 2
    sampler = ClipSampler(
        make_table(identity, camera=camera, sequence=sequence), identities=3, clips=2, frames=4, seed=0
    )
    for step in range(20):
        frames = sampler.frames(step)
        assert frames.shape == (3, 2, 4)
        assert len({int(identity[row[0, 0]]) for row in frames}) == 3
        for person in frames:
            assert set(camera[person[:, 0]]) == {0, 1}
            for clip in person:
                assert len(set(sequence[clip])) == 1
                assert (np.diff(clip) >= 0).all()
                rows = np.flatnonzero(sequence == sequence[clip[0]])
                part = np.searchsorted(rows, clip) * 4 / len(rows)
                assert ((part > np.arange(4) - 4 / len(rows)) & (part < np.arange(1, 5))).all()
    np.testing.assert_array_equal(sampler.groups(3), sampler.frames(3).reshape(3, 8))


def test_clips_are_in_the_order_of_frames_whatever_the_order_of_rows() -> None:
    order = np.random.default_rng(0).permutation(24)
    sequence, frame = order // 8, order % 8
    table = make_table(sequence, sequence=sequence, frame=frame)
    frames = ClipSampler(table, identities=3, clips=1, frames=4, seed=0).frames(0)
    for clip in frames[:, 0]:
        assert (frame[clip] // 2).tolist() == [0, 1, 2, 3]


def test_each_tracklet_begins_a_pair_and_its_partner_is_from_another_camera() -> None:
    identity = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3])
    camera = np.array([0, 0, 1, 2, 2, 0, 0, 1, 2, 2])
    sampler = PairSampler(identity, camera, pairs=5, seed=0)
    for number in range(6):
        pairs = np.concatenate([sampler.groups(2 * number), sampler.groups(2 * number + 1)])
        assert sorted(pairs[:, 0].tolist()) == list(range(10))
        assert (identity[pairs[:, 0]] == identity[pairs[:, 1]]).all()
        for one, other in pairs.tolist():
            if identity[one] in (0, 3):
                assert camera[one] != camera[other]
            elif identity[one] == 1:  # one camera: the other tracklet
                assert one != other
            else:
                assert one == other
    again = pickle.loads(pickle.dumps(sampler))
    np.testing.assert_array_equal(again.groups(3), sampler.groups(3))
    partners = {
        int(sampler.groups(step)[i, 1]) for step in range(40) for i in range(5) if sampler.groups(step)[i, 0] == 6
    }
    assert partners == {7, 8, 9}


def test_passes_of_pairs_follow_without_a_gap() -> None:
    sampler = PairSampler(np.arange(7) // 2, np.arange(7) % 2, pairs=3, seed=1)
    first = np.concatenate([sampler.groups(step)[:, 0] for step in range(14)])
    assert all(sorted(first[i : i + 7].tolist()) == list(range(7)) for i in range(0, 42, 7))
    assert not np.array_equal(first[:7], first[7:14])


def test_a_tracklet_of_two_people_gives_clips_of_one() -> None:
    """Labels that were found may divide a tracklet where its track changes over to another person."""
    sequence, identity = np.repeat([0, 1, 2], 6), np.array([0] * 3 + [1] * 9 + [0] * 6)
    sampler = ClipSampler(make_table(identity, sequence=sequence), identities=4, clips=2, frames=4, seed=0, pairs=True)
    seen = set()
    for step in range(20):
        for clip in sampler.frames(step).reshape(-1, 4):
            assert len(set(identity[clip])) == len(set(sequence[clip])) == 1
            seen.add((int(identity[clip[0]]), int(sequence[clip[0]])))
    assert seen == {(0, 0), (1, 0), (1, 1), (0, 2)}


def test_all_frames_of_a_tracklet_are_as_likely() -> None:
    """In the public code half of the clip of nine frames is the last one."""
    table, shares = make_table(np.arange(18) // 9, sequence=np.arange(18) // 9), {}
    for compat in ("fixed", "official"):
        sampler = ClipSampler(table, identities=2, clips=1, frames=8, seed=0, compat=compat)
        clips = np.concatenate([sampler.frames(step).reshape(-1, 8) % 9 for step in range(200)])
        assert (np.diff(clips) >= 0).all()
        shares[compat] = np.bincount(clips.ravel(), minlength=9) / clips.size
    np.testing.assert_allclose(shares["fixed"], 1 / 9, atol=0.025)
    assert shares["official"][8] == pytest.approx(4 / 8)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: PairSampler(np.zeros(3, int), np.arange(3), pairs=2, seed=0), InputError),
        (lambda: PKSampler(np.arange(3), identities=4, images=2, seed=0), InputError),
        (lambda: PKSampler(np.array([0, -1]), identities=1, images=2, seed=0), InputError),
        (lambda: PKSampler(np.zeros(0, int), identities=1, images=2, seed=0), InputError),
        (lambda: PKSampler(np.arange(3), identities=2, images=0, seed=0), SettingsError),
        (lambda: ClipSampler(make_table(np.arange(3)), identities=1, clips=1, frames=4, seed=0), InputError),
        (
            lambda: ClipSampler(
                make_table(np.arange(3), sequence=np.arange(3)), identities=1, clips=1, frames=0, seed=0
            ),
            SettingsError,
        ),
    ],
)
def test_pk_and_clips_that_cannot_be_sampled_are_refused(make: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


@pytest.mark.parametrize(("there", "identities", "images"), [(2, 4, 4), (3, 16, 4), (7, 8, 2), (5, 6, 3)])
def test_too_few_identities_are_told_with_values_that_fit(there: int, identities: int, images: int) -> None:
    identity = _labels([4] * there)
    with pytest.raises(InputError, match=f"the set has {there}") as told:
        PKSampler(identity, identities=identities, images=images, seed=0)
    fitting = int(str(told.value).split("--images-per-step ")[1].split()[0])
    PKSampler(identity, identities=fitting // images, images=images, seed=0)
    if "--method.images " in str(told.value):
        more = int(str(told.value).split("--method.images ")[1])
        assert identities * images % more == 0
        PKSampler(identity, identities=identities * images // more, images=more, seed=0)
