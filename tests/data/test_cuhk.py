import pytest

from reappear.core import InputError
from reappear.data import read, recognise

from .trees import cuhk01, cuhk03_np, fill, rows


def test_halves_of_cuhk03(tmp_path):
    cuhk03_np(tmp_path)
    assert rows(read("cuhk03_np", tmp_path), tmp_path, "identity", "camera", "split") == [
        ("detected/bounding_box_train/0001_c1_0.png", 1, 1, "train"),
        ("detected/bounding_box_train/0001_c2_0.png", 1, 2, "train"),
        ("detected/query/0002_c1_1.png", 2, 1, "query"),
        ("detected/bounding_box_test/0002_c2_1.png", 2, 2, "gallery"),
    ]
    assert len(read("cuhk03_np_labeled", tmp_path)) == 6
    assert len(read("cuhk03_np_labeled", tmp_path / "labeled")) == 6


def test_missing_half_is_refused(tmp_path):
    fill(tmp_path, ["detected/query/0002_c1_1.png"])
    with pytest.raises(InputError, match=r"labeled is not there, only .*detected"):
        read("cuhk03_np_labeled", tmp_path)


def test_cuhk01_file_names_give_person_and_camera(tmp_path):
    cuhk01(tmp_path)
    fill(tmp_path, ["campus/0003005.png", "campus/notes.txt"])
    table = read("cuhk01", tmp_path)
    assert rows(table, tmp_path, "identity", "camera", "split")[:5] == [
        ("campus/0001001.png", 1, 1, "train"),
        ("campus/0001002.png", 1, 1, "train"),
        ("campus/0001003.png", 1, 2, "train"),
        ("campus/0001004.png", 1, 2, "train"),
        ("campus/0002001.png", 2, 1, "train"),
    ]
    assert sorted(reason[:9] for reason in table.skipped.values()) == ["not an im", "not named"]


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (["0001001.png", "0001002.png", "0001003.png", "0001004.png", "0002001.png"], True),
        (["0001_c1s1_000001_00.png", "0001_c2s1_000003_00.png"], True),
        ([f"{frame:07d}.png" for frame in range(1, 9)], False),  # frames of a film
        ([f"{frame:07d}.png" for frame in range(10_001, 10_009)], False),
        (["0001_c1_1.png", "0001_c2_1.png"], False),  # a part of CUHK03-NP
        (["0001_c1s1_000001_00.jpg"], False),
        (["0001_c3s1_000001_00.png"], False),
    ],
)
def test_cuhk01_is_recognised_without_its_folder(tmp_path, names, known):
    fill(tmp_path, names)
    assert recognise(tmp_path) == (["cuhk01"] if known else [])


def test_cuhk01_with_market1501_names(tmp_path):
    fill(tmp_path, ["0485_c2s1_000001_00.png"])
    assert rows(read("cuhk01", tmp_path), tmp_path, "identity", "camera") == [("0485_c2s1_000001_00.png", 485, 2)]
