"""Killing `reappear run` whenever one likes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reappear.store import read_table

KILLS = 10


def start(films: Path, out: Path) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable, "-m", "reappear", "run", str(films), "--out", str(out), "--camera", "prefix", "--workers", "2",
        "--set", "pretrain.steps=24", "--set", "pretrain.checkpoint_every=3",
        "--set", "pretrain.threads=1", "--rounds", "2",
    ]  # fmt: skip
    log = (out.parent / f"{out.name}.log").open("ab")
    return subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)


def finished(out: Path) -> dict[Path, int]:
    """Every finished folder's record and when it was written."""
    return {path: path.stat().st_mtime_ns for path in out.glob("**/record.json") if ".partial" not in str(path)}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_kills_change_nothing_and_nothing_finished_is_done_again(tiny_world, tmp_path):
    films = tiny_world / "films"
    begun = time.monotonic()
    assert start(films, tmp_path / "calm").wait() == 0, (tmp_path / "calm.log").read_text()
    length = time.monotonic() - begun

    draw = random.Random(0)
    out = tmp_path / "killed"
    done: dict[Path, int] = {}
    landed = 0
    for _ in range(KILLS):
        child = start(films, out)
        try:
            child.wait(timeout=draw.uniform(0.15, 0.5) * length)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            landed += 1
        now = finished(out)
        assert {path: now.get(path) for path in done} == done, "a finished step was done again"
        done = now
    time.sleep(1)  # workers of the killed run notice that their parent is gone
    assert start(films, out).wait() == 0, (tmp_path / "killed.log").read_text()
    assert landed >= 3

    for name in ("round0", "round1"):
        calm = read_table(tmp_path / "calm" / "identities" / name / "identities.parquet")
        killed = read_table(out / "identities" / name / "identities.parquet")
        assert all((calm[column] == killed[column]).all() for column in calm)
        model = Path("models") / name / "model.safetensors"
        assert (tmp_path / "calm" / model).read_bytes() == (out / model).read_bytes()
