"""Detects the kind of input: videos, embeddings, or a data set of crops."""

from collections.abc import Sequence
from pathlib import Path

from reappear.core import InputError, Progress, SettingsError, unknown_name
from reappear.data import READERS, recognise
from reappear.video import ENDINGS, find_videos, is_image_sequence

VIDEOS, VECTORS = "videos", "vectors"


def detect_kind(sources: Sequence[Path], asked: str, progress: Progress) -> str:
    """The kind that was asked for, or the one that the files are of: videos, vectors, or a layout of `reappear.data`.

    Raises:
        SettingsError: There is no such kind.
        InputError: The files may be of several kinds, or of none.
    """
    known = ("auto", VIDEOS, VECTORS, *READERS)
    if asked not in known:
        raise SettingsError(f"layout: {unknown_name('kind', asked, known)}")
    if asked != "auto":
        return asked
    if any(path.suffix.lower() == ".npy" for path in sources):
        progress.note(f"ingest: {sources[0]} is read as {VECTORS}: embeddings with their labels")
        return VECTORS
    if len(sources) != 1 or not sources[0].exists() or is_image_sequence(sources[0]):
        return VIDEOS
    kinds = _kinds(sources[0])
    if len(kinds) > 1:
        raise InputError(f"{sources[0]} may be {' or '.join(kinds)}; say which: --layout {kinds[0]}")
    if not kinds:
        raise InputError(
            f"{sources[0]} holds no videos ({' '.join(ENDINGS)}, MOTChallenge folders) and no set of images that is "
            f"recognised; if it is one of `reappear data list`, name it with --layout"
        )
    if kinds[0] != VIDEOS:
        progress.note(f"ingest: {sources[0]} is read as {kinds[0]}: {READERS[kinds[0]].description}")
    return kinds[0]


def _kinds(path: Path) -> list[str]:
    layouts = recognise(path)
    if not path.is_dir():
        return layouts or [VIDEOS]
    if layouts and layouts != ["folder"]:
        # Of a set that its own files identify, only its top is searched for videos: it may hold ten million images.
        videos = any(child.suffix.lower() in ENDINGS for child in path.iterdir())
        return [*layouts, *([VIDEOS] if videos else [])]
    try:
        find_videos([path])
    except InputError:
        return layouts
    return [*layouts, VIDEOS]
