import json

import pytest

from reappear.cli.app import main
from reappear.core import settings
from reappear.pipeline import outputs
from reappear.pipeline.record import Outcome, read_record, run_step
from reappear.pipeline.verify import finished_folders, verify_folder


@settings
class Nothing:
    """No settings."""


def fill(folder):
    (folder / "sub").mkdir(parents=True)
    for name in ("vectors.npy", "meta.json", "sub/a.jpg"):
        (folder / name).write_bytes(name.encode() * 100)
    return Outcome()


@pytest.fixture(params=[10_000, 2], ids=["in the record", "in a table"])
def finished(request, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "_MANY", request.param)
    run_step(tmp_path / "w" / "embeddings" / "e", step="try", settings=Nothing(), inputs={}, work=fill)
    return tmp_path / "w" / "embeddings" / "e"


def remove(path):
    path.unlink()


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def doctor(capsys, root):
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", str(root), "--json"])
    return int(stopped.value.code or 0), {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_every_output_is_recorded(finished, capsys):
    found = verify_folder(finished)
    assert (found.damaged, found.extra, found.verifiable) == ({}, (), True)
    written = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()} - {"record.json"}
    assert found.files == len(written)
    assert set(outputs.full_outputs(finished, read_record(finished).outputs)) == written
    _, findings = doctor(capsys, finished.parents[1])
    assert findings["embeddings/e"]["ok"]


@pytest.mark.parametrize("harm", [remove, shorten, flip])
@pytest.mark.parametrize("name", ["vectors.npy", "meta.json", "sub/a.jpg"])
def test_any_change_of_a_file_is_found(finished, capsys, name, harm):
    harm(finished / name)
    found = verify_folder(finished)
    assert list(found.damaged) == [name]
    code, findings = doctor(capsys, finished.parents[1])
    assert code == 1
    assert not findings[f"embeddings/e/{name}"]["ok"]


def test_truncated_record_is_found(finished, capsys):
    path = finished / "record.json"
    path.write_bytes(path.read_bytes()[:100])
    assert "record.json" in verify_folder(finished).damaged
    assert doctor(capsys, finished.parents[1])[0] == 1


def test_every_character_of_a_checksum_is_compared(finished):
    plain = json.loads((finished / "record.json").read_text())
    for key, value in (
        ("step", "other"),
        ("settings", {"a": 1}),
        ("inputs", {"crops": "0"}),
        ("fingerprint", "0" * 16),
    ):
        (finished / "record.json").write_text(json.dumps({**plain, key: value}))
        assert "record.json" in verify_folder(finished).damaged


def test_unknown_file_is_only_noted(finished, capsys):
    (finished / "mine.txt").write_text("by hand")
    assert verify_folder(finished).extra == ("mine.txt",)
    _, findings = doctor(capsys, finished.parents[1])
    assert findings["embeddings/e"]["ok"]
    assert "mine.txt" in findings["embeddings/e"]["detail"]


def test_record_of_an_older_version_is_not_verifiable(finished, capsys):
    plain = json.loads((finished / "record.json").read_text())
    del plain["outputs"]
    (finished / "record.json").write_text(json.dumps(plain))
    assert read_record(finished).outputs is None
    assert not verify_folder(finished).verifiable
    _, findings = doctor(capsys, finished.parents[1])
    assert findings["embeddings/e"]["ok"]
    assert "not verifiable" in findings["embeddings/e"]["detail"]


def test_unfinished_folders_are_not_listed(finished, tmp_path):
    partial = tmp_path / "w" / "embeddings" / "f.partial"
    partial.mkdir()
    (partial / "record.json").write_text("{}")
    assert finished_folders(tmp_path / "w") == [finished]
    assert finished_folders(finished) == [finished]
