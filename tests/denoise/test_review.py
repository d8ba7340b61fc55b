import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.core import Assignment, Decision, InputError
from reappear.denoise import (
    ReviewConstraints,
    Rules,
    Trace,
    apply_review,
    cross_video,
    reject,
    single_tracklet,
    single_video,
)
from reappear.denoise.constraints import is_reliable
from reappear.denoise.joining import components
from reappear.denoise.links import Links

from .worlds import at, check_links, gaussian, tracklet_set

few = settings(max_examples=60, deadline=None)


def world(*degrees, video=None, start=None):
    """Tracklets of one crop, at these angles."""
    count = len(degrees)
    video = range(count) if video is None else video
    return tracklet_set(at(*degrees), [1] * count, video=np.array(video), start=start)


def decisions(*message):
    """("same", 1, 2), ("split", (1,), (2, 3)), ("reject", 1), ... in the order they are made."""
    out = []
    for line, (kind, *numbers) in enumerate(message, 1):
        if kind == "split":
            out.append(Decision("split", *map(tuple, numbers), line=line))
        else:
            out.append(Decision(kind, tuple(numbers), line=line))
    return out


def constraints_of(tracklets, *message):
    return ReviewConstraints.of(decisions(*message), tracklets)


def run(tracklets, found, *, trace=None, constraints=True, sigma_drm=0.1):
    """All stages, as correlate folds them."""
    trace = Trace() if trace is None else trace
    linked = {"rules": Rules(constraints, review=found), "sigma_drm": sigma_drm}
    out = reject(Assignment.untouched(tracklets), found, trace)
    out = single_tracklet(tracklets, out, trace=trace)
    out = single_video(tracklets, out, trace=trace, **linked)
    out = cross_video(tracklets, out, trace=trace, **linked)
    return apply_review(tracklets, out, review=found, overlap=1.0 if constraints else None, trace=trace)


class TestVerdicts:
    def test_later_decision_overrides_earlier(self):
        five = world(0, 0, 0, 0, 0)
        for message, same, different, overruled in [
            ((("same", 0, 1), ("different", 1, 0)), [], [[1, 0]], ["line 1 (same)"]),
            ((("different", 0, 1), ("same", 0, 1)), [[0, 1]], [], ["line 1 (different)"]),
            ((("same", 0, 1), ("same", 1, 2), ("different", 0, 2)), [[1, 2]], [[0, 2]], ["line 1 (same)"]),
            ((("different", 0, 2), ("same", 0, 1), ("same", 1, 2)), [[1, 2], [0, 1]], [], ["line 1 (different)"]),
            ((("merge", 0, 1, 2), ("split", (2,), (0, 1))), [[0, 1]], [[2, 0], [2, 1]], ["line 1 (merge)"]),
        ]:
            found = constraints_of(five, *message)
            assert sorted(found.same.tolist()) == sorted(same)
            assert found.different.tolist() == different
            assert [text.split(":")[0] for text in found.overruled] == overruled

    def test_contradictions_are_described(self):
        found = constraints_of(world(0, 0, 0), ("same", 0, 1), ("reject", 2), ("same", 2, 1), ("different", 0, 1))
        assert found.overruled == (
            "line 1 (same): tracklets 0 and 1 are not one person by line 4",
            "line 2 (reject): tracklet 2 is a person by line 3",
        )
        assert not found.rejected.any()
        assert found.counts == {"same": 2, "reject": 1, "different": 1}

    def test_later_rejection_overrides_same(self):
        found = constraints_of(world(0, 0, 0), ("same", 0, 1, 2), ("reject", 1))
        assert found.same.tolist() == [[0, 2]]
        assert found.rejected.tolist() == [False, True, False]
        assert found.overruled == ("line 1 (same): tracklet 1 is rejected by line 2",)

    def test_crops_are_rejected_one_by_one(self):
        tracklets = tracklet_set(at(0, 1, 2, 3), [2, 2])
        found = ReviewConstraints.of([Decision("reject", (), (), (1,), line=1)], tracklets)
        assert found.rejected.tolist() == [False, True, False, False]

    def test_different_applies_to_all_pairs(self):
        assert constraints_of(world(0, 0, 0), ("different", 0, 1, 2)).different.tolist() == [[0, 1], [0, 2], [1, 2]]

    @pytest.mark.parametrize(
        ("decision", "message"),
        [
            (
                Decision("same", (0, 7), line=3),
                "line 3 of the review: there is no tracklet 7; they are numbered 0 to 2",
            ),
            (Decision("split", (0,), (9,), line=1), "line 1 of the review: there is no tracklet 9"),
            (Decision("reject", crops=(3,), line=2), "line 2 of the review: there is no crop 3; .* 0 to 2"),
        ],
    )
    def test_unknown_numbers_are_refused(self, decision, message):
        with pytest.raises(InputError, match=message):
            ReviewConstraints.of([decision], world(0, 0, 0))

    def test_cannot_link_extends_to_merged_tracklets(self):
        """0 and 1 are one person; 1 and 2 are seen at the same time; 3 is not 0 by decision."""
        four = world(0, 0, 0, 0, video=[0, 1, 1, 2], start=[0, 0, 0, 0])
        cannot_link = constraints_of(four, ("same", 0, 1), ("different", 0, 3)).cannot_link(four, np.ones(4, bool), 0.5)
        result = {
            (*sorted(pair), message)
            for pair, message in zip(cannot_link.pairs.tolist(), cannot_link.decided.tolist(), strict=True)
        }
        assert result == {(0, 2, False), (1, 2, False), (0, 3, True), (1, 3, True)}


