"""Commands in the documentation work, and its links exist."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_in_documents_exist(document):
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_files_exist(document):
    text = document.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:src|tests|docs|recipes|benchmarks)/[\w/.-]+)`", text):
        assert (ROOT / path).exists(), path


def test_every_command_in_the_documents_exists():
    from reappear.cli.app import COMMANDS

    for document in DOCUMENTS:
        for name in re.findall(r"(?:^|`)reappear ([a-z][a-z-]*)", document.read_text(encoding="utf-8"), re.MULTILINE):
            assert name in COMMANDS, f"{document.name}: reappear {name}"


def test_tutorial_runs_as_written(tmp_path):
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert sum(language == "sh" for language, _ in blocks) >= 5
    for language, block in blocks:
        runner = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}.get(language)
        if runner is None:
            continue
        command = [*runner, block]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "work" / "report.html").stat().st_size > 10_000


def test_how_to_evaluate_runs_as_written(tmp_path):
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    text = (ROOT / "docs" / "how-to-evaluate.md").read_text(encoding="utf-8")
    blocks = [block for language, block in BLOCK.findall(text) if language == "python"]
    assert len(blocks) == 2
    program = "\n".join(blocks)
    evaluate = "reappear evaluate query.npz gallery.npz --out work --json"
    for command in (["python", "-c", program], evaluate.split()):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert json.loads(done.stdout)["evaluations"][0]["mean_ap"] == 1.0
