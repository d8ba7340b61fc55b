"""Killing and stopping `reappear run`, the group of its processes, or one of its workers, whenever one likes."""

import contextlib
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
        "--set", "pretrain.threads=1", "--set", "pretrain.workers=1", "--rounds", "2",
    ]  # fmt: skip
    with (out.parent / f"{out.name}.log").open("ab") as log:
        return subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)


def finished(out: Path) -> dict[Path, int]:
    """Every finished folder's record and when it was written."""
    return {path: path.stat().st_mtime_ns for path in out.glob("**/record.json") if ".partial" not in str(path)}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_kills_change_no_result_and_repeat_no_finished_work(tiny_world, tmp_path):
    films = tiny_world / "films"
    begun = time.monotonic()
    assert start(films, tmp_path / "calm").wait() == 0, (tmp_path / "calm.log").read_text()
    length = time.monotonic() - begun
    begun = time.monotonic()
    assert start(films, tmp_path / "calm").wait() == 0
    waking = time.monotonic() - begun  # there was nothing to do but to import and to draw the report

    draw = random.Random(0)
    landed, number = 0, 0
    while landed < KILLS:
        out = tmp_path / f"killed{number}"
        landed += kill_until_done(films, out, draw, waking, length)
        same_people(tmp_path / "calm", out)
        number += 1


def kill_until_done(films: Path, out: Path, draw: random.Random, waking: float, length: float) -> int:
    """Starts again after each kill, until the run ends by itself; returns how many kills it took."""
    done: dict[Path, int] = {}
    kills = 0
    while True:
        child = start(films, out)
        patience = draw.uniform(0.3 * waking, waking + 0.3 * (length - waking))
        expected = {0}
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=patience)
        if child.poll() is None:
            expected |= disturb(child.pid, draw)
        code = child.wait(timeout=600)
        log = out.with_suffix(".log").read_text()
        assert code in expected, log
        assert "Traceback" not in log
        ended = code == 0
        kills += not ended
        if code == -signal.SIGKILL:
            time.sleep(1)  # its workers notice that their parent is gone
        now = finished(out)
        assert {path: now.get(path) for path in done} == done, "a finished step was done again"
        if ended:
            return kills
        done = now


def disturb(parent: int, draw: random.Random) -> set[int]:
    """Sends a signal to the process, to its group, or to a worker; returns exit codes that may follow, beside 0."""
    number = draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    whom = draw.choice(["parent", "group", "worker"])
    if whom == "worker":
        for worker in draw.sample(found := workers_of(parent), min(1, len(found))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, number)
        return {1} if number == signal.SIGKILL else set()
    (os.kill if whom == "parent" else os.killpg)(parent, number)
    return {-signal.SIGKILL} if number == signal.SIGKILL else {130}


def workers_of(parent: int) -> list[int]:
    """Its children, but for the one that only cleans up after the others."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [
            int(child) for child in children if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    except FileNotFoundError:
        return []


def same_people(calm: Path, killed: Path) -> None:
    for name in ("round0", "round1"):
        one = read_table(calm / "identities" / name / "identities.parquet")
        other = read_table(killed / "identities" / name / "identities.parquet")
        assert all((one[column] == other[column]).all() for column in one)
        model = Path("models") / name / "model.safetensors"
        assert (calm / model).read_bytes() == (killed / model).read_bytes()
