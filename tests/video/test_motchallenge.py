from pathlib import Path

import numpy as np
import pytest

from reappear.core import InputError
from reappear.video.motchallenge import read_boxes
from reappear.video.sequence import ImageSequence


def test_boxes_are_corners_sorted_by_frame_from_0(tmp_path):
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
def test_invalid_line_is_named(tmp_path, line):
    path = tmp_path / "gt.txt"
    path.write_text(f"1,1,0,0,9,9\n{line}\n")
    with pytest.raises(InputError, match=r"gt\.txt, line 2: not `frame,id"):
        read_boxes(path, people_only=True)


def test_missing_or_binary_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_boxes(tmp_path / "gt.txt", people_only=True)
    (tmp_path / "gt.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="not UTF-8"):
        read_boxes(tmp_path / "gt.txt", people_only=True)


def read(tmp_path, text, images=None):
    path = tmp_path / "det.txt"
    path.write_text(text)
    return read_boxes(path, people_only=False, images=images)


def sequence(*numbers):
    return ImageSequence({number: Path(f"{number}.jpg") for number in numbers}, (), 0.0)


@pytest.mark.parametrize(
    ("images", "boxes", "frames"),
    [
        (None, (1, 2), [0, 1]),
        (None, (0, 2), [0, 2]),
        (sequence(1, 2, 3), (1, 3), [0, 2]),
        (sequence(1, 2, 3), (0, 2), [0, 2]),
        (sequence(0, 1, 2), (0, 2), [0, 2]),
        (sequence(0, 1, 2), (1, 2), [1, 2]),
        (sequence(0, 1, 2), (1, 3), [0, 2]),
        (sequence(300, 301), (300, 301), [299, 300]),
    ],
)
def test_number_of_the_first_frame(tmp_path, images, boxes, frames):
    assert read(tmp_path, "".join(f"{n},1,0,0,5,9\n" for n in boxes), images).frame.tolist() == frames


def test_byte_order_mark(tmp_path):
    assert read(tmp_path, "\ufeff1,1,0,0,5,9\n").frame.tolist() == [0]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e300", "-9"])
@pytest.mark.parametrize("column", range(7))
def test_invalid_boxes_are_refused_by_line(tmp_path, column, value):
    values = ["1", "1", "0", "0", "5", "9", "0.5"]
    values[column] = value
    text = "1,1,0,0,5,9,1\n" + ",".join(values)
    if column in (1, 2, 3, 6) and value == "-9":
        assert len(read(tmp_path, text).frame) == 2
    else:
        with pytest.raises(InputError, match=r"det\.txt, line 2"):
            read(tmp_path, text)
