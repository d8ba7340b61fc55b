import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from reappear.core import InputError, WorkspaceError
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.workspace import Workspace
from reappear.video import MotSettings, YoloxSettings
from tests.video.films import WALKERS, pictures, write_film, write_truth

FRAMES = 30


class Listener:
    def __init__(self):
        self.notes = []
        self.done = 0

    @contextmanager
    def task(self, title, total, unit):
        yield lambda units: setattr(self, "done", self.done + units)

    def note(self, text):
        assert "\n" not in text
        self.notes.append(text)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for i, name in enumerate(("c0_00", "c0_01", "c1_00")):
        write_film(folder / f"{name}.mp4", pictures(FRAMES, seed=i))
        write_truth(folder / f"{name}.gt.txt", FRAMES)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "record.json"
    }


@pytest.fixture(scope="module")
def done(films, tmp_path_factory):
    work = Workspace(tmp_path_factory.mktemp("work"))
    return work, ingest([films], work, IngestSettings(workers=1, truth_ids="global"))


def test_crops_show_the_walkers(done):
    work, record = done
    crops = work.open_crops()
    assert crops.has_truth
    assert record.counts["videos"] == 3
    assert record.counts["frames"] == 3 * FRAMES
    assert record.counts["tracklets"] == len(crops.offsets) - 1 == 6
    assert record.counts["crops"] == len(crops) == sum(crops.tracklets["crops"])
    for t in range(6):
        rows = slice(*crops.offsets[t : t + 2])
        assert len(set(crops.crops["truth"][rows].tolist())) == 1
        assert crops.crops["tracklet"][rows].tolist() == [t] * int(crops.tracklets["crops"][t])
        assert np.all(np.diff(crops.crops["frame"][rows]) > 0)
        assert crops.tracklets["start"][t] == crops.crops["time"][rows][0]
        assert crops.tracklets["end"][t] == crops.crops["time"][rows][-1]
    assert set(crops.crops["truth"].tolist()) == {7, 9}


