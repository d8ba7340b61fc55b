"""What holds of the stages whatever the numbers are: thresholds at their ends, orders, copies, repetition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.core import Assignment, InputError, TrackletSet, lengths_to_offsets
from reappear.denoise import (
    Rules,
    calibrate,
    cross_video,
    global_link,
    noise_score,
    noise_terms,
    single_tracklet,
    single_video,
)
from reappear.denoise.thresholds import RESOLUTION

from .worlds import at, gaussian, sigmas, tracklet_set, worlds

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10_000)
everywhere = 10**9


def refines(fine, coarse):
    """Whether each group of `fine` lies in one group of `coarse`."""
    return all(len(np.unique(coarse[fine == group])) == 1 for group in np.unique(fine[fine >= 0]))


def same_groups(left, right):
    return (left < 0).tolist() == (right < 0).tolist() and refines(left, right) and refines(right, left)


def clean(tracklets, sigma=0.3):
    return single_tracklet(tracklets, Assignment.untouched(tracklets), sigma_cst=sigma)


def reordered(tracklets, order):
    """The same tracklets in another order, and the new place of each crop's old row."""
    rows = np.concatenate([np.arange(tracklets.offsets[t], tracklets.offsets[t + 1]) for t in order])
    lengths = np.diff(tracklets.offsets)[order]
    moved = TrackletSet(
        tracklets.embeddings[rows],
        tracklets.video[order],
        tracklets.start[order],
        tracklets.end[order],
        lengths_to_offsets(lengths),
    )
    return moved, rows


def by_crop(found, rows):
    """The identity of each crop, by its old row."""
    out = np.empty(len(rows), np.int64)
    out[rows] = found.crop_identity
    return out


class TestEnds:
    @few
    @given(worlds)
    def test_sigma_cst_of_zero_leaves_one_crop_of_each_tracklet(self, tracklets):
        left = clean(tracklets, 0.0).tracklet
        assert np.bincount(left[left >= 0], minlength=len(tracklets)).tolist() == [1] * len(tracklets)

    @few
    @given(worlds)
    def test_sigma_cst_of_two_removes_only_opposites(self, tracklets):
        gone = np.flatnonzero(clean(tracklets, 2.0).tracklet < 0)
        x = tracklets.embeddings
        for crop in gone:
            mates = np.flatnonzero(tracklets.origin == tracklets.origin[crop])
            assert (x[mates] @ x[crop]).min() == pytest.approx(-1, abs=1e-5)

    @few
    @given(worlds, st.integers(1, 3))
    def test_sigma_drm_of_two_merges_everything(self, tracklets, radius):
        start = Assignment.untouched(tracklets)
        assert cross_video(tracklets, start, sigma_drm=2.0, radius=radius).identities == 1
        assert single_video(tracklets, start, sigma_drm=2.0).identities == len(np.unique(tracklets.video))

    @few
    @given(worlds)
    def test_sigma_drm_of_zero_merges_only_copies(self, tracklets):
        """Those whose crops have one mean direction, up to what float32 tells apart."""
        start = Assignment.untouched(tracklets)
        identity = cross_video(tracklets, start, sigma_drm=0.0, radius=everywhere).identity
        means = np.array([tracklets.embeddings[tracklets.origin == t].sum(0) for t in range(len(tracklets))], float)
        length = np.linalg.norm(means, axis=1)
        copies = means @ means.T >= (1 - 2 * RESOLUTION) * np.outer(length, length)
        for group in np.unique(identity):
            mine = np.flatnonzero(identity == group)
            assert len(mine) == 1 or (copies[np.ix_(mine, mine)].sum(axis=1) > 1).all()

    @few
    @given(worlds, seeds)
    def test_reallocation_at_both_ends(self, tracklets, seed):
        """Eq. 5 gives nothing away at 0, and at 2 all that has another tracklet to go to and is not its opposite."""
        gone = np.random.default_rng(seed).random(len(tracklets.embeddings)) < 0.4
        start = Assignment(np.where(gone, -1, tracklets.origin), np.arange(len(tracklets)))
        none = single_video(tracklets, start, sigma_cst=0.0, sigma_drm=0.0)
        assert none.tracklet.tolist() == start.tracklet.tolist()
        every = single_video(tracklets, start, sigma_cst=2.0, sigma_drm=0.0).tracklet
        filled = np.bincount(start.tracklet[~gone], minlength=len(tracklets)) > 0
        for crop in np.flatnonzero(gone):
            own = tracklets.origin[crop]
            others = np.flatnonzero(
                filled & (tracklets.video == tracklets.video[own]) & (np.arange(len(filled)) != own)
            )
            if not len(others):
                assert every[crop] == -1
            elif every[crop] == -1:
                means = [tracklets.embeddings[start.tracklet == t].sum(0) for t in others]
                assert all(tracklets.embeddings[crop] @ m <= (-1 + 1e-5) * np.linalg.norm(m) for m in means)

    @few
    @given(worlds, sigmas)
    def test_tracklet_of_one_crop_stays_as_it_is(self, tracklets, sigma):
        alone = np.diff(tracklets.offsets)[tracklets.origin] == 1
        left = clean(tracklets, sigma).tracklet
        assert left[alone].tolist() == tracklets.origin[alone].tolist()

    @few
    @given(seeds, st.integers(2, 600), st.sampled_from([0.01, 0.2, 2.0]))
    def test_copies_stay_together(self, seed, copies, sigma):
        """Also by the way of long tracklets."""
        x = np.random.default_rng(seed).normal(size=8)
        world = tracklet_set(np.tile(x / np.linalg.norm(x), (copies, 1)).astype(np.float32), [copies])
        assert (clean(world, sigma).tracklet == 0).all()


