import json

import pytest

from reappear.core import InputError
from reappear.data import read
from reappear.data.annotations import json_objects

from .trees import cion_al, fill, rows, synth_pedes


def test_cion_al(tmp_path):
    cion_al(tmp_path)
    assert rows(read("cion_al", tmp_path), tmp_path, "identity", "camera", "split") == [
        ("sec0/0.jpg", 1, -1, "train"),
        ("sec0/1.jpg", 1, -1, "train"),
        ("sec0/2.jpg", 2, -1, "train"),
    ]


def test_cion_al_under_its_public_file_name_and_parent_paths(tmp_path):
    fill(tmp_path, ["CION_AL/sec0/0.jpg"])
    (tmp_path / "CION_AL" / "cinoal_annos.json").write_text('[{"file_path": "CION_AL/sec0/0.jpg", "id": 4}]')
    assert read("cion_al", tmp_path).identity.tolist() == [4]


def test_synth_pedes(tmp_path):
    synth_pedes(tmp_path)
    table = read("synth_pedes", tmp_path)
    assert table.identity.tolist() == [0, 0, 7, 7]


def test_listed_but_missing_images_are_skipped(tmp_path):
    cion_al(tmp_path)
    (tmp_path / "sec0" / "1.jpg").unlink()
    table = read("cion_al", tmp_path)
    assert table.skipped == {str(tmp_path / "sec0/1.jpg"): "in cional_annos.json, but not there"}
    assert len(table) == 2


def test_json_objects_are_streamed_at_any_chunk_size(tmp_path, monkeypatch):
    entries = [
        {"id": i, "file_path": f'a "quoted" }}, [name] {i}.jpg', "more": {"deep": [1, {"x": None}]}} for i in range(50)
    ]
    (tmp_path / "a.json").write_text(json.dumps(entries, indent=2))
    for piece in (1, 7, 64, 10_000):
        monkeypatch.setattr("reappear.data.annotations._PIECE", piece)
        assert list(json_objects(tmp_path / "a.json")) == entries
    (tmp_path / "a.json").write_text("[]")
    assert list(json_objects(tmp_path / "a.json")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold one JSON array of objects"),
        ('{"id": 1}', "must hold one JSON array of objects"),
        ('[{"file_path": "sec0/0.jpg", "id": 1}', "entry 1 is no object, or the file is cut off"),
        ('[{"file_path": "sec0/0.jpg", "id": 1}, {"file', "entry 1 is no JSON, or the file is cut off"),
        ("[3]", "entry 0 is no object"),
        ('[{"id": 1}]', "entry 0 must have a file_path and a whole number id"),
        ('[{"file_path": "a.jpg", "id": "1"}]', "entry 0 must have a file_path and a whole number id"),
        ('[{"file_path": "a.jpg", "id": 1}]', "none of 1 image is there"),
    ],
)
def test_invalid_annotation_is_one_line(tmp_path, text, message):
    cion_al(tmp_path)
    (tmp_path / "cional_annos.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read("cion_al", tmp_path)


def test_non_utf8_annotation_is_refused(tmp_path):
    (tmp_path / "cional_annos.json").write_bytes(b'[{"file_path": "\xff"}]')
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read("cion_al", tmp_path)
    (tmp_path / "cional_annos.json").unlink()
    with pytest.raises(InputError, match=r"cional_annos\.json is missing"):
        read("cion_al", tmp_path)
