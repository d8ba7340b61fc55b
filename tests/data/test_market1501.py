import numpy as np
import pytest

from reappear.core import InputError
from reappear.data import read

from .trees import fill


def test_file_names_give_person_camera_and_sequence(tmp_path):
    fill(
        tmp_path,
        [
            "bounding_box_train/0002_c1s1_000451_03.jpg",
            "query/0001_c2s3_000000_00.jpg",
            "bounding_box_test/-1_c3s1_000000_00.jpg",
            "bounding_box_test/0000_c4s2_000000_00.png",
            "bounding_box_test/0007.JPG",
        ],
    )
    table = read("market1501", tmp_path)
    assert table.frame.tolist() == [451, 0, 0, 0, -1]
    rows = list(
        zip(table.split.tolist(), table.identity.tolist(), table.camera.tolist(), table.sequence.tolist(), strict=True)
    )
    assert rows == [
        ("train", 2, 1, 1),
        ("query", 1, 2, 3),
        ("gallery", -1, 3, 1),
        ("gallery", 0, 4, 2),
        ("gallery", 7, -1, -1),
    ]
    assert table.where("query").path.tolist() == [str(tmp_path / "query/0001_c2s3_000000_00.jpg")]


def test_other_files_are_skipped_with_a_reason(tmp_path):
    fill(
        tmp_path,
        ["query/0001_c1s1_0_0.jpg", "query/Thumbs.db", "query/cat.jpg", "query/0002x.jpg", "query/.hidden.jpg"],
    )
    table = read("market1501", tmp_path)
    assert len(table) == 1
    reasons = {path.rsplit("/", 1)[1]: reason for path, reason in table.skipped.items()}
    assert reasons["Thumbs.db"] == "not an image file"
    assert reasons.keys() == {"Thumbs.db", "cat.jpg", "0002x.jpg"}
    assert "does not begin with a person's number" in reasons["cat.jpg"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["readme.txt"], "holds none of bounding_box_train, query, bounding_box_test"),
        (["mine/query/0001_c1s1_0_0.jpg"], "did you mean .*/mine"),
        (["query/cat.jpg"], r"holds no image named as in Market-1501 \(1 file skipped\)"),
    ],
)
def test_other_folders_are_not_market1501(tmp_path, files, message):
    fill(tmp_path, files)
    with pytest.raises(InputError, match=message):
        read("market1501", tmp_path)


@pytest.mark.real
def test_cuhk03_np(real_data):
    table = read("market1501", real_data / "cuhk03_np")
    assert set(table.split.tolist()) == {"train"}
    assert len(np.unique(table.identity)) > 100
    assert set(table.camera.tolist()) == {1, 2}


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("0002_c1s1_000451_03.jpg", 451),
        ("0005_c2_f0046985.jpg", 46985),
        ("0001_c1_22.png", 22),
        ("0001_c1s2.jpg", -1),
        ("0001_c1s2_front.jpg", -1),
        (f"0001_c1s2_{10**20}_01.jpg", -1),
        ("0001.jpg", -1),
    ],
)
def test_names_say_the_frame(tmp_path, name, frame):
    fill(tmp_path, [f"bounding_box_train/{name}"])
    assert read("market1501", tmp_path).frame.tolist() == [frame]
