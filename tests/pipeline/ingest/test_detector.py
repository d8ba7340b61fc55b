"""--detector auto."""

import pytest

from reappear.core import InputError, SettingsError
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.record import read_record
from reappear.pipeline.settings import resolve
from reappear.pipeline.workspace import Workspace
from reappear.store import WeightsCache
from reappear.video import AutoSettings, MotionSettings, YoloxSettings
from tests.video.detectors.test_detectors import yolox_file
from tests.video.films import pictures, write_film


class Notes:
    def __init__(self):
        self.texts = []

    def note(self, text):
        self.texts.append(text)

    def task(self, title, total, unit):
        from reappear.core import SILENT

        return SILENT.task(title, total, unit)


@pytest.fixture
def add_yolox(tmp_path, monkeypatch):
    monkeypatch.setenv("REAPPEAR_HOME", str(tmp_path / "home"))
    file = yolox_file(tmp_path / "any.onnx", {9: [0.5, 0.5, 0.0, 1.0, 0.9, 0.9]})
    return lambda name: WeightsCache().add(file, name)


def test_auto_takes_the_best_weights_that_are_here(add_yolox):
    assert AutoSettings().choose() == MotionSettings()
    add_yolox("osnet_x0_25")  # no detector
    assert AutoSettings().choose() == MotionSettings()
    add_yolox("yolox_nano")
    assert AutoSettings().choose() == YoloxSettings(weights="yolox_nano")
    add_yolox("yolox_s")
    assert AutoSettings().choose() == YoloxSettings(weights="yolox_s")


def test_auto_is_recorded_as_what_it_chose_and_kept(tmp_path, add_yolox):
    film = write_film(tmp_path / "films" / "a.mp4", pictures(30))
    work, notes = Workspace(tmp_path / "w"), Notes()
    ingest([film], work, IngestSettings(workers=1), progress=notes)
    assert read_record(work.crops).settings["detector"]["kind"] == "motion"
    assert any("moving regions, not people" in text and "reappear weights download" in text for text in notes.texts)
    add_yolox("yolox_nano")
    notes = Notes()
    assert ingest([film], work, IngestSettings(workers=1), progress=notes).already_done
    assert any("--detector motion, which is kept" in text for text in notes.texts)


def test_weights_that_are_not_here_are_one_error_before_any_video(tmp_path, add_yolox):
    film = write_film(tmp_path / "films" / "a.mp4", pictures(5))
    notes = Notes()
    settings = IngestSettings(detector=YoloxSettings(weights="yolox_tiny"))
    with pytest.raises(InputError, match=r"^the weights yolox_tiny are not on this machine"):
        ingest([film], Workspace(tmp_path / "w"), settings, progress=notes)
    assert not notes.texts


def test_settings_of_one_detector_name_it():
    assert resolve(IngestSettings, {}, {"detector.width": "200"}).detector == MotionSettings(width=200)
    assert resolve(IngestSettings, {"detector": {"weights": "y"}}, {}).detector == YoloxSettings(weights="y")
    assert resolve(IngestSettings, {}, {}).detector == AutoSettings()
    with pytest.raises(SettingsError, match=r"detector\.score"):  # of two
        resolve(IngestSettings, {}, {"detector.score": "0.5"})
