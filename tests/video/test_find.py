import os
from pathlib import Path

import pytest

from reappear.core import InputError
from reappear.video import find_videos


@pytest.fixture
def tree(tmp_path):
    for name in ("b/x.MP4", "b/notes.txt", "a.mkv", "c/d/e.264", "b/.hidden.mp4", "m/img1/000001.jpg", "m/seqinfo.ini"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(root: Path, *paths: str) -> list[str]:
    return [str(path.relative_to(root)) for path in find_videos([root / path for path in paths])]


def test_folders_are_searched_in_order(tree):
    assert names(tree, "") == ["a.mkv", "b/x.MP4", "c/d/e.264", "m"]


def test_explicit_file_may_have_any_name(tree):
    assert names(tree, "b/notes.txt") == ["b/notes.txt"]


def test_each_video_once_in_the_order_given(tree):
    assert names(tree, "c", "a.mkv", "") == ["c/d/e.264", "a.mkv", "b/x.MP4", "m"]


def test_patterns(tree):
    assert names(tree, "*/x.*") == ["b/x.MP4"]
    assert names(tree, "**/*") == ["a.mkv", "b/x.MP4", "c/d/e.264", "m"]


def test_missing_items_are_refused(tree):
    with pytest.raises(InputError, match=r"nothing\.mp4 does not exist"):
        find_videos([tree / "nothing.mp4"])
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty has no videos; .*\.mp4"):
        find_videos([tree / "empty"])
    with pytest.raises(InputError, match="has no videos"):
        find_videos([tree / "*.webm"])
    with pytest.raises(InputError, match="no videos given"):
        find_videos([])


def test_linked_files_are_one_video(tree):
    (tree / "link.mkv").symlink_to(tree / "a.mkv")
    (tree / "hard.mkv").hardlink_to(tree / "a.mkv")
    (tree / "c" / "up").symlink_to(tree)
    (tree / "m" / "self").symlink_to(tree / "m")
    (tree / "again").symlink_to(tree / "m")
    notes = []
    found = find_videos([tree, tree / "b" / ".." / "b", tree / "**" / "*", tree / "link.mkv"], note=notes.append)
    assert [str(path.relative_to(tree)) for path in found] == ["a.mkv", "again", "b/x.MP4", "c/d/e.264"]
    assert any("link.mkv" in note and "a.mkv" in note for note in notes)


def test_broken_links_are_kept_for_the_reader(tree):
    (tree / "b" / "gone.mp4").symlink_to(tree / "nothing.mp4")
    (tree / "b" / "loop.mp4").symlink_to(tree / "b" / "loop.mp4")
    assert names(tree, "b") == ["b/gone.mp4", "b/loop.mp4", "b/x.MP4"]
    assert names(tree, "b/loop.mp4") == ["b/loop.mp4"]


def test_what_may_not_be_looked_up_is_left_to_who_opens_it(tree, monkeypatch):
    """A folder of many that may not be entered costs none of the others."""
    stat, lstat = Path.stat, Path.lstat

    def refuse(path: Path, **more: object) -> os.stat_result:
        if path.name == "closed.mp4":
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **more)

    monkeypatch.setattr(Path, "stat", refuse)
    monkeypatch.setattr(Path, "lstat", lambda path: refuse(path, follow_symlinks=False) and lstat(path))
    assert names(tree, "d/closed.mp4", "a.mkv") == ["d/closed.mp4", "a.mkv"]
