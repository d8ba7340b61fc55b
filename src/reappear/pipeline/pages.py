"""Writes a page and its numbers, NAME.html and NAME.json, together, and never replaces files of others."""

import json
from pathlib import Path
from typing import Any

from reappear.core import WorkspaceError
from reappear.store import write_texts

_MARKS = {".html": '<meta name="generator" content="reappear">', ".json": '"generator": "reappear"'}
_HEAD = 4096  # the mark is within the first characters


def require_own_page(folder: Path, name: str) -> None:
    """Raises WorkspaceError if a file exists that reappear did not write.

    Raises:
        WorkspaceError: `folder/NAME.html` or `.json` is such a file, or `folder` is no folder.
    """
    for ending, mark in _MARKS.items():
        path = folder / f"{name}{ending}"
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                ours = mark in file.read(_HEAD)
        except (FileNotFoundError, NotADirectoryError):
            ours = not path.is_symlink()
        except OSError:
            ours = False
        if not ours:
            raise WorkspaceError(f"{path} exists and was not written by reappear; move it, or choose another folder")


def write_page(folder: Path, name: str, numbers: dict[str, Any], page: str) -> None:
    """Writes both files atomically."""
    plain = json.dumps({"generator": "reappear", **numbers}, indent=2, allow_nan=False) + "\n"
    write_texts({folder / f"{name}.json": plain, folder / f"{name}.html": page})
