import pytest

from reappear.core import InputError, SettingsError
from reappear.data import read

from .trees import prid2011, rows


def test_split_selects_its_people(tmp_path):
    prid2011(tmp_path)
    table = read("prid2011", tmp_path)
    assert rows(table, tmp_path / "prid_2011/multi_shot", "identity", "camera", "sequence", "split")[::2] == [
        ("cam_a/person_0001/0001.png", 1, 1, 2, "train"),
        ("cam_a/person_0002/0001.png", 2, 1, 4, "query"),
        ("cam_b/person_0001/0001.png", 1, 2, 3, "train"),
        ("cam_b/person_0002/0001.png", 2, 2, 5, "gallery"),
    ]
    assert set(table.skipped.values()) == {"a person of neither half of the split", "a person of one camera alone"}
    other = read("prid2011", tmp_path, split=1)
    assert set(other.identity[other.split == "query"].tolist()) == {1}


def test_no_split_reads_people_of_both_cameras(tmp_path):
    prid2011(tmp_path)
    table = read("prid2011", tmp_path, split=None)
    assert set(table.identity.tolist()) == {1, 2, 3}
    assert set(table.split.tolist()) == {"train"}


def test_missing_parts_are_named(tmp_path):
    prid2011(tmp_path)
    with pytest.raises(SettingsError, match=r"split: must be one of 0\.\.1, or none, got 10"):
        read("prid2011", tmp_path, split=10)
    (tmp_path / "splits_prid2011.json").unlink()
    with pytest.raises(InputError, match=r"splits_prid2011\.json is missing"):
        read("prid2011", tmp_path)
