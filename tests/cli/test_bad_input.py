"""What users give by mistake: one clear line each, the rest of the batch done, the exit code as documented."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest


def reappear(*arguments: str | Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "reappear", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def film(path: Path, frames: int, size: tuple[int, int] = (320, 240)) -> Path:
    """A grey video without people."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            grey = np.full((size[1], size[0], 3), 128, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    return path


@pytest.fixture(scope="module")
def good(tiny_world) -> Path:
    return sorted((tiny_world / "films").glob("*.mp4"))[0]


def test_bad_file_among_good_ones_is_skipped_and_counted(good, tmp_path):
    batch = tmp_path / "batch"
    batch.mkdir()
    shutil.copy(good, batch / "a_good.mp4")
    (batch / "b_text.mp4").write_text("this is no video")
    (batch / "c_empty.mp4").write_bytes(b"")
    film(batch / "d_nobody.mp4", 20)
    film(batch / "e_one_frame.mp4", 1)
    whole = good.read_bytes()
    (batch / "f_truncated.mp4").write_bytes(whole[: len(whole) // 2])
    code, out, err = reappear("ingest", batch, "--out", tmp_path / "w", "--json")
    assert code == 0, err
    record = json.loads(out)
    assert record["counts"]["crops"] > 0
    for name in ("b_text.mp4", "c_empty.mp4", "f_truncated.mp4"):
        assert sum(name in line for line in err.splitlines()) == 1, err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nowhere", "does not exist"),
        (lambda folder: folder, "no video"),
        (lambda folder: (folder / "x.mp4").write_text("no video") and folder / "x.mp4", "x.mp4"),
        (lambda folder: film(folder / "x.mp4", 20), "no person was found"),
        (lambda folder: film(folder / "x.mp4", 1), "no person was found"),
    ],
    ids=["missing", "empty folder", "text", "no people", "one frame"],
)
def test_unusable_inputs_exit_with_1_and_one_line(tmp_path, make, message):
    (tmp_path / "in").mkdir()
    code, _, err = reappear("run", make(tmp_path / "in"), "--out", tmp_path / "w")
    assert code == 1
    last = err.strip().splitlines()[-1]
    assert last.startswith("reappear: ")
    assert message in last.lower() or message in last
    assert not (tmp_path / "w" / "crops").exists()


def test_detector_file_of_wrong_kind_is_refused(good, tmp_path):
    (tmp_path / "fake.onnx").write_bytes(b"not a network")
    yolox = ["--detector", "yolox", "--detector.weights", tmp_path / "fake.onnx"]
    code, _, err = reappear("ingest", good, "--out", tmp_path / "w", *yolox)
    assert code == 1
    assert "fake.onnx" in err.strip().splitlines()[-1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_result_that_cannot_be_printed_is_one_line(form):
    command = [sys.executable, "-m", "reappear", "data", "list", *form]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr.splitlines()[0]
    assert "bug" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_full_disk_is_one_line_and_the_step_can_be_resumed(good, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    small = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(small, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount a tmpfs")
    try:
        code, _, err = reappear("ingest", good, "--out", disk / "w")
        assert code == 1
        assert "the disk is full; free some space" in err.strip().splitlines()[-1]
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True, capture_output=True)
        code, _, err = reappear("ingest", good, "--out", disk / "w")
        assert code == 0, err
    finally:
        subprocess.run(["umount", str(disk)], check=False)