class TestOrders:
    """Where there are no ties. Eq. 4 and crops within tracklets: `test_equations.py`."""

    @few
    @given(seeds, sigmas)
    def test_tracklets_within_videos(self, seed, drm):
        world, _ = gaussian(seed, spread=0.5)
        rng = np.random.default_rng(seed)
        order = np.concatenate([rng.permutation(np.flatnonzero(world.video == v)) for v in np.unique(world.video)])
        moved, rows = reordered(world, order)
        for stage in (
            lambda w: single_video(w, clean(w), sigma_cst=0.3, sigma_drm=drm),
            lambda w: cross_video(w, clean(w), sigma_drm=drm, radius=everywhere),
            lambda w: global_link(w, clean(w), sigma_drm=drm),
        ):
            assert same_groups(stage(world).crop_identity, by_crop(stage(moved), rows))

    @few
    @given(seeds, sigmas)
    def test_videos(self, seed, drm):
        world, _ = gaussian(seed, spread=0.5, videos=4)
        order = np.concatenate(
            [np.flatnonzero(world.video == v) for v in np.random.default_rng(seed).permutation(np.unique(world.video))]
        )
        moved, rows = reordered(world, order)
        for stage in (
            lambda w: single_video(w, clean(w), sigma_cst=0.3, sigma_drm=drm),
            lambda w: cross_video(w, clean(w), sigma_drm=drm, radius=everywhere),
        ):
            assert same_groups(stage(world).crop_identity, by_crop(stage(moved), rows))
        assert noise_score(moved, clean(moved), sigma_drm=drm) == noise_score(world, clean(world), sigma_drm=drm)

    @few
    @given(seeds, sigmas, st.sampled_from(["once", "repeat"]))
    def test_crops_within_tracklets(self, seed, drm, merge):
        world, _ = gaussian(seed, spread=0.5)
        rng = np.random.default_rng(seed)
        rows = np.concatenate([rng.permutation(np.flatnonzero(world.origin == t)) for t in range(len(world))])
        moved = TrackletSet(world.embeddings[rows], world.video, world.start, world.end, world.offsets)
        gone = rng.random(len(rows)) < 0.3
        for stage in (
            lambda w, a: single_video(w, a, sigma_cst=0.5, sigma_drm=drm, merge=merge),
            lambda w, a: cross_video(w, a, sigma_drm=drm),
        ):
            here, there = (
                stage(w, Assignment(np.where(gone[r], -1, w.origin), np.arange(len(w))))
                for w, r in ((world, np.arange(len(rows))), (moved, rows))
            )
            assert here.tracklet[rows].tolist() == there.tracklet.tolist()
            assert here.identity.tolist() == there.identity.tolist()

    def test_where_order_matters(self):
        """The sliding range counts places, and centroids that are updated remember who came first."""
        near = tracklet_set(at(0, 1, 90), [1, 1, 1], video=[0, 1, 2])
        far = tracklet_set(at(0, 90, 1), [1, 1, 1], video=[0, 1, 2])
        assert cross_video(near, Assignment.untouched(near), radius=1).identities == 2
        assert cross_video(far, Assignment.untouched(far), radius=1).identities == 3
        for crops, given_away in ((at(0, 30, 60, 170), 2), (at(0, 60, 30, 170), 1)):
            world = tracklet_set(crops, [1, 2, 1])
            start = Assignment(np.array([0, -1, -1, 2]), np.array([0, -1, 1]))
            found = single_video(world, start, sigma_cst=0.4, sigma_drm=0.0, targets="updated")
            assert np.count_nonzero(found.tracklet == 0) == 1 + given_away


