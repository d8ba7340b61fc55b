"""Commands in the documentation work, and its links exist."""

import ast
import contextlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from reappear.cli.app import COMMANDS, build
from reappear.cli.paper import parse
from reappear.core import InputError

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
    for document in DOCUMENTS:
        for name in re.findall(r"(?:^|`)reappear ([a-z][a-z-]*)", document.read_text(encoding="utf-8"), re.MULTILINE):
            assert name in COMMANDS, f"{document.name}: reappear {name}"


def test_every_option_in_documents_and_messages_exists():
    """As it is typed: of some command, with dashes, or of another program."""
    of_others = {"--nproc-per-node", "--standalone", "--force-reinstall", "--no-deps", "--head", "--arch"}
    parts = {"--method.intra-identity"}  # a group of options
    known = {"--help", "--version", *of_others, *parts}
    for name in COMMANDS:
        command: Any = typer.main.get_command(build(name)).commands[name]  # type: ignore[attr-defined]
        for one in (command, *getattr(command, "commands", {}).values()):
            known |= {option for parameter in one.params for option in parameter.opts}
    texts = [(path, path.read_text(encoding="utf-8")) for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))]
    for path in (ROOT / "src").rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        texts += [(path, of.value) for of in nodes if isinstance(of, ast.Constant) and isinstance(of.value, str)]
    unknown = {
        f"{path.relative_to(ROOT)}: {option}"
        for path, text in texts
        if "var(--" not in text  # CSS
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z0-9._-]*[a-z0-9]", text)) - known
    }
    assert not unknown


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_documents_are_accepted(document, monkeypatch):
    """Each command of the shell blocks, with its options and their values; nothing is run."""
    monkeypatch.chdir(ROOT)
    for language, block in BLOCK.findall(document.read_text(encoding="utf-8")):
        if language != "sh":
            continue
        for line in re.findall(r"^reappear .*", block.replace("\\\n", " "), re.MULTILINE):
            step, *arguments = itertools.takewhile(lambda word: word not in "|>", shlex.split(line, comments=True)[1:])
            if step in COMMANDS and COMMANDS[step].settings:
                with contextlib.suppress(InputError):  # a file that is not there
                    parse(step, arguments)


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
