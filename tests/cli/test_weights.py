"""reappear weights."""

import json

import pytest

from reappear.cli.app import main
from reappear.store import WEIGHTS


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["weights", *arguments])
    message = capsys.readouterr()
    return int(stopped.value.code or 0), message.out, message.err


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("REAPPEAR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REAPPEAR_OFFLINE", "1")
    return tmp_path / "home"


def test_list_add_verify(capsys, tmp_path, home):
    (tmp_path / "net.onnx").write_bytes(b"net")
    code, out, _ = call(capsys, "list")
    assert code == 0
    for name, entry in WEIGHTS.items():
        assert name in out
        assert entry.training_data in out
    code, out, _ = call(capsys, "add", str(tmp_path / "net.onnx"), "--name", "yolox_nano")
    assert code == 0
    assert "not one of the known files" in out
    assert call(capsys, "add", str(tmp_path / "net.onnx"))[0] == 0
    listed = {entry["name"]: entry["here"] for entry in json.loads(call(capsys, "list", "--json")[1])}
    assert (listed["yolox_nano"], listed["net"], listed["yolox_s"]) == (True, True, False)
    assert call(capsys, "verify")[0] == 0
    (home / "weights" / "net" / "net.onnx").write_bytes(b"no!")
    (home / "weights" / "yolox_s").mkdir()
    (home / "weights" / "yolox_s" / "yolox_s.onnx.part").touch()
    code, out, _ = call(capsys, "verify", "--json")
    assert code == 1
    assert {one["name"]: one["ok"] for one in json.loads(out)} == {"net": False, "yolox_nano": True, "yolox_s": False}


def test_download_is_refused_offline_and_for_unknown_names(capsys):
    code, _, err = call(capsys, "download", "yolox_tiny")
    assert code == 1
    assert "REAPPEAR_OFFLINE" in err
    assert len(err.splitlines()) == 1
    code, _, err = call(capsys, "download", "yolox_tny")
    assert code == 2
    assert "did you mean yolox_tiny?" in err


def test_detector_and_extractor_by_name(capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["run", str(tmp_path), "--out", str(tmp_path / "w"), "--detector", "yolox_tiny"])
    assert stopped.value.code == 1
    assert "reappear weights download yolox_tiny" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["embed", str(tmp_path), "--extractor", "osnet_x0_25"])
    assert stopped.value.code == 1
    assert "reappear weights add FILE --name osnet_x0_25" in capsys.readouterr().err
