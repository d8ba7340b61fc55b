from itertools import combinations, pairwise

import numpy as np
import pytest

from reappear.core import LOCAL, Assignment, SettingsError
from reappear.denoise import SIGMA_CST, SIGMA_DRM, Rules, calibrate, cross_video, single_tracklet, single_video
from reappear.denoise.evidence import MOST, any_pairs, between_parts, to_rest
from reappear.denoise.false_links import Joins, Tail
from reappear.denoise.groups import Groups, centroids
from reappear.denoise.links import Links
from reappear.denoise.thresholds import NO_CROP
from reappear.metrics import score_identities
from reappear.synthetic import TrackletPlan, embedded_tracklets

from .worlds import tracklet_set


def make_street(seed, *, people=120, videos=6, width=24, spread=0.3, view=0.15, wrong=0.03, crops=6):
    """People pass through each video, three at a time, and look a little different in each."""
    rng = np.random.default_rng(seed)
    center = rng.normal(size=(people, width)) + 1.0
    rows, video, start, truth = [], [], [], []
    for v in range(videos):
        for order, who in enumerate(rng.permutation(people)[: people // 2]):
            shown = np.where(rng.random(crops) < wrong, rng.integers(0, people, crops), who)
            look = center[shown] + view * rng.normal(size=width)
            rows.append(look + spread * rng.normal(size=(crops, width)))
            video.append(v)
            start.append(2.0 * order)
            truth.extend(shown)
    x = np.concatenate(rows)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    lengths = np.full(len(rows), crops)
    return tracklet_set(x.astype(np.float16), lengths, video, start, np.array(start) + 5), np.array(truth)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spread", [0.15, 0.5])
def test_thresholds_follow_the_extractor_and_find_people(seed, spread):
    world, truth = make_street(seed, spread=spread)
    start = Assignment.untouched(world)
    chosen = calibrate(world, start, resamples=30)
    assert chosen.notes == ()
    assert chosen.parts_linked > 0.8
    assert chosen.simultaneous_linked < 0.01
    assert chosen.false_links <= 0.2
    for sigma, (low, high) in (
        (chosen.sigma_cst, chosen.sigma_cst_interval),
        (chosen.sigma_drm, chosen.sigma_drm_interval),
    ):
        assert low <= sigma <= high
    assert np.ptp(chosen.sigma_drm_interval) < 0.5 * chosen.sigma_drm
    cleaned = single_tracklet(world, start, sigma_cst=chosen.sigma_cst)
    inside = single_video(world, cleaned, sigma_cst=chosen.sigma_cst, sigma_drm=chosen.sigma_drm, rules=Rules(True))
    found = cross_video(world, inside, sigma_drm=chosen.sigma_drm, rules=Rules(True))
    before, after = (score_identities(truth, a.crop_identity) for a in (start, found))
    assert after.pairwise_f1 > before.pairwise_f1 + 0.2
    assert after.bcubed_f1 > before.bcubed_f1 + 0.2


def test_noisier_crops_give_a_larger_sigma_cst():
    near, far = (
        calibrate(w, Assignment.untouched(w), resamples=0).sigma_cst
        for w, _ in (make_street(0, spread=s) for s in (0.1, 0.8))
    )
    assert near < far


def test_more_false_links_give_a_larger_sigma_drm():
    world, _ = make_street(1)
    start = Assignment.untouched(world)
    few, many = (calibrate(world, start, false_links=share, resamples=0) for share in (0.02, 0.5))
    assert few.sigma_drm < many.sigma_drm
    assert few.false_links <= 0.02 < many.false_links <= 0.5
    assert few.pairs_linked < many.pairs_linked


@pytest.mark.parametrize("wrong", [0.0, 0.05, 0.2])
def test_impostors_in_tracklets_are_estimated_and_removed(wrong):
    world, truth = make_street(3, spread=0.6, wrong=wrong, crops=8)
    start = Assignment.untouched(world)
    found = calibrate(world, start, impostors=0.8, resamples=0)
    host = np.array([np.bincount(truth[a:b]).argmax() for a, b in pairwise(world.offsets)])
    impostor = truth != host[world.origin]
    assert found.crops_wrong == pytest.approx(impostor.mean(), abs=0.04)
    gone = single_tracklet(world, start, sigma_cst=found.sigma_cst).tracklet < 0
    if wrong:
        assert impostor[gone].mean() > 0.75
        assert gone[impostor].mean() > 0.75
    else:
        assert gone.mean() < 0.02


@pytest.mark.parametrize("bearable", [0.1, 0.2, 0.4])
def test_false_links_are_predicted_through_chains(bearable):
    """People look so alike that links chain them."""
    predicted, true = [], []
    for seed in range(4):
        world, truth = make_street(seed, videos=10, width=10, spread=0.4, view=0.3, wrong=0.0)
        start = Assignment.untouched(world)
        found = calibrate(world, start, false_links=bearable, sigma_cst=2.0, resamples=0)
        joined = cross_video(world, start, sigma_drm=found.sigma_drm)
        predicted.append(found.false_links)
        true.append(1 - score_identities(truth, joined.crop_identity).pairwise_precision)
    assert bearable / 2 < np.mean(predicted) <= bearable
    assert np.mean(true) == pytest.approx(np.mean(predicted), abs=0.1)


def test_outlying_join_ends_the_search():
    """No link at all where already the shortest joins are of two people."""
    impostors = [Tail(low=0.1, share_at_low=0.01, exponent=2.0)]
    joins = Joins(np.linspace(0.3, 0.5, 30), np.full(30, 4.0), within=10.0, compared=100_000)
    sigma, share = joins.longest(impostors, 0.1)
    assert sigma < 0.3
    assert share == 0
    none = Joins(np.zeros(0), np.zeros(0), within=10.0, compared=1000)
    sigma, share = none.longest(impostors, 0.1)
    assert impostors[0].share(np.array([sigma]))[0] == pytest.approx(1 / 1000)
    assert share == 0


def test_join_counts_all_pairs_of_crops():
    links = Links(np.array([0, 1, 3]), np.array([1, 2, 4]), np.array([0.1, 0.2, 0.3], np.float32))
    joins = Joins.along(links, np.array([2, 1, 3, 1, 1]), compared=10)
    assert joins.pairs.tolist() == [2, 9, 1]
    assert joins.within == 1 + 0 + 3


def test_same_seed_draws_the_same_tracklets():
    world, _ = make_street(0)
    start = Assignment.untouched(world)
    one, same, other = (calibrate(world, start, resamples=10, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one.sigma_drm == other.sigma_drm
    assert one.sigma_cst_interval != other.sigma_cst_interval


def test_intervals_need_resamples():
    world, _ = make_street(0, people=60)
    found = calibrate(world, Assignment.untouched(world), resamples=0)
    assert np.isnan([*found.sigma_cst_interval, *found.sigma_drm_interval]).all()


def test_distances_are_those_of_the_crops():
    """By hand: a tracklet of four crops, and of six, which has a gap between its first and last third as well."""
    world, _ = make_street(0, people=6, videos=2, crops=6)
    groups = Groups.of(world.origin, len(world))
    x = world.embeddings.astype(float)

    def mean(rows):
        total = x[rows].sum(0)
        return total / np.linalg.norm(total)

    halves, thirds, rest = [], [], []
    for a, b in pairwise(world.offsets):
        rows = np.arange(a, b)
        halves.append(1 - mean(rows[:3]) @ mean(rows[3:]))
        thirds.append(1 - mean(rows[:2]) @ mean(rows[4:]))
        rest += [1 - x[row] / np.linalg.norm(x[row]) @ mean(rows[rows != row]) for row in rows]
    parts = between_parts(world, groups, LOCAL)
    assert parts.value.tolist() == pytest.approx(sorted(halves + thirds), abs=1e-3)
    assert to_rest(world, groups, centroids(world.embeddings, groups)).value.tolist() == pytest.approx(
        sorted(rest), abs=1e-3
    )
    short = make_street(0, people=6, videos=2, crops=4)[0]
    assert len(between_parts(short, Groups.of(short.origin, len(short)), LOCAL)) == len(short)


def test_given_threshold_is_not_calibrated():
    world, _ = make_street(1)
    assert calibrate(world, Assignment.untouched(world), sigma_cst=0.123).sigma_cst == 0.123


def test_too_little_evidence_is_noted():
    world, _ = make_street(0, people=6, videos=1)
    found = calibrate(world, Assignment.untouched(world))
    assert found.sigma_cst == NO_CROP
    assert found.sigma_drm <= SIGMA_DRM
    assert len(found.notes) == 2
    assert "18 crops can be compared" in found.notes[0]
    assert "200 and 1000 are needed: sigma_cst is 2, which removes no crop" in found.notes[0]
    assert "too few to calibrate" in found.notes[1]
    assert "50 such pairs or 1000 of any are needed" in found.notes[1]
    assert np.isnan([found.crops_wrong, found.outside_wrong, found.false_links, *found.sigma_drm_interval]).all()


def test_missing_simultaneous_tracklets_are_noted():
    world, _ = make_street(0)
    consecutive = tracklet_set(world.embeddings, np.diff(world.offsets), world.video, np.arange(len(world)) * 100.0)
    found = calibrate(consecutive, Assignment.untouched(consecutive), resamples=0)
    assert found.simultaneous == 0
    assert np.isnan(found.simultaneous_linked)
    assert len(found.notes) == 2
    assert all("0 pairs of simultaneous tracklets, 50" in note for note in found.notes)
    assert found.sigma_cst != SIGMA_CST
    assert found.sigma_drm != SIGMA_DRM


def test_of_few_tracklets_each_pair_counts_once():
    present = np.array([2, 3, 5, 8, 9])
    assert sorted(map(tuple, any_pairs(present, 4, "pairs").tolist())) == list(combinations(present.tolist(), 2))
    near = any_pairs(np.arange(50), 3, "pairs")
    assert len(near) == 49 + 48 + 47 == len(np.unique(near, axis=0))
    assert set((near[:, 1] - near[:, 0]).tolist()) == {1, 2, 3}
    many = any_pairs(np.arange(1000), 999, "pairs")
    assert MOST / 3 < len(many) <= MOST
    assert (many[:, 0] < many[:, 1]).all()


def test_frequent_people_do_not_count_as_impostors():
    """Six people in forty videos: every sixth pair is one person, so that the bulk says nothing about impostors."""
    world, truth = make_street(4, people=6, videos=40, crops=5, wrong=0.0)
    start = Assignment.untouched(world)
    found = calibrate(world, start, resamples=0)
    joined = cross_video(world, start, sigma_drm=found.sigma_drm)
    scores = score_identities(truth, joined.crop_identity)
    assert scores.pairwise_precision > 0.9
    assert scores.pairwise_recall > 0.5


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_uninformative_extractor_is_noted(noise):
    world, _ = make_street(0, people=60)
    x = np.eye(8)[0] + noise * np.random.default_rng(0).normal(size=(len(world.embeddings), 8))
    alike = tracklet_set(x.astype(np.float16), np.diff(world.offsets), world.video, world.start, world.end)
    found = calibrate(alike, Assignment.untouched(alike), resamples=0)
    assert any("does not separate these people" in note for note in found.notes)
    assert any("sigma_cst is 2" in note for note in found.notes)


@pytest.mark.parametrize("wrong", [{"impostors": 0.0}, {"impostors": 1.0}, {"false_links": 0.0}, {"resamples": -1}])
def test_shares_out_of_range(wrong):
    world, _ = make_street(0, people=6, videos=1)
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        calibrate(world, Assignment.untouched(world), **wrong)


def test_impostors_that_share_the_light_of_a_tracklet_are_removed():
    """They lie nearer to its crops than crops of other tracklets do, by a factor that is found."""
    plan = TrackletPlan(
        people=100, cameras=4, visits=2, crops=6, swapped=0.05, switched=0.02, background=0.02, split=0.25, seed=0
    )
    world, truth = embedded_tracklets(plan, dimensions=256, noise=0.6, camera_shift=0.4)
    start = Assignment.untouched(world)
    found = calibrate(world, start, resamples=0)
    shown = [np.bincount(truth.truth[a:b] + 1).argmax() - 1 for a, b in pairwise(world.offsets.tolist())]
    wrong = truth.truth != np.array(shown)[world.origin]
    removed = single_tracklet(world, start, sigma_cst=found.sigma_cst).tracklet < 0
    assert found.crops_wrong == pytest.approx(wrong.mean(), abs=0.02)
    assert removed[wrong].mean() > 0.7
    assert wrong[removed].mean() > 0.7
