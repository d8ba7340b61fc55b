"""What holds for every layout."""

from pathlib import Path

import numpy as np
import pytest

from reappear.core import ImageTable, InputError, SettingsError
from reappear.data import READERS, locate, read, recognise

from .trees import TREES, fill


@pytest.fixture(params=TREES)
def tree(request, tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    TREES[request.param](root)
    return request.param, root


def test_readers_list_existing_files(tree):
    name, root = tree
    table = read(name, root)
    assert len(table)
    assert all(Path(path).is_file() for path in table.path)
    assert len(set(table.path.tolist())) == len(table)
    assert table.identity.max() >= 1
    again = read(name, root)
    assert again.path.tolist() == table.path.tolist()


def test_layouts_are_recognised(tree):
    name, root = tree
    assert recognise(root) in ([name], ["cuhk03_np", "cuhk03_np_labeled"])


def test_video_sequences_are_tracklets(tree):
    name, root = tree
    if READERS[name].video:
        table = read(name, root)
        for sequence in np.unique(table.sequence):
            mine = table.sequence == sequence
            assert len({*zip(table.identity[mine], table.camera[mine], table.split[mine], strict=True)}) == 1


def test_frames_of_a_tracklet_are_in_order(tree):
    name, root = tree
    if READERS[name].video:
        table = read(name, root)
        for sequence in np.unique(table.sequence):
            frames = table.frame[table.sequence == sequence]
            assert frames.min() >= 0
            assert (np.diff(frames) > 0).all()


def test_sets_are_found_under_common_folder_names(tree, tmp_path, monkeypatch):
    name, root = tree
    for known in READERS[name].folders:
        sets = tmp_path / known.replace("/", "_")
        (sets / known).parent.mkdir(parents=True)
        root.rename(sets / known)
        monkeypatch.setenv("REAPPEAR_DATASETS", str(sets))
        assert locate(name) == sets / known
        assert len(read(name)) == len(read(name, sets / known))
        (sets / known).rename(root)


def test_incomplete_set_is_found_by_its_name(tmp_path):
    fill(tmp_path / "cuhk03-np", ["bounding_box_train/0001_c1_0.png"])  # looks like Market-1501
    assert locate("cuhk03_np", tmp_path) == tmp_path / "cuhk03-np"
    assert len(read("cuhk03_np", tmp_path)) == 1


def test_missing_set_is_refused(tree, tmp_path):
    name, _ = tree
    fill(tmp_path / "other", ["a.txt"])
    with pytest.raises(InputError) as error:
        read(name, tmp_path / "other")
    assert str(tmp_path / "other") in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_option_is_refused(tree):
    name, root = tree
    with pytest.raises(SettingsError, match=f"{name} has no option boxes"):
        read(name, root, boxes="labeled")


def test_unknown_names_and_folders_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="did you mean market1501"):
        read("market", tmp_path)
    with pytest.raises(InputError, match="known: market1501, msmt17"):
        read("imagenet", tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        read("market1501", tmp_path / "absent")
    monkeypatch.setenv("REAPPEAR_DATASETS", str(tmp_path / "absent"))
    with pytest.raises(InputError, match="absent is not a folder; say where market1501 is, or set REAPPEAR_DATASETS"):
        read("market1501")


def test_empty_folder_is_not_recognised(tmp_path):
    assert recognise(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        ("market1501", ["query/-1_c1s1_000001_00.jpg", "query/0000_c1_1.jpg", f"query/{10**20}_c1.jpg"], [-1, 0]),
        ("cuhk01", ["-1_c1s1_000001_00.png", "0001_c1s1_000001_00.png"], [-1, 1]),
        ("folder", ["-1/a.jpg", "99999999999999999999/a.jpg"], [-1, 0]),
    ],
)  # fmt: skip
def test_minus_one_is_junk_without_integer_overflow(tmp_path, name, files, expected):
    fill(tmp_path, files)
    table = read(name, tmp_path)
    assert table.identity.tolist() == expected
    assert len(table) + len(table.skipped) == len(files)


@pytest.mark.parametrize("column", ["identity", "camera", "sequence", "frame"])
def test_negative_numbers_other_than_minus_one_are_refused(column):
    columns = {name: np.array([0, -1]) for name in ("identity", "camera", "sequence", "frame")} | {
        column: np.array([0, -2])
    }
    with pytest.raises(InputError, match=rf"^b\.jpg: {column} .* got -2"):
        ImageTable(np.array(["a.jpg", "b.jpg"]), split=np.array(["train"] * 2), **columns)
