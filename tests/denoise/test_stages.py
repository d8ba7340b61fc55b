"""Cases by hand, mistakes, and what goes beyond the paper."""

import tracemalloc

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from reappear.core import Assignment, InputError, SettingsError
from reappear.denoise import Rules, Trace, cross_video, noise_score, noise_terms, single_tracklet, single_video
from reappear.denoise.constraints import overlapping_pairs
from reappear.denoise.rules import NO_RULES

from .worlds import at, cos_distance, gaussian, tracklet_set


def test_outlier_moves_to_its_own_tracklet():
    world = tracklet_set(at(0, 2, 90, 88, 91, 89), [3, 3])
    trace = Trace()
    cleaned = single_tracklet(world, Assignment.untouched(world), trace=trace)
    assert cleaned.tracklet.tolist() == [0, 0, -1, 1, 1, 1]
    assert cleaned.identity.tolist() == [0, 1]
    found = single_video(world, cleaned, trace=trace)
    assert found.tracklet.tolist() == [0, 0, 1, 1, 1, 1]
    moves = trace.move_columns()
    assert moves["stage"].tolist() == ["single-tracklet", "single-video"]
    assert moves["crop"].tolist() == [2, 2]
    assert moves["source"].tolist() == [0, 0]
    assert moves["target"].tolist() == [-1, 1]
    assert moves["distance"].tolist() == pytest.approx([cos_distance(89), cos_distance(90 - 268 / 3)], abs=1e-5)


def test_removal_does_not_depend_on_threads():
    world, _ = gaussian(3, people=40, videos=4, longest=30, width=20)  # batches of about equal length

    def outliers(threads):
        trace = Trace()
        with threadpool_limits(threads, "blas"):
            single_tracklet(world, Assignment.untouched(world), trace=trace)
        moves = trace.move_columns()
        return moves["crop"].tolist(), moves["distance"].tobytes()

    assert len(outliers(1)[0]) > 100
    assert outliers(1) == outliers(2)


def test_crop_never_returns_to_its_own_tracklet_nor_leaves_its_video():
    alone = tracklet_set(at(0, 2, 40), [3])
    cleaned = single_tracklet(alone, Assignment.untouched(alone))
    assert cleaned.tracklet.tolist() == [0, 0, -1]
    assert single_video(alone, cleaned, sigma_cst=2.0).tracklet.tolist() == [0, 0, -1]
    elsewhere = tracklet_set(at(0, 2, 90, 90), [3, 1], video=[0, 1])
    cleaned = single_tracklet(elsewhere, Assignment.untouched(elsewhere))
    assert single_video(elsewhere, cleaned).tracklet.tolist() == [0, 0, -1, 1]


def test_tracklets_of_one_and_two_crops():
    world = tracklet_set(at(0, 10, 100), [1, 2])
    found = single_tracklet(world, Assignment.untouched(world), sigma_cst=0.0)
    assert found.tracklet.tolist() == [0, -1, 1]  # of two equally far the earlier leaves, and one remains
    fewest = single_tracklet(world, Assignment.untouched(world), sigma_cst=0.2, minimum_crops=2)
    assert fewest.tracklet.tolist() == [-1, -1, -1]
    assert fewest.identity.tolist() == [-1, -1]


def test_long_tracklet_algorithm_gives_the_same_result():
    """Above 512 crops inner products are taken when needed instead of all at once."""
    rng = np.random.default_rng(0)
    good = rng.normal(size=(600, 8)) * 0.1 + np.eye(8)[0]
    x = np.concatenate([good, rng.normal(size=(20, 8))]).astype(np.float32)
    long = tracklet_set(x, [620])
    found = single_tracklet(long, Assignment.untouched(long)).tracklet
    kept = x[found == 0] / np.linalg.norm(x[found == 0], axis=1, keepdims=True)
    total = kept.sum(0)
    rest = total - kept
    distance = 1 - np.einsum("nd,nd->n", kept, rest) / np.linalg.norm(rest, axis=1)
    assert 10 <= (found < 0).sum() < 60
    assert distance.max() < 0.2


