"""paper: the tables and figures of a paper, each a recipe of commands whose results fill it."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path

from reappear.core import SILENT, Progress, ReappearError
from reappear.store import disk_errors

from .figures import draw
from .recipe import STEPS, Arm, PaperSettings, Request, ScaleName, Words, plan, read_recipe, split_command
from .results import collect, require_own_files, write_results

__all__ = [
    "STEPS",
    "Arm",
    "PaperSettings",
    "Request",
    "ScaleName",
    "Words",
    "commands_of",
    "paper",
    "plan",
    "read_recipe",
    "split_command",
]

Prepare = Callable[[Words], Callable[[], None]]


def commands_of(arms: list[Arm]) -> list[Words]:
    """The commands of arms in their order, each once."""
    return list(dict.fromkeys(words for arm in arms for words in arm.commands))


def paper(request: Request, prepare: Prepare, *, progress: Progress = SILENT) -> tuple[Path, int]:
    """Runs the commands of a recipe and writes its table or figure.

    Each command is a step that is run once: the same call goes on where it was stopped. A command that fails ends the
    rows that need it, which are listed; the other rows go on.

    Args:
        request: The recipe, and what is asked of it.
        prepare: Parses a command and returns what runs it; raises SettingsError for one that is wrong. All commands
            are parsed before the first is run.
        progress: Progress listener.

    Returns:
        OUT/SCALE/NAME.md, beside it NAME.json, NAME.csv, and NAME.svg of a figure; and how many rows are not filled.

    Raises:
        SettingsError: The recipe, or a command, is wrong; or data is not named or not there.
        WorkspaceError: One of the files is there and is not ours.
        StorageError: Writing failed.
    """
    recipe = read_recipe(request.recipe)
    arms = plan(recipe, request)
    folder, name = request.out / request.scale, request.recipe.stem
    require_own_files(folder, name)
    ready = {words: prepare(words) for words in commands_of(arms)}
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    outcome: dict[Words, str] = {}
    failures: dict[tuple[str, int], str] = {}
    for arm in arms:
        for words in arm.commands:
            if words not in outcome:
                progress.note(f"paper: {shlex.join(words)}")
                outcome[words] = _attempt(ready[words])
            if outcome[words]:
                failures[arm.row, arm.seed] = outcome[words]
                progress.note(f"paper: {arm.row}, seed {arm.seed} is not filled: {outcome[words]}")
                break
    results = collect(recipe, arms, failures)
    seeds = list(range(request.seed, request.seed + request.seeds))
    facts = {
        "scale": request.scale,
        "seeds": seeds,
        "commands": [shlex.join(words) for words in ready],
    }
    with disk_errors(folder):
        write_results(folder, name, recipe, results, facts, draw(recipe, results, arms, request.scale))
    return folder / f"{name}.md", len(results.broken)


def _attempt(run: Callable[[], None]) -> str:
    """Runs a command; why it failed, or "" if it did not."""
    try:
        run()
    except ReappearError as error:
        return str(error)
    except Exception as error:
        if os.environ.get("REAPPEAR_DEBUG"):
            raise
        return f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return ""
