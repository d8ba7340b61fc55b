"""Detects the kind of input: videos, embeddings, or a data set of crops."""

from collections.abc import Sequence
from pathlib import Path

from reappear.core import InputError, Progress, SettingsError, unknown_name
from reappear.data import READERS, recognise
from reappear.video import ENDINGS, find_videos, is_image_sequence

VIDEOS, VECTORS = "videos", "vectors"


def detect_kind(sources: Sequence[Path], requested: str, progress: Progress) -> str:
    """The given kind, or the detected one for "auto": videos, vectors, or a layout of `reappear.data`.

    Raises:
        SettingsError: The kind is unknown.
        InputError: The files match several kinds, or none.
    """
    known = ("auto", VIDEOS, VECTORS, *READERS)
    if requested not in known:
        raise SettingsError(f"layout: {unknown_name('kind', requested, known)}")
    if requested != "auto":
        return requested
    if any(path.suffix.lower() == ".npy" for path in sources):
        progress.note(f"ingest: {sources[0]} is read as {VECTORS}: embeddings with their labels")
        return VECTORS
    if len(sources) != 1 or not sources[0].exists() or is_image_sequence(sources[0]):
        return VIDEOS
    kinds = _kinds(sources[0])
    if len(kinds) > 1:
        raise InputError(f"{sources[0]} matches several layouts: {', '.join(kinds)}; choose one: --layout {kinds[0]}")
    if not kinds:
        raise InputError(
            f"{sources[0]} has no videos ({' '.join(ENDINGS)}, MOTChallenge folders) and no recognised image set; "
            f"if it is one of `reappear data list`, give --layout"
        )
    if kinds[0] != VIDEOS:
        progress.note(f"ingest: {sources[0]} is read as {kinds[0]}: {READERS[kinds[0]].description}")
    return kinds[0]


def _kinds(path: Path) -> list[str]:
    layouts = recognise(path)
    if not path.is_dir():
        return layouts or [VIDEOS]
    if layouts and layouts != ["folder"]:
        # A recognised set may have ten million images: only its top folder is searched for videos.
        videos = any(child.suffix.lower() in ENDINGS for child in path.iterdir())
        return [*layouts, *([VIDEOS] if videos else [])]
    try:
        find_videos([path])
    except InputError:
        return layouts
    return [*layouts, VIDEOS]
