import numpy as np
import pytest

from reappear.core import Assignment, InputError, TrackletSet


def tracklets(video=(0, 0, 1), offsets=(0, 2, 3, 5)):
    count = len(video)
    return TrackletSet(
        np.ones((5, 2), np.float32), np.array(video), np.zeros(count), np.ones(count), np.array(offsets, np.int64)
    )


def test_untouched_assignment_has_one_identity_per_tracklet():
    start = Assignment.untouched(tracklets())
    assert start.tracklet.tolist() == start.crop_identity.tolist() == [0, 0, 1, 2, 2]
    assert start.identities == len(tracklets()) == 3


def test_discarded_crops_and_merged_tracklets():
    found = Assignment(np.array([0, -1, 1, 2, 2]), np.array([0, 0, -1]))
    assert found.crop_identity.tolist() == [0, -1, 0, -1, -1]
    assert found.identities == 1


@pytest.mark.parametrize("tracklet", [[-2], [1]])
def test_crops_of_missing_tracklets_are_refused(tracklet):
    with pytest.raises(InputError, match=r"Assignment.tracklet: must lie in -1..0"):
        Assignment(np.array(tracklet), np.array([0]))


def test_unsorted_videos_are_refused():
    with pytest.raises(InputError, match="tracklets of one video must be consecutive"):
        tracklets(video=(0, 1, 0))


def test_offsets_must_match(unchecked):
    with pytest.raises(InputError, match="got 3 offsets for 3 tracklets; give 4"):
        tracklets(offsets=(0, 2, 5))
    with pytest.raises(InputError, match="must rise from 0 to the number of rows"):
        tracklets(offsets=(0, 2, 3, 4))
