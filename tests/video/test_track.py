import numpy as np
import pytest

from reappear.video import ByteTrackSettings, OcSortSettings, SortSettings, Tracker
from reappear.video.detectors import FrameDetections

TRACKERS = {"bytetrack": ByteTrackSettings(), "ocsort": OcSortSettings(), "sort": SortSettings()}


def walkers(frame: int, scores=(0.9, 0.9)) -> FrameDetections:
    box = np.array([[10 + 2 * frame, 20, 30 + 2 * frame, 70], [200 - 2 * frame, 20, 220 - 2 * frame, 70]], np.float32)
    return FrameDetections(box, np.array(scores, np.float32))


def follow(tracker, founds, rate=10.0):
    return np.array([tracker.update(found, i / rate) for i, found in enumerate(founds)])


@pytest.mark.parametrize("kind", TRACKERS)
class TestEveryTracker:
    def test_follows_each_of_two_people(self, kind):
        tracker = TRACKERS[kind].build(rate=10.0)
        assert isinstance(tracker, Tracker)
        ids = follow(tracker, [walkers(i) for i in range(20)])
        assert (ids[:2] == -1).any()  # not yet steady
        assert len(set(ids[4:, 0])) == len(set(ids[4:, 1])) == 1
        assert ids[4, 0] >= 0
        assert ids[4, 0] != ids[4, 1]

    def test_order_of_the_boxes_does_not_matter(self, kind):
        def swapped(found):
            return FrameDetections(found.box[::-1].copy(), found.score[::-1].copy())

        founds = [walkers(i) for i in range(12)]
        mixed = [swapped(found) if i % 2 else found for i, found in enumerate(founds)]
        straight = follow(TRACKERS[kind].build(rate=10.0), founds)
        turned = follow(TRACKERS[kind].build(rate=10.0), mixed)
        turned[1::2] = turned[1::2, ::-1]
        same_person = straight[:, :, None] == straight[-1]
        assert np.array_equal(same_person, turned[:, :, None] == turned[-1])

    def test_frames_without_people(self, kind):
        tracker = TRACKERS[kind].build(rate=10.0)
        empty = FrameDetections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        assert tracker.update(empty, 0.0).shape == (0,)
        ids = [tracker.update(walkers(i), (i + 1) / 10) for i in range(12)]
        assert ids[-1].min() >= 0
        assert tracker.update(empty, 1.3).shape == (0,)

    def test_lost_tracklets_are_kept_for_lost_seconds(self, kind):
        empty = FrameDetections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        seen = [walkers(i) for i in range(10)]
        again = [walkers(i) for i in range(16, 24)]
        for lost, same in ((2.0, True), (0.2, False)):
            tracker = type(TRACKERS[kind])(lost_seconds=lost).build(rate=10.0)
            ids = follow(tracker, seen)
            for i in range(10, 16):
                tracker.update(empty, i / 10)
            later = np.array([tracker.update(found, (16 + i) / 10) for i, found in enumerate(again)])
            assert bool(later[-1, 0] == ids[-1, 0]) == same

    def test_frames_beyond_lost_seconds_are_tracked(self, kind):
        tracker = type(TRACKERS[kind])(lost_seconds=1.0).build(rate=0.5)
        ids = follow(tracker, [walkers(i) for i in range(10)], rate=0.5)
        assert ids[-1].min() >= 0
        assert len(set(ids[4:, 0])) == 1

    def test_intervals_are_measured_where_the_stated_rate_is_wrong(self, kind):
        tracker = TRACKERS[kind].build(rate=25.0)
        ids = follow(tracker, [walkers(i) for i in range(20)], rate=0.5)
        assert len(set(ids[6:, 0])) == 1
        assert ids[6, 0] >= 0

    def test_gap_beyond_lost_seconds_ends_tracklets(self, kind):
        tracker = TRACKERS[kind].build(rate=10.0)
        before = follow(tracker, [walkers(i) for i in range(10)])
        after = [tracker.update(walkers(10), 3600 + i / 10) for i in range(6)]
        assert after[-1][0] not in (-1, before[-1][0])


def test_low_score_boxes_extend_but_do_not_start_tracklets():
    tracker = ByteTrackSettings(activation_score=0.5, high_score=0.5).build(rate=10.0)
    ids = follow(tracker, [walkers(i, scores=(0.9 if i < 5 else 0.3, 0.3)) for i in range(12)])
    assert ids[-1, 0] == ids[3, 0] >= 0
    assert np.all(ids[:, 1] == -1)
