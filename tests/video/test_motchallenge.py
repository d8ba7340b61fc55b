import numpy as np
import pytest

from reappear.core import InputError
from reappear.video.motchallenge import read_boxes


def test_boxes_become_corners_sorted_by_frame_counted_from_0(tmp_path):
    path = tmp_path / "det.txt"
    path.write_text("3,-1,10,20,5.5,6,0.25\n\n1,4,1,2,3,4\n")
    boxes = read_boxes(path, people_only=False)
    assert boxes.frame.tolist() == [0, 2]
    assert boxes.identity.tolist() == [4, -1]
    assert np.allclose(boxes.box, [[1, 2, 4, 6], [10, 20, 15.5, 26]])
    assert np.allclose(boxes.score, [1, 0.25])
    assert boxes.identity[boxes.at(2)].tolist() == [-1]
    assert len(boxes.box[boxes.at(1)]) == 0


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("1,1,0,0,9,9,1,1,1.0", True),
        ("1,1,0,0,9,9,0,1,1.0", False),  # marked as not to be considered
        ("1,1,0,0,9,9,1,7,1.0", False),  # a static person, by MOT16's classes
        ("1,1,0,0,9,9,1,12.5,3,0", True),  # MOT15: ten columns, the eighth is a place in the world
        ("1,1,0,0,9,9", True),
    ],
)
def test_ground_truth_keeps_the_people(tmp_path, line, kept):
    path = tmp_path / "gt.txt"
    path.write_text(line)
    assert len(read_boxes(path, people_only=True).frame) == kept
    assert len(read_boxes(path, people_only=False).frame) == 1


@pytest.mark.parametrize("line", ["1,2,3", "1,2,a,4,5,6", "frame,id,left,top,width,height"])
def test_a_line_that_is_none_is_named(tmp_path, line):
    path = tmp_path / "gt.txt"
    path.write_text(f"1,1,0,0,9,9\n{line}\n")
    with pytest.raises(InputError, match=r"gt\.txt, line 2: not `frame,id"):
        read_boxes(path, people_only=True)


def test_a_missing_or_binary_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_boxes(tmp_path / "gt.txt", people_only=True)
    (tmp_path / "gt.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="not UTF-8"):
        read_boxes(tmp_path / "gt.txt", people_only=True)
