import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from reappear.core import Tracks
from reappear.video import CropSettings, choose_crops, cut, encode_jpeg
from reappear.video.crop import covered

RULES = {"height": 32, "aspect": (1.2, 5.0), "border": 2, "overlap": 0.4, "max_crops": 4, "min_crops": 2}
GOOD = (50.0, 50.0, 70.0, 100.0)


def choose(*tracklets, **rules):
    boxes = [box for tracklet in tracklets for box in tracklet]
    frames = [frame for tracklet in tracklets for frame in range(len(tracklet))]
    tracks = Tracks(
        np.array(frames, np.int64),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.ones(len(boxes), np.float32),
        np.concatenate([[0], np.cumsum([len(t) for t in tracklets])]).astype(np.int64),
    )
    kept, dropped = choose_crops(tracks, (200, 150), CropSettings(**{**RULES, **rules}))
    return [rows.tolist() for rows in kept], dropped


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((50, 50, 60, 80), "boxes that are too small"),
        ((50, 50, 90, 95), "boxes with an unusual aspect ratio"),
        ((50, 40, 58, 100), "boxes with an unusual aspect ratio"),
        ((1, 50, 21, 100), "boxes cut by the edge of the frame"),
        ((50, 101, 70, 149), "boxes cut by the edge of the frame"),
        ((179, 50, 202, 100), "boxes cut by the edge of the frame"),
    ],
)
def test_each_rule_drops_and_counts_boxes(box, reason):
    kept, dropped = choose([GOOD, box, GOOD])
    assert kept == [[0, 2]]
    assert dropped == {reason: 1}


def test_covered_box_is_dropped_in_its_frame_only():
    near = (60.0, 50.0, 80.0, 100.0)  # covers half
    far = (100.0, 50.0, 120.0, 100.0)
    kept, dropped = choose([GOOD, GOOD, GOOD], [near, far, far])
    assert kept == [[1, 2], [4, 5]]
    assert dropped == {"boxes covered by another": 2}
    assert choose([GOOD, GOOD, GOOD], [near, far, far], overlap=0.6)[1] == {}


def test_border_rule_can_be_switched_off():
    assert choose([(0, 50, 20, 100), (-9, 50, 15, 100)], border=-1) == ([[0, 1]], {})


def test_crops_are_subsampled_evenly():
    kept, dropped = choose([GOOD] * 10)
    assert kept == [[0, 3, 6, 9]]
    assert dropped == {"boxes beyond what a tracklet keeps": 6}


def test_short_tracklets_are_dropped():
    kept, dropped = choose([GOOD], [(80, 50, 100, 100)] * 3, [(120, 50, 125, 60)] * 3, [(120, 50, 140, 100)] * 2)
    assert kept == [[1, 2, 3], [7, 8]]
    assert dropped == {"boxes that are too small": 3, "boxes of tracklets with too few": 1}


def test_no_tracklets_at_all():
    assert choose() == ([], {})


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.tuples(*[st.integers(-10, 160)] * 4), max_size=9), max_size=4), st.integers(1, 4))
def test_every_box_is_kept_once_or_counted_once(tracklets, min_crops):
    kept, dropped = choose(*tracklets, min_crops=min_crops)
    rows = [row for mine in kept for row in mine]
    assert len(set(rows)) == len(rows)
    assert len(rows) + sum(dropped.values()) == sum(map(len, tracklets))
    assert all(min_crops <= len(mine) <= RULES["max_crops"] for mine in kept)


def test_covered_is_the_largest_fraction_by_one_other():
    frame = np.array([0, 0, 0, 1])
    box = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [0, 8, 40, 10], [0, 0, 10, 10]], np.float32)
    assert np.allclose(covered(frame, box), [0.5, 0.5, 0.25, 0])


def image(height=60, width=80):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def test_crop_is_the_padded_box():
    picture = image()
    crop = cut(picture, np.array([20, 10, 40, 50], np.float32), padding=0.1, max_height=100)
    assert np.array_equal(crop, picture[6:54, 18:42])


def test_crop_is_clamped_to_the_frame_and_never_empty():
    picture = image()
    assert np.array_equal(
        cut(picture, np.array([-9, -9, 200, 20], np.float32), padding=0.0, max_height=99), picture[:20]
    )
    for box in ([500, 500, 600, 600], [-90, -90, -20, -20], [30, 30, 30, 30]):
        assert cut(picture, np.array(box, np.float32), padding=0.05, max_height=99).size > 0


def test_tall_crop_is_scaled_down():
    crop = cut(image(400, 300), np.array([0, 0, 150, 400], np.float32), padding=0.0, max_height=100)
    assert crop.shape == (100, 38, 3)


def test_jpeg_keeps_the_colours_in_order():
    red = np.zeros((32, 16, 3), np.uint8)
    red[..., 0] = 230
    back = cv2.imdecode(np.frombuffer(encode_jpeg(red, 95), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(back.astype(int) - red).max() < 6
    assert len(encode_jpeg(image(), 30)) < len(encode_jpeg(image(), 95))