def test_crop_shows_its_person(done):
    work, _ = done
    crops = work.open_crops()
    colors = {walker.identity: walker.color for walker in WALKERS}
    for i in range(len(crops)):
        image = cv2.imdecode(np.frombuffer(crops.image(i), np.uint8), cv2.IMREAD_COLOR_RGB)
        chest = image[len(image) // 3, image.shape[1] // 2].astype(int)
        assert np.abs(chest - colors[int(crops.crops["truth"][i])]).max() < 40


def test_every_box_is_kept_or_counted(done):
    _, record = done
    boxes = sum(count for reason, count in record.dropped.items() if reason.startswith("boxes"))
    assert record.counts["crops"] + boxes == record.counts["detections"]


def test_videos_have_posters_and_hashes(done, films):
    work, record = done
    videos = work.open_crops().videos
    assert [video.camera for video in videos] == ["c0_00", "c0_01", "c1_00"]
    assert [video.frames for video in videos] == [FRAMES] * 3
    assert all(cv2.imread(str(work.crops / "posters" / f"{i:05d}.jpg")).shape == (144, 192, 3) for i in range(3))
    assert hashlib.sha256((films / "c0_00.mp4").read_bytes()).hexdigest() in record.inputs.values()
    assert not (work.crops / "parts").exists()


def test_cameras_by_prefix(films, tmp_path):
    work = Workspace(tmp_path)
    ingest([films], work, IngestSettings(workers=1, camera="prefix", detector=MotSettings(ids="video")))
    assert [video.camera for video in work.open_crops().videos] == ["c0", "c0", "c1"]
    assert len(set(work.open_crops().camera.tolist())) == 2


def test_again_is_already_done_and_other_settings_are_refused(done, films):
    work, record = done
    again = ingest([films], work, IngestSettings(workers=3, truth_ids="global"))
    assert again.already_done
    assert again.fingerprint == record.fingerprint
    with pytest.raises(WorkspaceError, match=r"another stride \(1, now 2\)"):
        ingest([films], work, IngestSettings(workers=1, stride=2, truth_ids="global"))


def test_changed_ground_truth_is_another_input(films, tmp_path):
    film = write_film(tmp_path / "a.mp4", pictures(FRAMES))
    write_truth(tmp_path / "a.gt.txt", FRAMES)
    work = Workspace(tmp_path / "w")
    ingest([film], work, IngestSettings())
    write_truth(tmp_path / "a.gt.txt", FRAMES - 1)
    with pytest.raises(WorkspaceError, match="another input: truth 00000"):
        ingest([film], work, IngestSettings())


def test_stride(films, tmp_path):
    work = Workspace(tmp_path)
    record = ingest([films / "c0_00.mp4"], work, IngestSettings(stride=3))
    assert set((work.open_crops().crops["frame"] % 3).tolist()) == {0}
    assert record.counts["frames"] == FRAMES


def test_bad_video_is_skipped_and_others_are_ingested(films, tmp_path):
    folder = tmp_path / "batch"
    folder.mkdir()
    (folder / "b.mp4").symlink_to(films / "c0_00.mp4")
    (folder / "a.mp4").write_text("hello")
    (folder / "c.mp4").touch()
    whole = write_film(tmp_path / "d.mp4", pictures(FRAMES), faststart=True).read_bytes()
    (folder / "d.mp4").write_bytes(whole[: int(0.7 * len(whole))])
    write_film(folder / "e.mp4", pictures(1))
    listener, work = Listener(), Workspace(tmp_path / "w")
    record = ingest([folder], work, IngestSettings(workers=1), progress=listener)
    assert record.counts["videos"] == 3
    assert record.counts["videos without people"] == 1
    assert record.dropped["videos that cannot be read"] == 2
    assert record.dropped["truncated"] == 1
    assert [video.path.name for video in work.open_crops().videos] == ["b.mp4", "d.mp4", "e.mp4"]
    assert any("a.mp4 is not a video" in note for note in listener.notes)
    assert any("c.mp4 is an empty file" in note for note in listener.notes)
    assert any(note.startswith("truncated: ") and "d.mp4" in note and "frames read" in note for note in listener.notes)


def test_no_usable_video_names_the_reasons(tmp_path):
    (tmp_path / "a.mp4").write_text("hello")
    with pytest.raises(InputError, match=r"none of 1 video can be used: .*a\.mp4 is not a video"):
        ingest([tmp_path], Workspace(tmp_path / "w"), IngestSettings())


def test_no_person_found_has_advice(tmp_path):
    film = write_film(tmp_path / "a.mp4", pictures(10, ()))
    with pytest.raises(InputError, match=r"1 video \(boxes: 0.*--detector"):
        ingest([film], Workspace(tmp_path / "w"), IngestSettings())


def test_wrong_kind_of_network_is_one_line(films, tmp_path):
    (tmp_path / "a.onnx").write_text("no network")
    settings = IngestSettings(detector=YoloxSettings(weights=tmp_path / "a.onnx"), workers=1)
    listener = Listener()
    with pytest.raises(InputError, match="ONNX model"):
        ingest([films], Workspace(tmp_path / "w"), settings, progress=listener)
    assert not any("a.onnx" in note for note in listener.notes)  # the error is all: not once more for each video


def test_finished_videos_are_not_repeated(films, tmp_path, done):
    work = Workspace(tmp_path)
    seen = []

    class Stops(Listener):
        @contextmanager
        def task(self, title, total, unit):
            def tick(units):
                seen.append(units)
                if len(seen) == FRAMES + 5:
                    raise KeyboardInterrupt

            yield tick

    with pytest.raises(KeyboardInterrupt):
        ingest([films], work, IngestSettings(workers=1, truth_ids="global"), progress=Stops())
    listener = Listener()
    ingest([films], work, IngestSettings(workers=1, truth_ids="global"), progress=listener)
    assert listener.done == 2 * FRAMES
    assert digests(work.crops) == digests(done[0].crops)
    assert digests(work.parts) == digests(done[0].parts)


@pytest.mark.slow
def test_workers_change_nothing(films, tmp_path, done):
    ingest([films], Workspace(tmp_path), IngestSettings(workers=2, truth_ids="global"))
    assert digests(tmp_path / "crops") == digests(done[0].crops)
    assert digests(tmp_path / "parts") == digests(done[0].parts)


@pytest.mark.slow
def test_kill_at_any_moment_gives_the_same_result(films, tmp_path, done):
    script = tmp_path / "go.py"
    script.write_text(
        "from pathlib import Path\n"
        "from reappear.pipeline.ingest import IngestSettings, ingest\n"
        "from reappear.pipeline.workspace import Workspace\n"
        "if __name__ == '__main__':\n"
        "    settings = IngestSettings(workers=1, truth_ids='global')\n"
        f"    ingest([Path({str(films)!r})], Workspace(Path({str(tmp_path)!r})), settings)\n"
    )
    random = np.random.default_rng(5)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, str(script)])
        time.sleep(random.uniform(0.8, 3.0))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([sys.executable, str(script)], check=True)
    assert digests(tmp_path / "crops") == digests(done[0].crops)
    assert digests(tmp_path / "parts") == digests(done[0].parts)


@pytest.mark.real
def test_motchallenge_sequences_with_precomputed_boxes(real_data, tmp_path):
    settings = IngestSettings(detector=MotSettings(boxes="gt/gt.txt", ids="video"), workers=1)
    record = ingest([real_data / "mot17_mini"], Workspace(tmp_path), settings)
    crops = Workspace(tmp_path).open_crops()
    assert record.counts["videos"] == 5
    assert len(crops) > 50
    assert crops.crops["truth"].min() >= 1  # the boxes are the truth, so each matches itself


def test_all_settings_are_recorded_and_the_number_of_workers_does_not_count(done):
    record = json.loads((done[0].crops / "record.json").read_text())
    assert {*record["settings"]} == {field.name for field in dataclasses.fields(IngestSettings)}
    assert record["operational"] == ["workers"]
