import numpy as np
import pytest
from scipy.io import savemat

from reappear.core import InputError
from reappear.data import read

from .trees import mars, rows


def test_tracklets_follow_the_matrices(tmp_path):
    mars(tmp_path)
    assert rows(read("mars", tmp_path), tmp_path, "identity", "camera", "sequence", "split") == [
        ("bbox_train/0001/0001C1T0001F001.jpg", 1, 1, 0, "train"),
        ("bbox_train/0001/0001C1T0001F002.jpg", 1, 1, 0, "train"),
        ("bbox_test/00-1/00-1C1T0001F001.jpg", -1, 1, 1, "gallery"),
        ("bbox_test/0000/0000C2T0001F001.jpg", 0, 2, 2, "gallery"),
        ("bbox_test/0002/0002C3T0001F001.jpg", 2, 3, 3, "gallery"),
        ("bbox_test/0002/0002C5T0002F001.jpg", 2, 5, 4, "query"),
    ]


def put(name, **matrices):
    return lambda info: savemat(info / name, {key: np.array(value, float) for key, value in matrices.items()})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            put("tracks_test_info.mat", track_test_info=[[3, 9, 1, 1]] * 4),
            r"tracklet 1 is lines 3 to 9, and test_name.txt has 4",
        ),
        (put("tracks_test_info.mat", track_test_info=[[1, 1, 1]]), "track_test_info must have 4 columns, got 3"),
        (put("tracks_test_info.mat", other=[[1]]), "holds no matrix of numbers called track_test_info"),
        (put("query_IDX.mat", query_IDX=[[5]]), "query_IDX.mat names tracklets beyond the 4 of the test part"),
        (
            lambda info: (info / "query_IDX.mat").write_text("no matrix"),
            "query_IDX.mat cannot be read as a MATLAB file",
        ),
        (lambda info: (info / "query_IDX.mat").unlink(), "query_IDX.mat is missing; copy it from the set"),
        (
            lambda info: [path.unlink() for path in info.parent.rglob("*.jpg")],
            "none of 6 images that info names is there",
        ),
        (lambda info: [path.unlink() for path in info.glob("*.txt")], "MARS needs its info folder"),
    ],
)
def test_damaged_set_is_one_line(tmp_path, spoil, message):
    mars(tmp_path)
    spoil(tmp_path / "info")
    with pytest.raises(InputError, match=message) as error:
        read("mars", tmp_path)
    assert "\n" not in str(error.value)


def test_single_part_is_read(tmp_path):
    mars(tmp_path)
    for path in (tmp_path / "info").glob("t*_test*"):
        path.unlink()
    (tmp_path / "info" / "test_name.txt").unlink()
    assert set(read("mars", tmp_path).split.tolist()) == {"train"}
