import json

import numpy as np
import pytest
from scipy.io import savemat

from reappear.core import InputError, SettingsError
from reappear.data import read

from .trees import fill, ilids_vid, rows


def people_tested(table):
    assert set(table.camera[table.split == "query"].tolist()) == {1}
    assert set(table.camera[table.split == "gallery"].tolist()) == {2}
    people = set(table.identity[table.split == "query"].tolist())
    assert people == set(table.identity[table.split == "gallery"].tolist())
    assert not people & set(table.identity[table.split == "train"].tolist())
    return people


def test_split_numbers_index_the_sorted_list(tmp_path):
    ilids_vid(tmp_path)
    assert people_tested(read("ilids_vid", tmp_path)) == {9, 1}  # 3 1 | 4 2: the third and the first folder
    assert people_tested(read("ilids_vid", tmp_path, test="last")) == {319, 2}
    assert people_tested(read("ilids_vid", tmp_path, split=1)) == {1, 2}


def test_sequence_is_a_tracklet_with_sorted_frames(tmp_path):
    ilids_vid(tmp_path)
    table = read("ilids_vid", tmp_path / "i-LIDS-VID", split=None)
    assert rows(table, tmp_path, "identity", "camera", "sequence", "split")[4:8] == [
        ("i-LIDS-VID/sequences/cam1/person002/cam1_person002_00002.png", 2, 1, 2, "train"),
        ("i-LIDS-VID/sequences/cam1/person002/cam1_person002_00010.png", 2, 1, 2, "train"),
        ("i-LIDS-VID/sequences/cam2/person002/cam2_person002_00002.png", 2, 2, 3, "train"),
        ("i-LIDS-VID/sequences/cam2/person002/cam2_person002_00010.png", 2, 2, 3, "train"),
    ]


def test_json_splits_select_test_people(tmp_path):
    ilids_vid(tmp_path)
    splits = [{"train": ["person001", "person002"], "test": ["person009", "person319"]}]
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    assert people_tested(read("ilids_vid", tmp_path)) == {9, 319}


@pytest.mark.parametrize(
    ("options", "message"),
    [({"split": 2}, r"split: must be one of 0\.\.1, or none, got 2"), ({"test": "left"}, "must be first or last")],
)
def test_invalid_options_are_refused(tmp_path, options, message):
    ilids_vid(tmp_path)
    with pytest.raises(SettingsError, match=message):
        read("ilids_vid", tmp_path, **options)


def test_people_must_match_the_splits(tmp_path):
    ilids_vid(tmp_path)
    folder = tmp_path / "train-test people splits"
    savemat(folder / "train_test_splits_ilidsvid.mat", {"ls_set": np.arange(1, 7).reshape(1, 6)})
    with pytest.raises(InputError, match="splits 6 people, here: 4"):
        read("ilids_vid", tmp_path)
    (folder / "train_test_splits_ilidsvid.mat").unlink()
    with pytest.raises(InputError, match=r"train_test_splits_ilidsvid\.mat is missing"):
        read("ilids_vid", tmp_path)
    (tmp_path / "splits.json").write_text('[{"trainval": []}]')
    with pytest.raises(InputError, match="must be a list of objects with train and test"):
        read("ilids_vid", tmp_path)
    (tmp_path / "splits.json").write_text("[")
    with pytest.raises(InputError, match="not JSON"):
        read("ilids_vid", tmp_path)


def test_person_in_one_camera_is_refused(tmp_path):
    ilids_vid(tmp_path)
    fill(
        tmp_path, ["i-LIDS-VID/sequences/cam1/person400/cam1_person400_00001.png", "i-LIDS-VID/sequences/cam1/x/y.png"]
    )
    skipped = read("ilids_vid", tmp_path, split=None).skipped
    assert sorted(skipped.values()) == ["a person of one camera alone", "not named as in iLIDS-VID, person001"]
