import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from reappear.cli.app import main
from reappear.core import InputError, SettingsError
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.embed import EmbedSettings, embed
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.workspace import Workspace
from reappear.store import read_table
from tests.data.trees import TREES, cion_al, draw, fill
from tests.video.films import pictures, write_film

from .test_videos import Listener, digests


@pytest.fixture
def market(tmp_path):
    names = [
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "bounding_box_train/0002_c1s1_000452_01.png",
        "bounding_box_train/0002_c2s1_000301_01.jpg",
        "bounding_box_train/0007_c2s1_000302_01.jpg",
        "query/0009_c1s2_000000_00.jpg",
        "bounding_box_test/-1_c3s1_000000_00.jpg",
        "bounding_box_test/0000_c4s2_000000_00.jpg",
    ]
    for i, name in enumerate(names):
        draw(tmp_path / "set" / name, i)
    fill(tmp_path / "set", ["query/Thumbs.db", "bounding_box_train/0002_c1s1_000500_00.jpg"])
    return tmp_path / "set"


def test_images_of_one_camera_sequence_and_person_are_a_tracklet(market, tmp_path):
    listener, work = Listener(), Workspace(tmp_path / "w")
    record = ingest([market], work, IngestSettings(workers=1), progress=listener)
    crops = work.open_crops()
    path = read_table(work.crops / "sources.parquet")["path"].tolist()
    assert [name.split("/")[1][:8] for name in path] == ["0002_c1s", "0002_c1s", "0009_c1s", "0002_c2s", "0007_c2s"]
    assert crops.crops["tracklet"].tolist() == [0, 0, 1, 2, 3]
    assert crops.tracklets["video"].tolist() == [0, 0, 1, 1]
    assert np.isnan(crops.tracklets["start"]).all()
    assert [video.camera for video in crops.videos][:2] == ["camera 1", "camera 2"]
    names = read_table(work.crops / "labels.parquet")["name"]
    assert names[crops.crops["label"]].tolist() == ["2", "2", "9", "2", "7"]
    assert not crops.has_truth
    assert crops.has_images
    assert record.counts["crops"] == 5
    assert record.counts["tracklets"] == 4
    assert record.dropped == {
        "an empty file": 1,
        "not an image file": 1,
        "junk (identity -1)": 1,
        "distractors": 1,
    }
    assert any("is read as market1501" in note for note in listener.notes)


def test_given_labels_can_be_used_for_training(market, tmp_path):
    from reappear.pipeline.labels import labelled_crops

    work = Workspace(tmp_path / "w")
    ingest([market], work, IngestSettings(workers=1))
    table, dropped = labelled_crops(work, "given")
    assert len(table) == 5
    assert len(np.unique(table.identity)) == 3
    assert not dropped


def test_files_are_copied_as_they_are(market, tmp_path):
    work = Workspace(tmp_path / "w")
    ingest([market], work, IngestSettings())
    crops = work.open_crops()
    for crop, path in enumerate(read_table(work.crops / "sources.parquet")["path"].tolist()):
        assert crops.image(crop) == (market / path).read_bytes()
    assert crops.crops["right"].tolist() == [8] * 5
    assert crops.crops["bottom"].tolist() == [16] * 5


def test_labels_are_ground_truth_only_if_set(market, tmp_path):
    ingest([market], Workspace(tmp_path / "w"), IngestSettings(labels_are_truth=True))
    crops = Workspace(tmp_path / "w").open_crops()
    assert crops.has_truth
    assert crops.crops["truth"].tolist() == crops.crops["label"].tolist()