@st.composite
def logs(draw, tracklets):
    some = st.lists(st.integers(0, tracklets - 1), min_size=2, max_size=4, unique=True).map(tuple)
    log = []
    kinds = st.sampled_from(["same", "different", "merge", "split", "reject"])
    for kind, numbers in draw(st.lists(st.tuples(kinds, some), max_size=8)):
        given = (numbers[:1], numbers[1:]) if kind == "split" else numbers[:1] if kind == "reject" else numbers
        log.append((kind, *given))
    return log


class TestProperties:
    @few
    @given(logs(8), st.randoms())
    def test_decisions_are_consistent_and_idempotent(self, log, random):
        log = decisions(*log)
        eight = world(*range(8))
        found = ReviewConstraints.of(log, eight)
        person = components(8, Links(found.same[:, 0], found.same[:, 1], np.zeros(len(found.same), np.float32)))
        assert (person[found.different[:, 0]] != person[found.different[:, 1]]).all()
        assert not found.rejected[found.same].any()
        shuffled = log[:]
        random.shuffle(shuffled)  # lines tell the order
        twice = [*log, *(Decision(d.kind, d.tracklets, d.others, line=d.line + len(log)) for d in log)]
        for again in (ReviewConstraints.of(shuffled, eight), ReviewConstraints.of(twice, eight)):
            assert again.same.tolist() == found.same.tolist()
            assert np.unique(again.different, axis=0).tolist() == np.unique(found.different, axis=0).tolist()
            assert again.rejected.tolist() == found.rejected.tolist()

    @few
    @given(logs(8))
    def test_last_decision_is_always_applied(self, log):
        log = decisions(*log)
        if not log:
            return
        eight = world(*range(8))
        found, last = ReviewConstraints.of(log, eight), log[-1]
        person = components(8, Links(found.same[:, 0], found.same[:, 1], np.zeros(len(found.same), np.float32)))
        if last.kind in ("same", "merge"):
            assert len(set(person[list(last.tracklets)])) == 1
        elif last.kind == "reject":
            assert found.rejected[list(last.tracklets)].all()
        else:
            result = {frozenset(pair) for pair in found.different.tolist()}
            wanted = (
                [(a, b) for a in last.tracklets for b in last.others]
                if last.others
                else [(a, b) for a in last.tracklets for b in last.tracklets if a < b]
            )
            assert {frozenset(pair) for pair in wanted} <= result

    @few
    @given(st.data(), st.integers(0, 1000), st.booleans())
    def test_undecided_pairs_follow_distances(self, data, seed, constraints):
        tracklets, _ = gaussian(seed, people=4, videos=3, spread=0.8, share=1.0)
        start = np.random.default_rng(seed).uniform(0, 20, len(tracklets))
        tracklets = tracklet_set(tracklets.embeddings, np.diff(tracklets.offsets), tracklets.video, start, start + 5)
        found = constraints_of(tracklets, *data.draw(logs(len(tracklets))))
        trace = Trace()
        made = run(tracklets, found, trace=trace, constraints=constraints, sigma_drm=0.3)
        held = np.bincount(made.tracklet[made.tracklet >= 0], minlength=len(tracklets)) > 0
        identity = made.identity
        for a, b in found.same[held[found.same].all(axis=1)]:
            assert identity[a] == identity[b]
        for a, b in found.different[held[found.different].all(axis=1)]:
            assert identity[a] != identity[b]
        assert (made.tracklet[found.rejected] == -1).all()
        sure = is_reliable(tracklets, made.tracklet)
        cannot_link = found.cannot_link(tracklets, sure, 1.0 if constraints else None)
        assert (identity[cannot_link.pairs[:, 0]] != identity[cannot_link.pairs[:, 1]])[
            held[cannot_link.pairs].all(axis=1)
        ].all()
        check_links(made, trace.link_columns())
        refused = trace.refused_columns()
        assert set(refused["reason"]) <= ({"review", "seen together"} if constraints else {"review"})

    @few
    @given(st.data(), st.integers(0, 1000), st.booleans(), st.booleans())
    def test_identities_are_parted_only_where_required(self, data, seed, constraints, traced):
        tracklets, _ = gaussian(seed, people=3, videos=3, spread=0.8, share=1.0)
        start = np.random.default_rng(seed).uniform(0, 20, len(tracklets))
        tracklets = tracklet_set(tracklets.embeddings, np.diff(tracklets.offsets), tracklets.video, start, start + 5)
        found = constraints_of(tracklets, *data.draw(logs(len(tracklets))))
        trace = Trace()
        before = cross_video(tracklets, Assignment.untouched(tracklets), sigma_drm=0.3, trace=trace)
        before = reject(before, found, trace)
        overlap = 1.0 if constraints else None
        after = apply_review(tracklets, before, review=found, overlap=overlap, trace=trace if traced else None)
        cannot_link = found.cannot_link(tracklets, is_reliable(tracklets, before.tracklet), overlap).pairs
        required = {frozenset(after.identity[pair].tolist()) for pair in cannot_link}
        held = np.flatnonzero(before.identity >= 0).tolist()
        for a in held:
            for b in held:
                if before.identity[a] == before.identity[b] and after.identity[a] != after.identity[b]:
                    assert frozenset(after.identity[[a, b]].tolist()) in required
        if traced:
            check_links(after, trace.link_columns())


