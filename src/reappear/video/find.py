"""Which videos a person means by a list of paths."""

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
    """Files as they are; folders searched through; patterns with `*`, `?` or `[` expanded. Each video once.

    A MOTChallenge sequence folder (`seqinfo.ini`, `img1/`) is one video. Links are followed; a file or folder that is
    reached again, by whatever name, is not taken again.

    Args:
        paths: Files, folders, patterns.
        note: Called with one line for each video that was reached again by a link, and each folder that cannot be read.

    Raises:
        InputError: A path is not there, or nothing in it is a video.
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
            raise InputError(f"{path} holds no videos; read are {' '.join(ENDINGS)} and MOTChallenge folders")
    if not found:
        raise InputError("no videos were named; name files, folders or patterns")
    return list(found.values())


def _within(path: Path, note: Callable[[str], None]) -> Iterator[Path]:
    if path.is_dir():
        yield from _below(path, note, set())
    elif os.path.lexists(path):
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
    """Videos below a folder; folders that were `seen` before are passed over."""
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
        if entry.is_dir():
            yield from _below(entry, note, seen)
        elif entry.suffix.lower() in ENDINGS and not entry.name.startswith("."):
            yield entry


def _identity(path: Path) -> _Identity | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
