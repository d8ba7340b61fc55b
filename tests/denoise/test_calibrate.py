import numpy as np
import pytest

from reappear.core import Assignment, SettingsError
from reappear.denoise import SIGMA_CST, SIGMA_DRM, calibrate, cross_video, single_tracklet, single_video
from reappear.metrics import score_identities

from .worlds import tracklet_set


def street(seed, *, people=120, videos=6, width=24, spread=0.3, view=0.15, wrong=0.03, crops=6):
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
    world, truth = street(seed, spread=spread)
    start = Assignment.untouched(world)
    chosen = calibrate(world, start)
    assert chosen.notes == ()
    assert chosen.halves_linked > 0.8
    assert chosen.apart_linked < 0.01
    cleaned = single_tracklet(world, start, sigma_cst=chosen.sigma_cst)
    inside = single_video(world, cleaned, sigma_cst=chosen.sigma_cst, sigma_drm=chosen.sigma_drm, constraints=True)
    found = cross_video(world, inside, sigma_drm=chosen.sigma_drm, constraints=True)
    before, after = (score_identities(truth, a.crop_identity) for a in (start, found))
    assert after.pairwise_f1 > before.pairwise_f1 + 0.2
    assert after.bcubed_f1 > before.bcubed_f1 + 0.2
    # What is thrown out is wrong more often than not by chance.
    wrong = single_tracklet(world, start, sigma_cst=chosen.sigma_cst).tracklet < 0
    assert np.mean(truth[wrong] != truth[world.offsets[world.origin[wrong]]]) > 0.2


def test_noisier_crops_ask_for_a_wider_threshold():
    near, far = (calibrate(w, Assignment.untouched(w)).sigma_cst for w, _ in (street(0, spread=s) for s in (0.1, 0.8)))
    assert near < far


def test_more_false_links_borne_mean_a_wider_threshold():
    world, _ = street(1)
    start = Assignment.untouched(world)
    few, many = (calibrate(world, start, false_links=share) for share in (0.01, 0.5))
    assert few.sigma_drm < many.sigma_drm
    assert few.false_links <= 0.01 * len(world)
    assert few.pairs_linked < many.pairs_linked


def test_false_links_are_weighed_against_the_identities_left():
    world, _ = street(2, people=30, videos=12, spread=0.6, view=0.5)
    start = Assignment.untouched(world)
    found = calibrate(world, start, false_links=0.1)
    clean = single_tracklet(world, start, sigma_cst=found.sigma_cst)
    left = cross_video(world, clean, sigma_drm=found.sigma_drm).identities
    assert left < 0.8 * len(world)
    assert 0.05 * left < found.false_links <= 0.1 * left


def test_by_hand_stays_by_hand():
    world, _ = street(1)
    assert calibrate(world, Assignment.untouched(world), sigma_cst=0.123).sigma_cst == 0.123


def test_too_little_evidence_is_said():
    world, _ = street(0, people=6, videos=1)
    found = calibrate(world, Assignment.untouched(world))
    assert found.sigma_cst == SIGMA_CST
    assert found.sigma_drm <= SIGMA_DRM
    assert len(found.notes) == 2
    assert "only 18 crops" in found.notes[0]
    assert "too few to tell people apart" in found.notes[1]


def test_nobody_seen_together_is_said():
    world, _ = street(0)
    apart = tracklet_set(world.embeddings, np.diff(world.offsets), world.video, np.arange(len(world)) * 100.0)
    found = calibrate(apart, Assignment.untouched(apart))
    assert found.apart == 0
    assert np.isnan(found.apart_linked)
    assert len(found.notes) == 2


def test_a_few_people_who_come_often_do_not_pass_for_strangers():
    """Six people in forty videos: every sixth pair is one person, so that the bulk says nothing about strangers."""
    world, truth = street(4, people=6, videos=40, crops=5, wrong=0.0)
    start = Assignment.untouched(world)
    found = calibrate(world, start)
    joined = cross_video(world, start, sigma_drm=found.sigma_drm)
    scores = score_identities(truth, joined.crop_identity)
    assert scores.pairwise_precision > 0.9
    assert scores.pairwise_recall > 0.5


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_an_extractor_that_says_nothing_is_found_out(noise):
    world, _ = street(0, people=60)
    x = np.eye(8)[0] + noise * np.random.default_rng(0).normal(size=(len(world.embeddings), 8))
    alike = tracklet_set(x.astype(np.float16), np.diff(world.offsets), world.video, world.start, world.end)
    found = calibrate(alike, Assignment.untouched(alike))
    assert any("cannot tell these people apart" in note for note in found.notes)


@pytest.mark.parametrize("wrong", [{"outliers": 0.0}, {"strangers": 1.0}, {"false_links": 0.0}])
def test_shares_out_of_range(wrong):
    world, _ = street(0, people=6, videos=1)
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        calibrate(world, Assignment.untouched(world), **wrong)