def test_empty_tracklet_receives_no_crops():
    world = tracklet_set(at(0, 90, 180), [1, 1, 1])
    start = Assignment(np.array([-1, -1, 2]), np.array([-1, -1, 0]))
    found = single_video(world, start, sigma_cst=1.5, sigma_drm=0.0)
    assert found.tracklet.tolist() == [-1, 2, 2]


def test_identity_numbers_do_not_matter():
    world, _ = gaussian(7)
    start = Assignment.untouched(world)
    renamed = Assignment(start.tracklet, np.random.default_rng(0).permutation(len(world)))
    for radius in (2, 1000):
        left, right = (cross_video(world, a, radius=radius).identity.tolist() for a in (start, renamed))
        assert left == right
        assert [k for n, k in enumerate(left) if k not in left[:n]] == list(range(max(left) + 1))


def test_blocks_change_nothing(monkeypatch):
    from reappear.denoise import groups

    world, _ = gaussian(8)
    whole = [noise_score(world, a, sigma_cst=0.1) for a in run_all(world)]
    monkeypatch.setattr(groups, "_BLOCK_BYTES", 4 * 6 * 5)
    assert [noise_score(world, a, sigma_cst=0.1) for a in run_all(world)] == whole


def test_merging_is_transitive():
    world = tracklet_set(at(0, 30, 60, 120), [1, 1, 1, 1])
    found = single_video(world, Assignment.untouched(world), sigma_drm=cos_distance(31))
    assert found.identity.tolist() == [0, 0, 0, 1]


def test_repeated_merging_uses_new_centroids():
    """Two nodes 20 degrees apart; a third is 21.4 from each, but 19 from the middle between them."""
    ten, nineteen = np.deg2rad([10, 19])
    x = [[np.cos(ten), np.sin(ten), 0], [np.cos(ten), -np.sin(ten), 0], [np.cos(nineteen), 0, np.sin(nineteen)]]
    world = tracklet_set(np.array(x, np.float32), [1, 1, 1])
    start = Assignment.untouched(world)
    sigma = cos_distance(20.5)
    assert single_video(world, start, sigma_drm=sigma).identity.tolist() == [0, 0, 1]
    assert single_video(world, start, sigma_drm=sigma, merge="repeat").identity.tolist() == [0, 0, 0]


def test_single_video_refuses_identities_across_videos():
    world = tracklet_set(at(0, 90, 0), [1, 1, 1], video=[0, 0, 1])
    joined = cross_video(world, Assignment.untouched(world))
    assert joined.identity.tolist() == [0, 1, 0]
    with pytest.raises(InputError, match="identity 0 lies in several videos"):
        single_video(world, joined)


def test_range_counts_identities_in_the_order_of_their_first_tracklet():
    world = tracklet_set(at(0, 60, 120, 0), [1, 1, 1, 1], video=[0, 1, 2, 3])
    start = Assignment.untouched(world)
    assert cross_video(world, start, radius=2).identity.tolist() == [0, 1, 2, 3]
    assert cross_video(world, start, radius=3).identity.tolist() == [0, 1, 2, 0]
    assert cross_video(world, start, radius=0).identity.tolist() == [0, 1, 2, 3]


def test_noise_counts_each_pair_twice():
    world = tracklet_set(at(0, 0, 0), [1, 1, 1])
    terms = noise_terms(world, Assignment.untouched(world))
    assert (terms.identities, terms.inconsistent, terms.similar_pairs) == (3, 0, 3)
    assert noise_score(world, Assignment.untouched(world)) == 2.0  # M - 1, its most for consistent identities
    empty = Assignment(np.full(3, -1), np.full(3, -1))
    assert noise_score(world, empty) == 0.0


def test_noise_of_many_nodes_goes_by_tiles():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 4)).astype(np.float32)
    world = tracklet_set(x, np.ones(5000, int))
    unit = x / np.linalg.norm(x.astype(float), axis=1, keepdims=True)
    pairs = sum(int((1 - unit[i] @ unit[i + 1 :].T <= 0.01 + 1e-6).sum()) for i in range(5000))
    assert noise_terms(world, Assignment.untouched(world), sigma_drm=0.01).similar_pairs == pytest.approx(pairs, abs=2)


