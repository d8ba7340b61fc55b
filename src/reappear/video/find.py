"""Which videos a person means by a list of paths."""

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from reappear.core import InputError

from .decode import is_image_sequence

ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".3gp"),
    *(".264", ".h264", ".265", ".h265", ".hevc"),
)


def find_videos(paths: Iterable[Path]) -> list[Path]:
    """Files as they are; folders searched through; patterns with `*`, `?` or `[` expanded. Each video once.

    A MOTChallenge sequence folder (`seqinfo.ini`, `img1/`) is one video.

    Raises:
        InputError: A path is not there, or nothing in it is a video.
    """
    found: dict[Path, None] = {}
    for path in paths:
        mine = list(_within(path))
        if not mine:
            raise InputError(f"{path} holds no videos; read are {' '.join(ENDINGS)} and MOTChallenge folders")
        found |= dict.fromkeys(mine)
    if not found:
        raise InputError("no videos were named; name files, folders or patterns")
    return list(found)


def _within(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from _below(path)
    elif path.exists():
        yield path
    elif any(sign in str(path) for sign in "*?["):
        for match in sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207  (Path.glob refuses absolute patterns)
            found = Path(match)
            if found.is_dir() or found.suffix.lower() in ENDINGS:
                yield from _within(found)
    else:
        raise InputError(f"{path} does not exist; check the path")


def _below(folder: Path) -> Iterator[Path]:
    if is_image_sequence(folder):
        yield folder
        return
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            yield from _below(entry)
        elif entry.suffix.lower() in ENDINGS and not entry.name.startswith("."):
            yield entry
