"""Ctrl-C and SIGTERM: one line, exit code 130, whatever the command and whoever of its processes hears of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipeline.pretrain_fixture import make_workspace

LINE = "reappear: stopped; the same command continues"
SMALL = ("--workers", "2", "--people", "30", "--test-people", "2", "--films", "1")


def start(*arguments: str | Path, **more: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "reappear", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **more
    )


def wait_for(condition, process: "subprocess.Popen[str]", seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def assert_stopped(process: "subprocess.Popen[str]") -> None:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == LINE
    assert err.count("stopped") == 1
    assert "Traceback" not in err
    assert out == ""


def films_begun(folder: Path) -> list[int]:
    """The processes that are filming."""
    return [int(path.name.split(".")[-2]) for path in folder.glob("world.partial/films/.*.mp4.*.tmp")]


@pytest.mark.parametrize(("number", "whom"), [(signal.SIGINT, "group"), (signal.SIGTERM, "parent")])
def test_signal_while_workers_render(tmp_path: Path, number: signal.Signals, whom: str) -> None:
    process = start("synthesize", "--out", tmp_path / "world", *SMALL)
    wait_for(lambda: len(films_begun(tmp_path)) == 2, process)
    workers = films_begun(tmp_path)
    (os.kill if whom == "parent" else os.killpg)(process.pid, number)
    assert_stopped(process)
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM])
def test_training_is_saved_when_its_process_group_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    """As `timeout`, Slurm and Kubernetes do."""
    make_workspace(tmp_path)
    tiny = ["--backbone", "cnn6", "--set", "arguments={width: 4}", "--images-per-step", "12", "--workers", "1"]
    tiny += ["--set", "method.curriculum=[[0, 2]]", "--method.head-width", "16", "--device", "cpu"]
    process = start("pretrain", tmp_path, "--labels", "found", "--name", "m", "--steps", "100000", *tiny)
    curve = tmp_path / "models" / "m.partial" / "metrics.jsonl"
    wait_for(lambda: curve.exists() and curve.stat().st_size > 0, process)
    os.killpg(process.pid, number)
    assert_stopped(process)
    assert len(list((tmp_path / "models" / "m.partial" / "checkpoints").glob("step-*.pt"))) == 1


def test_killed_worker_is_reported_in_one_line(tmp_path: Path) -> None:
    process = start("synthesize", "--out", tmp_path / "world", *SMALL)
    wait_for(lambda: len(films_begun(tmp_path)) == 2, process)
    worker = films_begun(tmp_path)[0]
    os.kill(worker, signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith(f"reappear: worker process {worker} (SIGKILL) was killed")


_INSIDE = """
import os, signal, sys
import reappear.cli.app as app
def interrupt(*given, **named):
    os.kill(os.getpid(), int(os.environ["SIGNAL"]))
    sys.stdout.write("went on")
    sys.exit()
app._workspace = interrupt
sys.argv[0] = "reappear"
from reappear.cli import main
main()
"""


@pytest.mark.parametrize(
    "command", [["explain", "w"], ["export-data", "w", "--out", "x"]], ids=["without settings", "with settings"]
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_every_command_with_one_line(command: list[str], number: signal.Signals) -> None:
    script = [sys.executable, "-c", _INSIDE, *command]
    assert_stopped(
        subprocess.Popen(
            script,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "SIGNAL": str(int(number))},
        )
    )


def test_ignored_signal_stays_ignored() -> None:
    """As in a shell's background job, or under nohup."""
    script = 'trap \'\' INT; exec "$0" "$@"'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, "-c", _INSIDE, "explain", "w"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SIGNAL": str(int(signal.SIGINT))},
    )
    assert (done.returncode, done.stdout) == (0, "went on")