def test_noise_of_many_identities_is_exact_and_holds_no_table_of_pairs():
    rng = np.random.default_rng(1)
    count, width = 20_000, 16
    looks = rng.integers(0, 500, count)
    directions = rng.normal(size=(500, width))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    world = tracklet_set(directions[looks].astype(np.float32), np.ones(count, int))
    assert (directions @ directions.T - 2 * np.eye(500)).max() < 0.99  # two that look different are not similar
    times = np.bincount(looks)
    tracemalloc.start()
    score = noise_score(world, Assignment.untouched(world), sigma_drm=0.005)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert score == (times * (times - 1)).sum() / count
    assert peak < count**2 / 8  # less than a bit for each pair


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("stage", [single_tracklet, single_video, cross_video, noise_score])
def test_crop_without_an_embedding_is_refused_but_not_if_discarded(stage, value):
    x = at(0, 1, 2, 3)
    x[1] = value
    world = tracklet_set(x, [2, 2])
    with pytest.raises(InputError, match="row 1 is zero or not finite"):
        stage(world, Assignment.untouched(world))
    stage(world, Assignment(np.array([0, -1, 1, 1]), np.array([0, 1])))


@pytest.mark.parametrize(
    ("stage", "wrong", "message"),
    [
        (single_tracklet, {"sigma_cst": 2.1}, "sigma_cst: must be a cosine distance in 0..2, got 2.1"),
        (single_tracklet, {"minimum_crops": 0}, "minimum_crops: must be 1 or more, got 0"),
        (single_video, {"sigma_drm": -0.1}, "sigma_drm: must be a cosine distance in 0..2, got -0.1"),
        (cross_video, {"radius": -1}, "radius: must be 0 or more, got -1"),
        (noise_score, {"sigma_cst": float("nan")}, "sigma_cst: must be a cosine distance in 0..2, got nan"),
    ],
)
def test_settings_out_of_range(stage, wrong, message):
    world, _ = gaussian(0)
    with pytest.raises(SettingsError, match=message):
        stage(world, Assignment.untouched(world), **wrong)


@pytest.mark.parametrize("stage", [single_tracklet, single_video, cross_video])
def test_empty_input_gives_empty_output(stage):
    empty = tracklet_set(np.zeros((0, 3), np.float32), [])
    assert stage(empty, Assignment.untouched(empty)).identities == 0


def test_float16_gives_what_float32_of_the_same_numbers_gives():
    world, _ = gaussian(1)
    half = tracklet_set(world.embeddings.astype(np.float16), np.diff(world.offsets), world.video)
    full = tracklet_set(half.embeddings.astype(np.float32), np.diff(world.offsets), world.video)
    for left, right in zip(run_all(half), run_all(full), strict=True):
        assert left.tracklet.tolist() == right.tracklet.tolist()
        assert left.identity.tolist() == right.identity.tolist()


def run_all(world, rules=NO_RULES):
    first = single_tracklet(world, Assignment.untouched(world))
    second = single_video(world, first, rules=rules)
    return first, second, cross_video(world, second, rules=rules)


