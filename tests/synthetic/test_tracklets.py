import numpy as np
import pytest

from reappear.core import InputError, offsets_to_owner
from reappear.synthetic import TrackletPlan, draw_tracklets, embedded_tracklets, render_tracklets


def test_tracklets_without_noise_have_one_person_each() -> None:
    truth = draw_tracklets(TrackletPlan(people=7, cameras=3, visits=2, crops=5))
    assert len(truth.video) == 42
    assert truth.video.tolist() == sorted(truth.video.tolist())
    by_tracklet = truth.truth.reshape(42, 5)
    assert (by_tracklet == by_tracklet[:, :1]).all()
    for camera in range(3):
        assert sorted(by_tracklet[truth.video == camera, 0]) == sorted([*range(7), *range(7)])


def test_noise_amounts_are_as_given() -> None:
    plan = TrackletPlan(people=20, cameras=2, crops=10, swapped=0.06, switched=0.2, split=0.25, background=0.04, seed=3)
    truth = draw_tracklets(plan)
    assert len(truth.video) == 40 + 10
    assert len(np.unique(truth.walk)) == 40
    assert truth.swapped.sum() == 24
    assert truth.background.sum() == 16
    assert (truth.truth[truth.background] == -1).all()
    assert (truth.truth[~truth.background] >= 0).all()
    walk = truth.walk[offsets_to_owner(truth.offsets)]
    assert len(np.unique(walk[truth.switched])) == 8
    assert not (truth.swapped & truth.switched).any()


def test_noise_masks_mark_the_changed_crops() -> None:
    clean = TrackletPlan(people=12, cameras=2, crops=9, seed=5)
    noisy = TrackletPlan(people=12, cameras=2, crops=9, seed=5, swapped=0.1, switched=0.2, split=0.3, background=0.1)
    before, after = draw_tracklets(clean), draw_tracklets(noisy)
    changed = before.truth != after.truth
    np.testing.assert_array_equal(changed, after.swapped | after.switched | after.background)
    # A switch lasts to the end of the walk.
    switched = after.switched.reshape(24, 9)
    assert (np.diff(switched.astype(int), axis=1) >= 0).all()
    assert not switched[:, 0].any()


def test_swapped_crops_show_a_person_present_at_the_time() -> None:
    truth = draw_tracklets(TrackletPlan(people=9, cameras=2, visits=2, crops=6, swapped=0.3, seed=1))
    owner = offsets_to_owner(truth.offsets)
    clean = draw_tracklets(TrackletPlan(people=9, cameras=2, visits=2, crops=6, seed=1)).truth.reshape(-1, 6)[:, 0]
    for crop in np.flatnonzero(truth.swapped):
        mine = owner[crop]
        there = (truth.video == truth.video[mine]) & (truth.start < truth.end[mine]) & (truth.end > truth.start[mine])
        assert truth.truth[crop] in clean[there]
        assert truth.truth[crop] != clean[mine]


def test_parts_of_a_split_tracklet_are_consecutive_in_time() -> None:
    truth = draw_tracklets(TrackletPlan(people=10, cameras=1, crops=8, split=1.0))
    assert len(truth.video) == 20
    assert (np.diff(truth.offsets) >= 1).all()
    for walk in range(10):
        first, second = np.flatnonzero(truth.walk == walk)
        assert truth.end[first] < truth.start[second]


@pytest.mark.parametrize(
    ("plan", "key"),
    [
        (TrackletPlan(people=1, swapped=0.1), "1 person"),
        (TrackletPlan(people=5, swapped=0.6, background=0.6), "more than 1"),
        (TrackletPlan(people=5, crops=1, split=0.5), "one crop"),
    ],
)
def test_impossible_noise_is_refused(plan: TrackletPlan, key: str) -> None:
    with pytest.raises(InputError, match=key):
        draw_tracklets(plan)


def test_crops_show_the_person_of_the_ground_truth() -> None:
    plan = TrackletPlan(people=6, cameras=2, crops=6, background=0.1, swapped=0.1, seed=2)
    images, truth = render_tracklets(plan, height=32, width=16)
    assert images.shape == (72, 32, 16, 3)
    # Averages of a person's crops lie nearer to that person's other crops than to others'.
    looks = images.reshape(72, -1).astype(float)
    right = 0
    for crop in np.flatnonzero(truth.truth >= 0):
        rest = np.arange(72) != crop
        distance = [np.linalg.norm(looks[crop] - looks[rest & (truth.truth == p)].mean(axis=0)) for p in range(6)]
        right += int(np.argmin(distance) == truth.truth[crop])
    assert right > 0.5 * (truth.truth >= 0).sum()
    # Background has less detail than people.
    detail = images.astype(float).std(axis=(1, 2)).mean(axis=1)
    assert detail[truth.background].mean() < 0.6 * detail[~truth.background].mean()


def test_crops_depend_on_the_seed_only() -> None:
    plan, other = (TrackletPlan(people=2, cameras=1, crops=2, seed=seed) for seed in (0, 1))
    first, again, different = (render_tracklets(p, height=32, width=16)[0] for p in (plan, plan, other))
    np.testing.assert_array_equal(first, again)
    assert (first != different).mean() > 0.5


def test_embeddings_of_a_person_form_a_cluster() -> None:
    found, truth = embedded_tracklets(TrackletPlan(people=15, cameras=3, crops=6, background=0.1))
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, rtol=1e-5)
    similar = found.embeddings @ found.embeddings.T
    person = truth.truth >= 0
    same = (truth.truth[:, None] == truth.truth[None]) & person[:, None] & person[None]
    assert similar[same].mean() > 0.8
    assert similar[~same].mean() < 0.2


def test_similarity_across_cameras_falls_with_camera_shift() -> None:
    def across(shift: float) -> float:
        found, truth = embedded_tracklets(TrackletPlan(people=15, cameras=2, crops=4), camera_shift=shift)
        camera = truth.video[found.origin]
        pairs = (truth.truth[:, None] == truth.truth[None]) & (camera[:, None] != camera[None])
        return float((found.embeddings @ found.embeddings.T)[pairs].mean())

    assert across(0.0) > across(0.5) > across(2.0)
