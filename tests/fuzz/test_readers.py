"""Readers of files from outside end in a result or in one line, in bounded time and memory, whatever is in the file."""

import subprocess
import sys

import pytest

from tests.fuzz.readers import READERS, SECONDS


def run(count: int, *names: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz.readers", str(count), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS * 30)
    assert done.returncode == 0, f"exit {done.returncode} after:\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}"


def test_some_corruptions_of_every_file_kind() -> None:
    run(20, *READERS)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_five_hundred_corruptions(name: str) -> None:
    run(500, name)