class TestConstraints:
    def test_simultaneous_tracklets_are_not_linked(self):
        together = tracklet_set(at(0, 1), [1, 1], start=[0, 1], end=[4, 5])
        start = Assignment.untouched(together)
        assert single_video(together, start).identity.tolist() == [0, 0]
        assert single_video(together, start, rules=Rules(constraints=True)).identity.tolist() == [0, 1]
        assert single_video(together, start, rules=Rules(constraints=True, overlap=3.5)).identity.tolist() == [0, 0]

    def test_chain_is_split_at_its_weakest_link(self):
        """0 and 1 are seen together; 2, of another video, is like both and more like 1."""
        world = tracklet_set(at(0, 20, 12), [1, 1, 1], video=[0, 0, 1], start=[0, 0, 0], end=[4, 4, 4])
        trace = Trace()
        found = cross_video(world, Assignment.untouched(world), rules=Rules(constraints=True), trace=trace)
        assert found.identity.tolist() == [0, 1, 1]
        assert trace.vetoed == {"cross-video": 2}  # 0-2 and 0-1
        links = trace.link_columns()
        assert list(zip(links["first"].tolist(), links["second"].tolist(), strict=True)) == [(1, 2)]
        assert links["distance"].tolist() == pytest.approx([cos_distance(8)], abs=1e-6)

    def test_no_identity_has_simultaneous_tracklets(self):
        free, held = 0, 0
        for seed in range(24):
            world, _ = gaussian(seed, people=6, videos=4, spread=0.8)
            start = np.random.default_rng(seed).uniform(0, 20, len(world))
            world = tracklet_set(world.embeddings, np.diff(world.offsets), world.video, start, start + 5)
            free += self.clashes(world, run_all(world)[-1])
            held += self.clashes(world, run_all(world, Rules(constraints=True))[-1])
        assert free > 10
        assert held == 0

    def test_unknown_times_give_no_constraints(self):
        unknown = np.full(2, np.nan)
        together = tracklet_set(at(0, 1), [1, 1], start=unknown, end=unknown)
        found = single_video(together, Assignment.untouched(together), rules=Rules(constraints=True, overlap=0.0))
        assert found.identity.tolist() == [0, 0]
        count = 20_000  # all pairs of them would be 200 million
        many = tracklet_set(np.ones((count, 2), np.float32), np.ones(count, int), start=np.full(count, np.nan))
        assert len(overlapping_pairs(many, np.ones(count, bool), 1.0)) == 0

    @staticmethod
    def clashes(world, found):
        count = 0
        for a in range(len(world)):
            for b in range(a):
                shared = min(world.end[a], world.end[b]) - max(world.start[a], world.start[b])
                sure = min(np.mean(found.tracklet[world.origin == t] == t) for t in (a, b)) > 0.5
                if world.video[a] == world.video[b] and shared >= 1 and found.identity[a] == found.identity[b] >= 0:
                    count += sure
        return count

    def test_unreliable_tracklet_gives_no_constraint(self):
        """0 and 1 are seen together, but of 1 only a crop of the other is left."""
        world = tracklet_set(at(0, 1, 2, 90, 91, 1), [3, 3], start=[0, 0], end=[4, 4])
        start = Assignment(np.array([0, 0, 0, -1, -1, 1]), np.array([0, 1]))
        assert cross_video(world, start, rules=Rules(constraints=True)).identity.tolist() == [0, 0]
        most = Assignment(np.array([0, 0, 0, -1, 1, 1]), np.array([0, 1]))
        assert cross_video(world, most, sigma_drm=1.0, rules=Rules(constraints=True)).identity.tolist() == [0, 1]

    def test_constraints_without_conflicts_change_nothing(self):
        world, _ = gaussian(3)
        for free, held in zip(run_all(world), run_all(world, Rules(constraints=True)), strict=True):
            assert free.identity.tolist() == held.identity.tolist()


class TestTrace:
    @pytest.mark.parametrize("constraints", [False, True])
    def test_links_form_a_spanning_forest(self, constraints):
        world, _ = gaussian(5, people=6, videos=4)
        trace = Trace()
        cleaned = single_tracklet(world, Assignment.untouched(world), trace=trace)
        inside = single_video(world, cleaned, rules=Rules(constraints), trace=trace)
        found = cross_video(world, inside, rules=Rules(constraints), trace=trace)
        links = trace.link_columns()
        assert len(links["first"]) == cleaned.identities - found.identities
        assert (found.identity[links["first"]] == found.identity[links["second"]]).all()
        assert (links["distance"] <= 0.18 + 1e-6).all()
        moves = trace.move_columns()
        left = moves["stage"] == "single-tracklet"
        assert sorted(moves["crop"][left].tolist()) == np.flatnonzero(cleaned.tracklet < 0).tolist()
        back = (moves["stage"] == "single-video") & (moves["target"] >= 0)
        assert found.tracklet[moves["crop"][back]].tolist() == moves["target"][back].tolist()
        assert (moves["distance"][left] >= 0.2 - 1e-6).all()
        assert (moves["distance"][back] < 0.2).all()

    def test_empty_trace_is_an_empty_table(self):
        assert {name: len(column) for name, column in Trace().link_columns().items()} == dict.fromkeys(
            ("stage", "first", "second", "distance"), 0
        )