class TestStages:
    def test_decisions_override_distances(self):
        four = world(0, 1, 90, 91)
        assert run(four, constraints_of(four)).identity.tolist() == [0, 0, 1, 1]
        assert run(four, constraints_of(four, ("same", 1, 2))).identity.tolist() == [0, 0, 0, 0]
        assert run(four, constraints_of(four, ("different", 0, 1), ("same", 1, 2))).identity.tolist() == [0, 1, 1, 1]

    def test_decision_overrides_simultaneity(self):
        both = world(0, 60, video=[0, 0], start=[0, 0.2])
        both = tracklet_set(both.embeddings, [1, 1], video=[0, 0], start=[0, 0], end=[4, 4])
        found = constraints_of(both, ("same", 0, 1))
        assert run(both, found).identity.tolist() == [0, 0]
        assert found.contradicted(both, 1.0) == 1
        assert constraints_of(both, ("different", 0, 1)).contradicted(both, 1.0) == 0

    def test_split_applies_to_earlier_identities(self):
        """0-1-2-3 in a row are one identity; 3 was not meant to be in it, and takes no other along."""
        four = world(0, 4, 8, 12)
        trace = Trace()
        before = cross_video(four, Assignment.untouched(four), sigma_drm=0.004, trace=trace)
        assert before.identity.tolist() == [0, 0, 0, 0]
        found = constraints_of(four, ("split", (3,), (0, 1, 2)))
        after = apply_review(four, before, review=found, overlap=None, trace=trace)
        assert after.identity.tolist() == [0, 0, 0, 1]
        assert len(trace.link_columns()["first"]) == 2
        again = cross_video(four, after, sigma_drm=0.1, rules=Rules(review=found))
        assert again.identity.tolist() == [0, 0, 0, 1]

    def test_identities_without_links_stay_together_where_allowed(self):
        four = world(0, 90, 180, 270)
        given = Assignment(np.arange(4), np.array([0, 0, 0, 0]))
        for split, expected in [(3, [0, 0, 0, 1]), (1, [0, 1, 0, 0])]:
            others = tuple({0, 1, 2, 3} - {split})
            found = constraints_of(four, ("split", (split,), others))
            for trace in (None, Trace()):
                after = apply_review(four, given, review=found, overlap=None, trace=trace)
                assert after.identity.tolist() == expected

    @pytest.mark.parametrize("leaves", [("different", "different"), ("split",), ("reject",)])
    def test_tracklets_linked_through_one_that_leaves_stay_one_person(self, leaves):
        """0 and 1 are in one identity through 2."""
        three = world(0, 8, 4)
        trace = Trace()
        before = cross_video(three, Assignment.untouched(three), sigma_drm=0.004, trace=trace)
        assert before.identity.tolist() == [0, 0, 0]
        assert 2 in trace.joins().second
        log = {
            ("different", "different"): (("different", 0, 2), ("different", 1, 2)),
            ("split",): (("split", (2,), (0, 1)),),
            ("reject",): (("reject", 2),),
        }[leaves]
        found = constraints_of(three, *log)
        rejected = reject(before, found, trace)
        after = apply_review(three, rejected, review=found, overlap=None, trace=trace)
        assert after.identity.tolist() == [0, 0, -1 if leaves == ("reject",) else 1]
        links = trace.link_columns()
        assert list(zip(links["stage"], links["first"], links["second"], strict=True)) == [("carried-over", 0, 1)]
        assert np.isnan(links["distance"]).all()
        assert (trace.refused_columns()["distance"] < 1).all()

    def test_carried_over_link_is_the_first_to_go(self):
        """0 and 1 were linked through 2, 1 and 3 are at a distance; when 0 is not 3, it is 0 that leaves."""
        four = world(0, 8, 4, 12)
        trace = Trace()
        before = cross_video(four, Assignment.untouched(four), sigma_drm=0.004, trace=trace)
        log = [("different", 0, 2), ("different", 1, 2)]
        once = apply_review(four, before, review=constraints_of(four, *log), overlap=None, trace=trace)
        assert once.identity.tolist() == [0, 0, 1, 0]
        found = constraints_of(four, *log, ("different", 0, 3))
        twice = apply_review(four, once, review=found, overlap=None, trace=trace)
        assert twice.identity.tolist() == [0, 1, 2, 1]
        assert trace.link_columns()["stage"].tolist() == ["cross-video"]

    def test_apply_review_is_idempotent(self):
        for seed in range(5):
            tracklets, _ = gaussian(seed)
            trace = Trace()
            start = cross_video(tracklets, Assignment.untouched(tracklets), sigma_drm=0.3, trace=trace)
            found = constraints_of(tracklets, ("same", 0, 5), ("split", (1,), (2, 3)), ("different", 4, 6))
            once = apply_review(tracklets, start, review=found, overlap=1.0, trace=trace)
            links = trace.link_columns()
            twice = apply_review(tracklets, once, review=found, overlap=1.0, trace=trace)
            assert twice.identity.tolist() == once.identity.tolist()
            assert len(trace.link_columns()["first"]) == len(links["first"])

    def test_refused_link_has_its_reason(self):
        two = world(0, 1)
        trace = Trace()
        run(two, constraints_of(two, ("different", 0, 1)), trace=trace)
        refused = trace.refused_columns()
        assert refused["stage"].tolist() == ["cross-video"]
        assert refused["reason"].tolist() == ["review"]
        assert (refused["cannot_link_first"][0], refused["cannot_link_second"][0]) == (0, 1)

    def test_link_refused_by_the_guard_is_recorded(self):
        chain = world(0, 4, 9, 13.5)
        trace = Trace()
        made = cross_video(
            chain,
            Assignment.untouched(chain),
            sigma_drm=0.005,
            rules=Rules(guard="diameter", max_diameter=1.0),
            trace=trace,
        )
        assert made.identity.tolist() == [0, 0, 1, 1]
        assert trace.guarded == {"cross-video": 1}
        refused = trace.refused_columns()
        assert (refused["first"][0], refused["second"][0], refused["reason"][0]) == (1, 2, "guard")
        assert refused["cannot_link_first"].tolist() == [-1]