class TestRepetition:
    @few
    @given(worlds, sigmas)
    def test_linking_again_never_splits(self, tracklets, drm):
        once = cross_video(tracklets, Assignment.untouched(tracklets), sigma_drm=drm)
        assert refines(once.identity, cross_video(tracklets, once, sigma_drm=drm).identity)

    @few
    @given(worlds, sigmas)
    def test_repeated_merging_is_idempotent(self, tracklets, drm):
        once = single_video(tracklets, Assignment.untouched(tracklets), sigma_drm=drm, merge="repeat")
        again = single_video(tracklets, once, sigma_drm=drm, merge="repeat")
        assert again.identity.tolist() == once.identity.tolist()

    @pytest.mark.parametrize("stage", [single_video, cross_video, global_link])
    def test_linking_once_is_not_idempotent(self, stage):
        """A third lies near the middle of two, and near neither: no stage that links is idempotent, as printed."""
        a, b, up = np.deg2rad([0, 20, 19])
        crops = [[np.cos(a), np.sin(a), 0], [np.cos(b), np.sin(b), 0]]
        crops.append([np.cos(up) * np.cos(b / 2), np.cos(up) * np.sin(b / 2), np.sin(up)])
        world = tracklet_set(np.array(crops, np.float32), [1, 1, 1])
        once = stage(world, Assignment.untouched(world), sigma_drm=1 - np.cos(np.deg2rad(20.5)))
        assert once.identity.tolist() == [0, 0, 1]
        assert stage(world, once, sigma_drm=1 - np.cos(np.deg2rad(20.5))).identity.tolist() == [0, 0, 0]