def test_skipped_images_are_listed_with_reasons(tmp_path):
    for name in ("ann/a.jpg", "ann/b.png", "bob/c.jpg"):
        draw(tmp_path / "set" / name, size=(32, 64))
    whole = (tmp_path / "set" / "bob" / "c.jpg").read_bytes()
    (tmp_path / "set" / "bob" / "c.jpg").write_bytes(whole[: len(whole) - 40])
    (tmp_path / "set" / "ann" / "d.jpg").write_text("no image")
    (tmp_path / "set" / "ann" / "notes.txt").write_text("by hand")
    work = Workspace(tmp_path / "w")
    record = ingest([tmp_path / "set"], work, IngestSettings())
    skipped = read_table(work.crops / "skipped.parquet")
    assert dict(zip(skipped["path"], skipped["reason"], strict=True)) == {
        "ann/notes.txt": "not an image file",
        "ann/d.jpg": "not an image",
        "bob/c.jpg": "damaged or cut off",
    }
    assert record.counts == {"videos": 1, "labels": 1, "tracklets": 1, "crops": 2}
    assert read_table(work.crops / "labels.parquet")["name"].tolist() == ["ann", "bob"]


@pytest.mark.parametrize("name", [name for name in TREES if name != "cuhk03_np"])
def test_every_layout_becomes_a_workspace(name, tmp_path):
    TREES[name](tmp_path / "set")
    images = [path for path in (tmp_path / "set").rglob("*") if path.suffix in (".jpg", ".png", ".jpeg")]
    for i, path in enumerate(images):
        draw(path, i)
    work = Workspace(tmp_path / "w")
    record = ingest([tmp_path / "set"], work, IngestSettings(workers=1))
    crops = work.open_crops()
    assert json.loads((work.crops / "record.json").read_text())["settings"]["layout"] == name
    assert len(crops) == record.counts["crops"] > 1
    assert crops.tracklet_set(np.ones((len(crops), 2), np.float32)).origin.tolist() == crops.crops["tracklet"].tolist()


def test_folder_layout_is_correlated(tmp_path):
    """Each person's images have a colour, but one image of bob lies in ann's folder."""
    colors = {"ann": (200, 0, 0), "bob": (0, 200, 0), "cy": (0, 0, 200)}
    for person, color in colors.items():
        for i in range(4):
            draw(tmp_path / "set" / person / f"{i}.png", size=(32, 64), color=color)
    draw(tmp_path / "set" / "ann" / "bob.png", size=(32, 64), color=colors["bob"])
    work = Workspace(tmp_path / "w")
    listener = Listener()
    ingest([tmp_path / "set"], work, IngestSettings(workers=1), progress=listener)
    embed(work, "round0", EmbedSettings())
    few = CorrelateSettings(thresholds="0.2,calibrated")  # too few crops to calibrate σ_cst
    correlate(work, "round0", few, embeddings="round0")
    table = read_table(work.identities("round0") / "identities.parquet")
    path = read_table(work.crops / "sources.parquet")["path"].tolist()
    of = dict(zip(path, table["identity"].tolist(), strict=True))
    assert of["ann/bob.png"] == of["bob/0.png"] != of["ann/0.png"]
    assert any("no times are given" in note for note in listener.notes)


def test_again_is_already_done_and_another_set_is_refused(market, tmp_path):
    work = Workspace(tmp_path / "w")
    ingest([market], work, IngestSettings(workers=1))
    assert ingest([market], work, IngestSettings(workers=2)).already_done
    draw(market / "query" / "0009_c1s2_000001_00.jpg")
    with pytest.raises(Exception, match="another input: images, labels"):
        ingest([market], work, IngestSettings())


def test_workers_and_interruptions_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("reappear.pipeline.ingest.images._BLOCK", 5)
    for i in range(23):
        draw(tmp_path / "set" / f"p{i // 4}" / f"{i}.jpg", i)
    (tmp_path / "set" / "p1" / "5.jpg").write_bytes(b"")
    whole = Workspace(tmp_path / "whole")
    ingest([tmp_path / "set"], whole, IngestSettings(workers=1))
    monkeypatch.setattr("reappear.pipeline.ingest.images._mark", stopping(12))
    work = Workspace(tmp_path / "w")
    with pytest.raises(KeyboardInterrupt):
        ingest([tmp_path / "set"], work, IngestSettings(workers=1))
    monkeypatch.undo()
    monkeypatch.setattr("reappear.pipeline.ingest.images._BLOCK", 5)
    listener = Listener()
    ingest([tmp_path / "set"], work, IngestSettings(workers=2), progress=listener)
    assert any("already copied" in note for note in listener.notes)
    assert digests(work.crops) == digests(whole.crops)


