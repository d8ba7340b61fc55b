import pytest

from reappear.core import InputError
from reappear.data import read

from .trees import fill


def test_each_folder_is_a_person(tmp_path):
    fill(tmp_path, ["ann/b.jpg", "ann/a.png", "bob/x.jpeg", "empty/notes.txt", "stray.jpg"])
    table = read("folder", tmp_path)
    assert [path.rsplit("/", 2)[1:] for path in table.path] == [["ann", "a.png"], ["ann", "b.jpg"], ["bob", "x.jpeg"]]
    assert table.identity.tolist() == [0, 0, 1]
    assert table.names == ("ann", "bob")
    assert set(table.split.tolist()) == {"train"}
    assert set(table.camera.tolist()) == {-1}
    assert sorted(table.skipped.values()) == ["no image in it", "not an image file", "not in the folder of a person"]


def test_folder_minus_one_is_junk(tmp_path):
    fill(tmp_path, ["-1/a.jpg", "0000/b.jpg", "ann/c.jpg", "-2/d.jpg"])
    table = read("folder", tmp_path)
    assert table.identity.tolist() == [-1, 0, 1, 2]
    assert table.names == ("-2", "0000", "ann")


def test_images_without_folders(tmp_path):
    fill(tmp_path, ["a.jpg", "b.jpg"])
    with pytest.raises(InputError, match="one folder for each person"):
        read("folder", tmp_path)
