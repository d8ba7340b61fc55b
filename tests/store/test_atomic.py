import errno
import os

import pytest

from reappear.core import StorageError
from reappear.store import disk_errors, remove_folder, write_text, writing


def test_a_file_appears_whole_when_the_block_ends_well(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with writing(path) as aside:
        aside.write_text("half")
        assert not path.exists()
        aside.write_text("whole")
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_the_old_file_stays_when_the_block_fails(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with writing(path) as aside:
            aside.write_text("new")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full; free some space and run the same command again"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EACCES, "permission denied"),
    ],
)
def test_refusals_of_the_disk_say_what_to_do(tmp_path, number, said):
    with pytest.raises(StorageError, match=said), disk_errors(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path / "x"))
    with pytest.raises(StorageError, match=said), disk_errors(tmp_path):
        raise OSError(f"[Errno {number}] Error writing: {os.strerror(number)}")  # as Arrow raises it


def test_other_errors_pass(tmp_path):
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "none").read_text()


def test_a_folder_is_removed_or_was_not_there(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    remove_folder(tmp_path / "a")
    remove_folder(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