def stopping(calls):
    """The mark of a block, that is not given after some calls: as if the process was stopped there."""
    from reappear.pipeline.ingest.images import _mark

    left = iter(range(calls))

    def mark(parts, number):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return _mark(parts, number)

    return mark


@pytest.mark.slow
def test_kill_at_any_moment_gives_the_same_result(tmp_path):
    random = np.random.default_rng(0)
    from PIL import Image

    for i in range(60):
        path = tmp_path / "set" / f"p{i // 4}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (900, 700, 3), np.uint8)).save(path)
    script = tmp_path / "go.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from reappear.pipeline.ingest import IngestSettings, images, ingest\n"
        "from reappear.pipeline.workspace import Workspace\n"
        "images._BLOCK = 4\n"
        "if __name__ == '__main__':\n"
        f"    ingest([Path({str(tmp_path / 'set')!r})], Workspace(Path(sys.argv[1])), IngestSettings(workers=1))\n"
    )
    for _ in range(4):
        process = subprocess.Popen([sys.executable, str(script), str(tmp_path / "w")])
        time.sleep(random.uniform(0.8, 2.5))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    for name in ("w", "whole"):
        subprocess.run([sys.executable, str(script), str(tmp_path / name)], check=True)
    assert digests(tmp_path / "w" / "crops") == digests(tmp_path / "whole" / "crops")


def test_kinds_of_input_are_detected(tmp_path):
    settings, work = IngestSettings(), Workspace(tmp_path / "w")
    cion_al(tmp_path / "both")
    film = write_film(tmp_path / "both" / "a.mp4", pictures(5))
    with pytest.raises(InputError, match=r"both .*cion_al, videos.*--layout cion_al"):
        ingest([tmp_path / "both"], work, settings)
    fill(tmp_path / "empty", ["a.txt"])
    with pytest.raises(InputError, match=r"no videos .*--layout"):
        ingest([tmp_path / "empty"], work, settings)
    with pytest.raises(SettingsError, match="unknown kind 'market'; did you mean market1501"):
        ingest([tmp_path / "both"], work, IngestSettings(layout="market"))
    with pytest.raises(SettingsError, match="a set of images is one folder or file, got 2"):
        ingest([film, film], work, IngestSettings(layout="folder"))
    for path in (tmp_path / "both").rglob("*.jpg"):
        path.write_text("no image")
    with pytest.raises(InputError, match=r"none of 3 images can be read \(not an image\)"):
        ingest([tmp_path / "both"], work, IngestSettings(layout="cion_al"))


def test_set_without_usable_images_is_refused(tmp_path):
    draw(tmp_path / "set" / "bounding_box_train" / "-1_c1s1_0_0.jpg")
    with pytest.raises(InputError, match="all 1 are junk"):
        ingest([tmp_path / "set"], Workspace(tmp_path / "w"), IngestSettings())


@pytest.mark.slow
def test_run_accepts_folder_layout(tmp_path, capsys):
    for person in range(4):
        for i in range(3):
            draw(tmp_path / "set" / f"p{person}" / f"{i}.jpg", person, size=(32, 64))
    short = ["--rounds", "1", "--set", "pretrain.steps=1", "--set", "pretrain.images_per_step=24"]
    short += ["--pretrain.method", "cion"]  # which learns from one identity too: these few are too alike
    with pytest.raises(SystemExit) as stopped:
        main(["run", str(tmp_path / "set"), "--out", str(tmp_path / "w"), "--quiet", *short])
    assert not stopped.value.code, capsys.readouterr().err
    page = (tmp_path / "w" / "report.html").read_text()
    assert "12 crops" in page
    assert "frame -1" not in page
    assert "0.0 s from" not in page


@pytest.mark.real
def test_real_set(real_data, tmp_path):
    work = Workspace(tmp_path)
    record = ingest([real_data / "cuhk03_np"], work, IngestSettings())
    assert record.counts["crops"] == 7365
    assert record.counts["videos"] == 2
    assert record.counts["labels"] == 767
