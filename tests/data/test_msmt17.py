import pytest

from reappear.core import InputError
from reappear.data import read

from .trees import msmt17, rows


@pytest.mark.parametrize("folders", [("train", "test"), ("mask_train_v2", "mask_test_v2")], ids=["V1", "V2"])
def test_msmt17_lists_give_names_and_numbers(tmp_path, folders):
    msmt17(tmp_path, *folders)
    train, test = folders
    assert rows(read("msmt17", tmp_path), tmp_path, "identity", "camera", "sequence", "split") == [
        (f"{train}/0000/0000_000_01_0303morning_0015_0.jpg", 0, 1, 3031, "train"),
        (f"{train}/0001/0001_004_14_0302noon_0102_1.jpg", 1, 14, 3022, "train"),
        (f"{test}/0000/0000_001_02_0303afternoon_0350_2.jpg", 1041, 2, 3033, "query"),
        (f"{test}/0000/0000_002_09_0303morning_0351_0_ex.jpg", 1041, 9, 3031, "gallery"),
        (f"{test}/0005/0005_000_15_0303noon_0001_0.jpg", 1046, 15, 3032, "gallery"),
    ]


def test_listed_but_missing_image_is_skipped(tmp_path):
    msmt17(tmp_path)
    gone = tmp_path / "test/0005/0005_000_15_0303noon_0001_0.jpg"
    gone.unlink()
    table = read("msmt17", tmp_path)
    assert len(table) == 4
    assert table.skipped == {str(gone): "in list_gallery.txt, but not there"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "list_query.txt").write_text("one/path.jpg\n"), "list_query.txt:1: must be a path and a"),
        (lambda root: (root / "test").rename(root / "tset"), "list_query.txt, but neither test nor mask_test_v2"),
        (lambda root: [p.unlink() for p in root.rglob("*.jpg")], "none of 5 images of its lists is there"),
        (lambda root: [p.unlink() for p in root.glob("*.txt")], "holds none of list_train.txt"),
    ],
)
def test_other_folders_are_not_msmt17(tmp_path, spoil, message):
    msmt17(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        read("msmt17", tmp_path)
