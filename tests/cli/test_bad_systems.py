"""A system that refuses what commands need ends them in one line, and costs nothing that was done."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reappear.cli.app import COMMANDS, main
from tests.cli.bad_systems import LINES
from tests.data.trees import draw


def run(*lines: str) -> None:
    command = [sys.executable, "-m", "tests.cli.bad_systems", *lines]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_systems_of_some_commands() -> None:
    run(*(line for line in LINES if line.split()[0] in ("embed", "export-data", "review")))


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_systems_of_every_command_that_writes(line: str) -> None:
    run(line)


def test_removed_current_folder_is_one_line(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for command in COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            main([command])
        assert stopped.value.code == 1
        message = capsys.readouterr().err
        assert message.startswith("reappear: the current folder cannot be entered")
        assert message.count("\n") == 1
    monkeypatch.chdir(tmp_path)


SMALL = "synthesize --people 2 --test-people 0 --films 1 --cameras 1 --appearances 1 --width 96 --height 96 --out"


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stop_no_command(tmp_path, closed):
    """As under a daemon. A file of the command that got their number would also get what libraries print."""
    for out in ("a", "b"):
        script = f'"$0" -m reappear {SMALL} {tmp_path / out} {closed if out == "b" else ""}'
        done = subprocess.run(["sh", "-c", script, sys.executable], capture_output=True, text=True, check=False)
        assert done.returncode == 0
    films = [(tmp_path / out / "films" / "c0_00.mp4").read_bytes() for out in ("a", "b")]
    assert films[0] == films[1]


def test_names_that_the_terminal_cannot_show_are_escaped(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "reappear", "data", "check", "folder", str(tmp_path / "\N{SNOWMAN}")]
    for person in range(2):
        draw(tmp_path / "\N{SNOWMAN}" / str(person) / "\N{SNOWMAN}.png", person, size=(16, 32))
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0
    assert "\\u2603" in done.stdout
    assert "bug in reappear" not in done.stderr


@pytest.mark.parametrize(
    "line", ["embed PATH", "ingest nowhere --out PATH", "synthesize --out PATH", "review PATH same 0 1"]
)
def test_path_that_is_not_text_is_one_line(tmp_path, capsys, line):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n")
    with pytest.raises(SystemExit) as stopped:
        main([word.replace("PATH", path) for word in line.split()])
    assert stopped.value.code == 1
    message = capsys.readouterr().err
    assert "not text; rename it" in message
    assert message.count("\n") == 1
    assert Path(path).exists() is False
