"""The stages against the literal loops of tests/references/denoise.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.core import Assignment, TrackletSet
from reappear.denoise import cross_video, noise_score, noise_terms, single_tracklet, single_video
from tests.references import denoise as literal

from .worlds import gaussian, sigmas, worlds

few = settings(max_examples=60, deadline=None)


def plain(tracklets):
    x = tracklets.embeddings.astype(float)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).tolist()


@few
@given(worlds, sigmas)
def test_single_tracklet_is_equation_4(tracklets, sigma):
    found = single_tracklet(tracklets, Assignment.untouched(tracklets), sigma_cst=sigma)
    assert found.tracklet.tolist() == literal.single_tracklet(plain(tracklets), tracklets.origin.tolist(), sigma)


@few
@given(worlds, sigmas, sigmas, st.sampled_from(["frozen", "updated"]), st.integers(0, 1000))
def test_single_video_is_equations_5_and_6(tracklets, cst, drm, targets, seed):
    """Any crops may have been discarded before, whole tracklets too."""
    x, origin, video = plain(tracklets), tracklets.origin.tolist(), tracklets.video.tolist()
    gone = np.random.default_rng(seed).random(len(x)) < 0.4
    left = np.where(gone, -1, tracklets.origin)
    start = Assignment(left, np.arange(len(tracklets)))
    found = single_video(tracklets, start, sigma_cst=cst, sigma_drm=drm, targets=targets)
    owner = literal.reallocate(x, left.tolist(), origin, video, cst, targets)
    assert found.tracklet.tolist() == owner
    assert found.identity.tolist() == literal.merge(x, owner, list(range(len(video))), video, drm, None)


@few
@given(worlds, sigmas, st.integers(0, 6))
def test_cross_video_is_equation_7(tracklets, drm, radius):
    x, video = plain(tracklets), tracklets.video.tolist()
    start = single_video(tracklets, Assignment.untouched(tracklets), sigma_cst=0.3, sigma_drm=0.1)
    found = cross_video(tracklets, start, sigma_drm=drm, radius=radius)
    expected = literal.merge(x, start.tracklet.tolist(), start.identity.tolist(), video, drm, radius)
    assert found.identity.tolist() == expected
    assert found.tracklet.tolist() == start.tracklet.tolist()


@few
@given(worlds, sigmas, sigmas)
def test_noise_score_is_equations_1_to_3(tracklets, cst, drm):
    for assignment in (
        Assignment.untouched(tracklets),
        single_video(tracklets, single_tracklet(tracklets, Assignment.untouched(tracklets))),
    ):
        found = noise_score(tracklets, assignment, sigma_cst=cst, sigma_drm=drm)
        assert found == pytest.approx(
            literal.noise_score(plain(tracklets), assignment.crop_identity.tolist(), cst, drm), abs=1e-12
        )


@few
@given(worlds, sigmas)
def test_single_tracklet_again_changes_nothing(tracklets, sigma):
    once = single_tracklet(tracklets, Assignment.untouched(tracklets), sigma_cst=sigma)
    twice = single_tracklet(tracklets, once, sigma_cst=sigma)
    assert twice.tracklet.tolist() == once.tracklet.tolist()
    assert twice.identity.tolist() == once.identity.tolist()


@few
@given(worlds, st.sampled_from([0.05, 0.2, 0.5, 1.0]))
def test_clean_tracklet_is_consistent(tracklets, sigma):
    """A crop is never nearer to the mean of the others than to the mean of all: Eq. 4 leaves Eq. 1 nothing to count."""
    cleaned = single_tracklet(tracklets, Assignment.untouched(tracklets), sigma_cst=sigma)
    assert noise_terms(tracklets, cleaned, sigma_cst=sigma).inconsistent == 0


@few
@given(worlds, sigmas, st.integers(0, 8))
def test_wider_range_never_splits_an_identity(tracklets, drm, radius):
    start = Assignment.untouched(tracklets)
    narrow = cross_video(tracklets, start, sigma_drm=drm, radius=radius).identity
    wide = cross_video(tracklets, start, sigma_drm=drm, radius=radius + 3).identity
    for identity in np.unique(narrow):
        assert len(np.unique(wide[narrow == identity])) == 1


@few
@given(worlds, sigmas)
def test_range_of_all_nodes_is_every_pair(tracklets, drm):
    start = Assignment.untouched(tracklets)
    count = len(tracklets)
    whole = cross_video(tracklets, start, sigma_drm=drm, radius=count)
    assert whole.identity.tolist() == cross_video(tracklets, start, sigma_drm=drm, radius=10**9).identity.tolist()
    video = list(range(count))
    expected = literal.merge(plain(tracklets), tracklets.origin.tolist(), video, video, drm, count)
    assert whole.identity.tolist() == expected


@few
@given(st.integers(0, 1000), sigmas)
def test_order_of_crops_does_not_matter_without_ties(seed, sigma):
    world, _ = gaussian(seed, spread=0.5)
    rng = np.random.default_rng(seed)
    runs = zip(world.offsets[:-1], world.offsets[1:], strict=True)
    order = np.concatenate([rng.permutation(np.arange(a, b)) for a, b in runs])
    shuffled = TrackletSet(world.embeddings[order], world.video, world.start, world.end, world.offsets)
    left = single_tracklet(world, Assignment.untouched(world), sigma_cst=sigma).tracklet[order]
    right = single_tracklet(shuffled, Assignment.untouched(shuffled), sigma_cst=sigma).tracklet
    # Two crops are equally far from each other, so which one remains alone is decided by their order.
    count = np.bincount(left[left >= 0], minlength=len(world))
    assert np.bincount(right[right >= 0], minlength=len(world)).tolist() == count.tolist()
    several = count[world.origin] > 1
    assert left[several].tolist() == right[several].tolist()
