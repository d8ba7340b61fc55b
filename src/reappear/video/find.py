"""Finds the videos in files, folders and patterns."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from reappear.core import InputError

from .sequence import is_image_sequence

ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".3gp"),
    *(".264", ".h264", ".265", ".h265", ".hevc"),
)

_Identity = tuple[int, int]  # device and inode


def find_videos(paths: Iterable[Path], *, note: Callable[[str], None] = lambda text: None) -> list[Path]:
    """Lists each video once: files, folders (searched recursively), and patterns with `*`, `?` or `[`.

    A MOTChallenge sequence folder (`seqinfo.ini`, `img1/`) is one video. Links are followed; a file or folder
    reached a second time is skipped.

    Args:
        paths: Files, folders, patterns.
        note: Called with one line for each video that was reached again by a link, and each folder that cannot be read.

    Raises:
        InputError: A path does not exist or has no video in it.
    """
    found: dict[_Identity | Path, Path] = {}
    for path in paths:
        count = 0
        for video in _within(path, note):
            count += 1
            first = found.setdefault(_identity(video) or video, video)
            if Path(os.path.normpath(first)) != Path(os.path.normpath(video)):
                note(f"{video} and {first} are the same file; it is read once")
        if not count:
            raise InputError(f"{path} has no videos; supported are {' '.join(ENDINGS)} and MOTChallenge folders")
    if not found:
        raise InputError("no videos given; give files, folders or patterns")
    return list(found.values())


def _within(path: Path, note: Callable[[str], None]) -> Iterator[Path]:
    if os.path.isdir(path):  # noqa: PTH112 (where it cannot be looked up, `Path.is_dir` raises)
        yield from _below(path, note, set())
    elif _is_there(path):
        yield path  # also a link to nowhere: opening it raises the error
    elif any(sign in str(path) for sign in "*?["):
        # Relative to its root: Path.glob takes no absolute patterns, and unlike glob.glob does not follow looped links.
        root = Path(path.anchor)
        seen: set[_Identity | None] = set()
        for match in sorted(root.glob(str(path.relative_to(root)))):
            if match.is_dir():
                yield from _below(match, note, seen)
            elif match.suffix.lower() in ENDINGS and not match.name.startswith("."):
                yield match
    else:
        raise InputError(f"{path} does not exist; check the path")


def _below(folder: Path, note: Callable[[str], None], seen: set[_Identity | None]) -> Iterator[Path]:
    """Videos below a folder; folders in `seen` are skipped."""
    if (identity := _identity(folder)) in seen:
        return
    seen.add(identity)
    try:
        if is_image_sequence(folder):
            yield folder
            return
        entries = sorted(folder.iterdir())
    except OSError as error:
        note(f"left out: {folder} cannot be searched: {error.strerror}")
        return
    for entry in entries:
        if os.path.isdir(entry):  # noqa: PTH112 (as above)
            yield from _below(entry, note, seen)
        elif entry.suffix.lower() in ENDINGS and not entry.name.startswith("."):
            yield entry


def _is_there(path: Path) -> bool:
    """Whether there is something, also where it cannot be looked up."""
    try:
        path.lstat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _identity(path: Path) -> _Identity | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
