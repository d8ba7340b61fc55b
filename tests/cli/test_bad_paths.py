"""Paths that cannot be used end in one line and exit code 1 or 2, whichever command they are given to."""

import subprocess
import sys

import pytest

from reappear.cli.app import COMMANDS
from tests.cli.bad_paths import LINES


def run(*lines: str) -> None:
    command = [sys.executable, "-m", "tests.cli.bad_paths", *lines]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_bad_paths_of_some_commands() -> None:
    run(
        "embed PATH",
        "export-data WORK --out PATH --identities given",
        "review PATH same 0 1",
        "data check market1501 PATH",
    )


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_bad_paths_of_every_command(line: str) -> None:
    run(line)


def test_every_command_is_in_the_table() -> None:
    assert {line.split()[0] for line in LINES} >= COMMANDS.keys() - {"doctor"}
