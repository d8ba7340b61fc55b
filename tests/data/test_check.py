import json

import pytest

from reappear.cli.app import main
from reappear.data import READERS, Counts, Layout, check, read, scan

from .trees import draw, fill, market1501


def test_counts_exclude_junk_and_distractors(tmp_path):
    market1501(tmp_path)
    table = read("market1501", tmp_path)
    published = {
        "train": Counts(images=2, identities=1, cameras=2),
        "gallery": Counts(images=3, identities=1, cameras=3, junk=1, distractors=1),
        "query+gallery": Counts(identities=1, images=4),
    }
    layout = Layout(read=read, matches=lambda root: True, description="", published=published, distractor=0)
    found = check(table, layout, tmp_path)
    assert [line.status() for line in found.lines] == ["ok"] * 10
    assert found.complete


def test_differences_are_reported_by_split(tmp_path):
    fill(tmp_path, [f"campus/{person:04d}001.png" for person in range(1, 972) if person not in (5, 6, 7, 400)])
    table = read("cuhk01", tmp_path)
    found = check(table, READERS["cuhk01"], tmp_path)
    assert [(line.what, line.status()) for line in found.lines] == [
        ("images", "2,917 missing"),
        ("identities", "4 missing"),
        ("cameras", "1 missing"),
    ]
    assert found.missing == ["train: 4 people, numbers 5-7, 400"]
    assert not found.complete


def test_published_counts_name_a_split_and_a_source():
    for layout in READERS.values():
        assert layout.published.keys() == layout.places.keys()
        assert set("+".join(layout.published or ["train"]).split("+")) <= {"train", "query", "gallery"}


def test_unreadable_images_are_found(tmp_path):
    for name in ("0001001.png", "0001002.jpg", "0001003.jpg", "0001004.png", "0002001.jpg"):
        draw(tmp_path / "campus" / name, size=(32, 64))
    whole = (tmp_path / "campus" / "0001002.jpg").read_bytes()
    (tmp_path / "campus" / "0001002.jpg").write_bytes(whole[: len(whole) - 40])
    (tmp_path / "campus" / "0001003.jpg").write_bytes(b"")
    (tmp_path / "campus" / "0001004.png").write_text("hello")
    table = read("cuhk01", tmp_path)
    expected = {"0001002.jpg": "damaged or cut off", "0001003.jpg": "an empty file", "0001004.png": "not an image"}
    for workers in (1, 2):
        assert {path.rsplit("/", 1)[1]: why for path, why in scan(table, workers=workers).items()} == expected


@pytest.fixture
def reappear(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        message = capsys.readouterr()
        return int(stopped.value.code or 0), message.out, message.err

    return call


def test_command_lists_what_is_missing(tmp_path, reappear):
    market1501(tmp_path)
    code, out, _ = reappear("data", "check", "market1501", tmp_path)
    assert code == 1
    assert "12,934 missing" in out
    assert "left out: not an image file: 1" in out
    assert out.strip().endswith("not complete")
    code, out, _ = reappear("data", "check", "market1501", tmp_path, "--json")
    assert code == 1
    result = json.loads(out)
    assert result["complete"] is False
    assert {"split": "query", "what": "images", "found": 1, "published": 3368} in result["counts"]


def test_complete_set_exits_with_0(tmp_path, reappear):
    draw(tmp_path / "ann" / "a.png")
    code, out, _ = reappear("data", "check", "folder", tmp_path, "--images", "--quiet")
    assert code == 0
    assert "no published counts" in out
    (tmp_path / "ann" / "b.png").write_text("no image")
    code, out, _ = reappear("data", "check", "folder", tmp_path, "--images", "--quiet")
    assert code == 1
    assert f"unreadable: {tmp_path / 'ann' / 'b.png'}: not an image" in out


def test_list_contains_every_layout(reappear):
    code, out, _ = reappear("data", "list")
    assert code == 0
    assert all(name in out for name in READERS)
    code, out, _ = reappear("data", "list", "--json")
    assert json.loads(out)["cion_al"]["published"]["train"]["images"] == 3_898_086


def test_unknown_layout_is_one_line(reappear, tmp_path):
    code, _, err = reappear("data", "check", "mar", tmp_path)
    assert code == 1
    assert err == "reappear: unknown data set layout 'mar'; did you mean mars? known: " + ", ".join(READERS) + "\n"


@pytest.mark.real
def test_incomplete_copies_are_reported(real_data, reappear):
    code, out, _ = reappear("data", "check", "cuhk03_np", real_data / "cuhk03_np")
    assert code == 1
    assert "ok   train    images            7,365 of      7,365" in out
    assert "1,400 missing" in out
    assert "5,332 missing" in out
    code, out, _ = reappear("data", "check", "cuhk01", real_data / "cuhk01", "--images")
    assert code == 1
    assert "missing: train: 486 people, numbers 486-971" in out
