import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.video import match_truth, read_truth, truth_file
from reappear.video.motchallenge import Boxes
from reappear.video.overlap import iou


def boxes(frame, identity, box):
    return Boxes(np.asarray(frame), np.asarray(identity), np.asarray(box, np.float32), np.ones(len(frame), np.float32))


def shifted(*xs: float) -> np.ndarray:
    return np.array([[x, 0, x + 10, 20] for x in xs], np.float32).reshape(-1, 4)


def test_each_true_person_is_matched_once_above_minimum_iou():
    truth = boxes([0, 0, 1], [5, 6, 5], shifted(0, 30, 0))
    frame = np.array([1, 0, 0, 0, 2])
    found = match_truth(truth, frame, shifted(3, 1, 0, 36, 0))
    # Frame 1: IoU 7/13. Frame 0: the closer of two is person 5, the other none; 36 is too far from 30.
    assert found.tolist() == [5, -1, 5, -1, -1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=4), st.lists(st.integers(0, 12), max_size=4))
def test_matching_maximises_total_iou(found, there):
    box, true = shifted(*found), shifted(*there)
    got = match_truth(boxes(np.zeros(len(true), int), np.arange(len(true)), true), np.zeros(len(box), int), box)
    overlaps = iou(box, true)

    def worth(choice):
        pairs = [(i, j) for i, j in enumerate(choice) if j is not None]
        return sum(overlaps[i, j] for i, j in pairs if overlaps[i, j] >= 0.5)

    places = [*range(len(true)), *[None] * len(box)]
    best = max(worth(choice) for choice in itertools.permutations(places, len(box)))
    assert np.isclose(worth([None if j < 0 else j for j in got.tolist()]), best)
    assert len(set(got[got >= 0].tolist())) == (got >= 0).sum()


def test_ground_truth_files_are_found(tmp_path):
    film, folder = tmp_path / "a_00.mp4", tmp_path / "MOT"
    assert truth_file(film) is None
    assert read_truth(film) is None
    (tmp_path / "a_00.gt.txt").write_text("1,3,0,0,5,5,1,1,1")
    (folder / "gt").mkdir(parents=True)
    (folder / "gt" / "gt.txt").write_text("1,4,0,0,5,5,1,1,1")
    assert read_truth(film).identity.tolist() == [3]
    assert read_truth(folder).identity.tolist() == [4]


def test_video_with_the_longest_name_has_no_truth(tmp_path):
    video = tmp_path / f"{'x' * 251}.mp4"  # X.gt.txt would be too long
    video.touch()
    assert truth_file(video) is None
    assert read_truth(video) is None
