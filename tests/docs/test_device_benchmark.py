"""The script that measures a GPU is ready: at small sizes it runs on a CPU, and its table has every bar."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "device.py"


@pytest.mark.slow
def test_every_part_runs_at_small_sizes() -> None:
    command = [sys.executable, str(SCRIPT), "--small", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for row in ("colours", "times layer", "memory over logits", "logit form", "ranking", "peak memory", "all pairs"):
        assert any(row in line and ("<=" in line or ">" in line) for line in done.stdout.splitlines()), row
    assert '"same_components_as_the_processor": true' in done.stdout
