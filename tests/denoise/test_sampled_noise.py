import sys

import numpy as np
import pytest

from reappear.core import Assignment, Local, SettingsError
from reappear.denoise import noise_score, noise_terms, sampled_noise, single_tracklet
from reappear.synthetic import TrackletPlan, embedded_tracklets


@pytest.fixture(scope="module")
def street():
    plan = TrackletPlan(people=100, cameras=3, visits=2, swapped=0.1, split=0.2, seed=4)
    world, _ = embedded_tracklets(plan, dimensions=32)
    return world, single_tracklet(world, Assignment.untouched(world), sigma_cst=0.5)


def test_sample_of_all_is_exact(street):
    world, assignment = street
    sigmas = {"sigma_cst": 0.3, "sigma_drm": 0.2}
    found = sampled_noise(world, assignment, **sigmas)
    exact = noise_terms(world, assignment, **sigmas)
    assert (found.identities, found.inconsistent) == (exact.identities, exact.inconsistent)
    assert found.rows == exact.identities
    assert found.error == 0
    assert found.score == pytest.approx(exact.score, abs=1e-12)
    assert exact.similar_pairs > 100


def test_sampled_noise_is_unbiased_with_valid_standard_error(street):
    world, assignment = street
    truth = noise_score(world, assignment, sigma_cst=0.3, sigma_drm=0.2)
    drawn = [sampled_noise(world, assignment, sigma_cst=0.3, sigma_drm=0.2, rows=60, seed=s) for s in range(200)]
    off = np.array([one.score - truth for one in drawn])
    error = np.array([one.error for one in drawn])
    assert abs(off.mean()) < 3 * off.std() / np.sqrt(len(off))
    assert np.mean(error) == pytest.approx(off.std(), rel=0.2)
    assert 0.9 < np.mean(np.abs(off) < 2 * error) < 0.99


def test_same_seed_draws_the_same(street):
    world, assignment = street
    assert sampled_noise(world, assignment, rows=30) == sampled_noise(world, assignment, rows=30)
    assert sampled_noise(world, assignment, rows=30) != sampled_noise(world, assignment, rows=30, seed=1)


def test_block_size_does_not_change_the_sample(street, monkeypatch):
    world, assignment = street
    whole = sampled_noise(world, assignment, rows=50)
    module = sys.modules[sampled_noise.__module__]
    monkeypatch.setattr(module, "_COLUMNS", 37)
    monkeypatch.setattr(module.BLAS, "tile", (11, 17))
    pieces = []

    class Counts(Local):
        def map(self, function, shared, items):
            items = list(items)
            pieces.append(len(items))
            return super().map(function, shared, items)

    assert sampled_noise(world, assignment, rows=50, engine=Counts()) == whole
    assert pieces == [-(-whole.identities // 37)]


def test_noise_without_identities_is_zero(street):
    world, _ = street
    gone = Assignment(np.full(len(world.embeddings), -1), np.full(len(world), -1))
    found = sampled_noise(world, gone)
    assert (found.score, found.error, found.rows) == (0.0, 0.0, 0)


def test_sample_of_one_has_no_standard_error(street):
    world, assignment = street
    with pytest.raises(SettingsError, match="rows: must be 2 or more, got 1"):
        sampled_noise(world, assignment, rows=1)
