import os

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


def test_images_that_cannot_be_read_are_in_the_table(tmp_path):
    """So that those who read them count and list them, as they do with damaged ones."""
    fill(tmp_path, ["ann/a.png", "bob/x.jpeg"])
    (tmp_path / "ann" / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "ann" / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(tmp_path / "ann" / "pipe.jpg")
    (tmp_path / "ann" / "folder.jpg").mkdir()
    table = read("folder", tmp_path)
    assert [path.rsplit("/", 1)[1] for path in table.path] == ["a.png", "gone.jpg", "loop.jpg", "pipe.jpg", "x.jpeg"]
