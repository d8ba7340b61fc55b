"""Benchmarks can be run: all of them load, and the one of GPUs works at small sizes on a CPU."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "device.py"


def test_all_load() -> None:
    scripts = sorted(path.stem for path in SCRIPT.parent.glob("*.py"))
    code = f"import importlib\nfor name in {scripts}: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=SCRIPT.parent, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_results_contain_no_folders_of_a_machine() -> None:
    def texts(value: object) -> list[str]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        return [value] if isinstance(value, str) else [text for one in inner for text in texts(one)]

    for path in sorted((SCRIPT.parent / "results").glob("*.json")):
        words = [word for text in texts(json.loads(path.read_text(encoding="utf-8"))) for word in text.split()]
        assert not [word for word in words if Path(word).is_absolute() and word != "/"], path.name


@pytest.mark.slow
def test_every_part_runs_at_small_sizes() -> None:
    command = [sys.executable, str(SCRIPT), "--small", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for row in (
        "colours",
        "times layer",
        "memory over logits",
        "logit form",
        "ranking",
        "peak memory",
        "all pairs",
        "neighbours",
        "identities",
    ):
        assert any(row in line and ("<=" in line or ">" in line) for line in done.stdout.splitlines()), row
    assert '"same_components_as_the_processor": true' in done.stdout
    assert '"same_as_the_processor": true' in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "objectives --quick --sets world10 --arms supcon --set validation_every=8",
        "clean_labels --quick --labels 'true + 10'",
        "rounds --quick",
        "intra_identity --quick --arms upreid 'cion + both'",
        "intra_identity --quick --search --sets world10 --arms 'local 0.1, crop'",
        "video_reid --quick",
        "video_splits --quick",
    ],
)
def test_comparisons_of_trainings_run_at_small_sizes(words: str, tmp_path: Path) -> None:
    name, *options = shlex.split(words)
    command = [sys.executable, str(SCRIPT.with_name(f"{name}.py")), str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert '"map"' in done.stdout


@pytest.mark.slow
def test_benchmark_of_searches_runs_at_a_small_size(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT.with_name("search.py")), str(tmp_path), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "recall_at_5" in done.stdout
    assert "processor_seconds" in done.stdout


@pytest.mark.slow
def test_cost_of_the_terms_is_measured_beside_the_methods_without_them(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT.with_name("intra_identity.py")), str(tmp_path), "--cost", "--quick"]
    command += ["--arms", "upreid", "--images", "4", "--steps", "1", "--rounds", "1", "--height", "64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cost"]["upreid"]["time_over_base"] > 0
