"""The cache of weights, and names in the place of paths."""

import hashlib
import re

import pytest

from reappear.core import InputError, SettingsError
from reappear.models.extractors import ModelSettings, OnnxSettings, OpenVinoSettings, extractor_settings_for
from reappear.store import WEIGHTS, WeightsCache, find_weights
from reappear.store import weights as module
from reappear.video import YoloxSettings


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("REAPPEAR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_registered_weights_are_complete():
    for name, entry in WEIGHTS.items():
        assert name == entry.name
        assert all((entry.code_licence, entry.weights_licence, entry.training_data))
        assert entry.size > 100_000
        for file in entry.files:
            assert re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert all(url.startswith("https://") for url in file.urls)


def test_known_file_gets_its_registered_name(home, tmp_path, monkeypatch):
    file = tmp_path / "downloaded (1).onnx"
    file.write_bytes(b"a network")
    sha256 = hashlib.sha256(b"a network").hexdigest()
    entry = WEIGHTS["yolox_nano"]
    monkeypatch.setattr(module, "_ENTRIES", (type(entry)(**vars(entry) | {"variants": (sha256,)}),))
    added = WeightsCache().add(file)
    assert added.name == "yolox_nano"
    assert added.path == home / "weights" / "yolox_nano" / "downloaded (1).onnx"
    assert added.path.read_bytes() == b"a network"


def test_added_weights_have_a_name_of_their_own(home, tmp_path):
    for name in ("net.onnx", "net.xml", "net.bin", "other.txt"):
        (tmp_path / name).write_bytes(name.encode())
    cache = WeightsCache()
    assert cache.add(tmp_path / "net.onnx").name == "net"
    assert cache.add(tmp_path / "net.onnx").name == "net"  # again: the same
    assert cache.add(tmp_path / "net.xml", "vino").path.with_suffix(".bin").read_bytes() == b"net.bin"
    with pytest.raises(InputError, match="other weights of the name net"):
        cache.add(tmp_path / "net.xml")
    with pytest.raises(SettingsError):
        cache.add(tmp_path / "net.onnx", "../outside")
    with pytest.raises(InputError, match=r"other\.txt does not look like weights"):
        cache.add(tmp_path / "other.txt")
    (tmp_path / "net.bin").unlink()
    with pytest.raises(InputError, match=r"net\.bin does not exist"):
        cache.add(tmp_path / "net.xml", "again")
    assert cache.names() == ["net", "vino"]


def test_verify_finds_damage(home, tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"0123456789")
    cache = WeightsCache()
    path = cache.add(tmp_path / "net.onnx").path
    assert cache.verify("net").problems == ()
    path.write_bytes(b"0123456780")
    assert str(path) in cache.verify("net").problems[0]
    path.unlink()
    assert "does not exist" in cache.verify("net").problems[0]


def test_names_stand_for_paths(home, tmp_path, monkeypatch):
    (tmp_path / "net.onnx").touch()
    (tmp_path / "net.xml").touch()
    (tmp_path / "net.bin").touch()
    (tmp_path / "plain.pth").touch()
    cache = WeightsCache()
    onnx = cache.add(tmp_path / "net.onnx").path
    xml = cache.add(tmp_path / "net.xml", "osnet_x0_25").path
    pth = cache.add(tmp_path / "plain.pth").path
    monkeypatch.chdir(tmp_path)
    assert find_weights(OnnxSettings(weights="net").weights) == onnx
    assert OpenVinoSettings(weights="osnet_x0_25").files == {"weights": xml, "bin": xml.with_suffix(".bin")}
    assert ModelSettings(name="resnet18", weights="plain").files == {"weights": pth}
    assert YoloxSettings(weights="net").files(tmp_path) == {"weights": onnx}
    assert extractor_settings_for("net") == OnnxSettings(weights="net")
    assert extractor_settings_for("osnet_x0_25") == OpenVinoSettings(weights="osnet_x0_25")
    with pytest.raises(InputError, match=r"--extractor\.weights plain"):
        extractor_settings_for("plain")
    (tmp_path / "net").mkdir()  # a path that exists is a path
    with pytest.raises(InputError, match="not a model folder"):
        extractor_settings_for("net")


def test_weights_that_are_not_here_name_the_command(home):
    with pytest.raises(InputError, match="reappear weights download yolox_tiny"):
        find_weights(YoloxSettings(weights="yolox_tiny").weights)
    with pytest.raises(InputError, match="reappear weights add FILE --name osnet_x0_25"):
        extractor_settings_for("osnet_x0_25")
    assert extractor_settings_for("resnet18") == ModelSettings(name="resnet18")


@pytest.mark.real
def test_known_real_files(home, real_data):
    cache = WeightsCache()
    names = {cache.add(path).name for path in (real_data / "weights").rglob("*") if path.suffix in (".onnx", ".xml")}
    assert names == {
        "yolox_nano",
        "osnet_x0_25",
        *(f"person-reidentification-retail-{number}" for number in ("0277", "0286", "0288")),
    }