class TestWider:
    @few
    @given(worlds, sigmas, sigmas)
    def test_larger_sigma_cst_removes_a_subset(self, tracklets, one, other):
        """Who deviates most does not depend on the threshold."""
        wide, narrow = (clean(tracklets, sigma).tracklet < 0 for sigma in (max(one, other), min(one, other)))
        assert not (wide & ~narrow).any()

    @few
    @given(worlds, sigmas, sigmas, st.integers(1, 5))
    def test_larger_sigma_drm_never_splits_an_identity(self, tracklets, one, other, radius):
        start = clean(tracklets)
        low, high = min(one, other), max(one, other)
        for stage in (
            lambda drm: cross_video(tracklets, start, sigma_drm=drm, radius=radius),
            lambda drm: single_video(tracklets, start, sigma_cst=0.3, sigma_drm=drm),
        ):
            assert refines(stage(low).crop_identity, stage(high).crop_identity)

    @few
    @given(worlds, sigmas, sigmas)
    def test_noise_falls_with_sigma_cst_and_rises_with_sigma_drm(self, tracklets, one, other):
        low, high = min(one, other), max(one, other)
        terms = [noise_terms(tracklets, clean(tracklets), sigma_cst=s, sigma_drm=s) for s in (low, high)]
        assert terms[0].inconsistent >= terms[1].inconsistent
        assert terms[0].similar_pairs <= terms[1].similar_pairs
        assert all(0 <= t.score <= t.identities for t in terms)

    @few
    @given(worlds, sigmas)
    def test_rules_never_merge_more(self, tracklets, drm):
        rng = np.random.default_rng(len(tracklets))
        begin = rng.uniform(0, 20, len(tracklets))
        timed = TrackletSet(tracklets.embeddings, tracklets.video, begin, begin + 5, tracklets.offsets)
        free = cross_video(timed, clean(timed), sigma_drm=drm)
        for rules in ({"constraints": True}, {"guard": "diameter"}, {"guard": "cut"}):
            assert refines(
                cross_video(timed, clean(timed), sigma_drm=drm, rules=Rules(**rules)).identity, free.identity
            )


class TestGeometry:
    @few
    @given(seeds, sigmas)
    def test_rotation_and_scaling_change_nothing(self, seed, sigma):
        world, _ = gaussian(seed, spread=0.5)
        rng = np.random.default_rng(seed)
        turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
        lengths = rng.uniform(0.1, 10, (len(world.embeddings), 1))
        x = (world.embeddings.astype(float) @ turn * lengths).astype(np.float32)
        turned = tracklet_set(x, np.diff(world.offsets), world.video)
        first, second = (single_tracklet(w, Assignment.untouched(w), sigma_cst=0.47) for w in (world, turned))
        count = np.bincount(first.tracklet[first.tracklet >= 0], minlength=len(world))
        assert np.bincount(second.tracklet[second.tracklet >= 0], minlength=len(world)).tolist() == count.tolist()
        left, right = (cross_video(w, Assignment.untouched(w), sigma_drm=sigma) for w in (world, turned))
        assert left.identity.tolist() == right.identity.tolist()

    @few
    @given(seeds, st.sampled_from([0.05, 0.18, 0.4]))
    def test_other_videos_do_not_change_single_video(self, seed, drm):
        world, _ = gaussian(seed, spread=0.5)
        wide = np.concatenate([np.pad(world.embeddings, ((0, 0), (0, 1))), np.eye(7, dtype=np.float32)[[6, 6]]])
        more = tracklet_set(wide, [*np.diff(world.offsets), 2], [*world.video, 9])
        for stage in (
            lambda w: single_video(w, clean(w), sigma_cst=0.3, sigma_drm=drm),
            lambda w: cross_video(w, clean(w), sigma_drm=drm),
        ):
            assert stage(more).identity.tolist() == [*stage(world).identity.tolist(), stage(world).identity.max() + 1]


@few
@given(worlds, st.sampled_from([0.0, np.nan, np.inf]), seeds)
def test_crop_without_an_embedding_is_refused(tracklets, value, seed):
    """Wherever it lies; discarded ones are passed over in `test_stages.py`."""
    row = seed % len(tracklets.embeddings)
    x = tracklets.embeddings.copy()
    x[row] = value
    broken = TrackletSet(x, tracklets.video, tracklets.start, tracklets.end, tracklets.offsets)
    for stage in (single_tracklet, single_video, cross_video, global_link, noise_score, calibrate):
        with pytest.raises(InputError, match=f"row {row} is zero or not finite, and 0 more like it"):
            stage(broken, Assignment.untouched(broken))
